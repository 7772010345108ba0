"""Downloads of datasets, which a click on a button starts. Each download has its own process.

All browser tabs show the same progress.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import streamlit as st

from engine.acts import act, named
from engine.errors import first_line

ROOT = Path(__file__).resolve().parents[1]
REFUSED = 2  # exit code of `rampart dataset fetch` if it fails with a message for the user


@dataclass
class Fetch:
    """One run of `rampart dataset fetch`.

    Attributes:
        name: name of the dataset.
        what: current activity: the file that is downloaded, or "preparing".
        done: amount done, in bytes or, while preparing, in images.
        total: total amount.
        refusal: reason why the dataset could not be fetched, as a sentence; "" if there is none.
        over: True when the process has ended.
    """

    name: str
    what: str = ""
    done: int = 0
    total: int = 0
    refusal: str = ""
    over: bool = False
    _stopped: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "engine", "dataset", "fetch", self.name, "--progress"], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
            env=os.environ | {"PYTHONPATH": str(ROOT)})
        threading.Thread(target=self._follow, name="rampart-fetch", daemon=True).start()

    def stop(self) -> None:
        """End the process. The downloaded part is kept, and the next fetch continues from there."""
        self._stopped = True
        self._process.terminate()

    def _follow(self) -> None:
        """Update the progress from the output of the process until the process ends. Then set `refusal` and `over`."""
        for line in self._process.stdout or ():
            try:
                self.what, self.done, self.total = json.loads(line)
            except ValueError:
                continue  # the closing sentence
        errors = self._process.stderr.read().strip() if self._process.stderr else ""
        code = self._process.wait()
        if code and not self._stopped:
            cause = first_line(errors.splitlines()[-1]) if errors else "without a message"
            self.refusal = errors if code == REFUSED and errors else (
                f"Fetching {self.name} ended with code {code} ({cause}); run the command on this page in a terminal.")
        self.over = True


@act("fetch dataset", named("name"))
def fetch(runs: Path, name: str) -> None:
    """Start a process that fetches a dataset, and record this act in the audit log of the runs folder `runs`."""
    fetches()[name] = Fetch(name)


@st.cache_resource(show_spinner=False)
def fetches() -> dict[str, Fetch]:
    """Return {name of a dataset: the latest fetch of it that this server has started}."""
    return {}
