"""Imports at work: the files of one click, taken one after the other by `rampart import`, each in its own process.

A checkpoint needs torch, which the dashboard never loads, and a file of strangers may be anything: so it is read elsewhere.
A process ends with the id of a run or with a sentence, and leaves nothing half-written either way.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath

ROOT = Path(__file__).resolve().parents[1]
_LOGGER = logging.getLogger(__name__)
REFUSED = 2  # exit code of a request that was answered with a sentence


@dataclass(frozen=True)
class Item:
    """One run to be made.

    Attributes:
        name: the file as the page calls it.
        arguments: what stands behind `rampart import`: the file first, then flags.
        files: (name, reader of its content) of uploaded files, which are put into a folder that lives as long as the process.
        identity: tells this import from every other: which upload, or which path.
    """

    name: str
    arguments: tuple[str, ...]
    files: tuple[tuple[str, Callable[[], bytes]], ...] = ()
    identity: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[object, ...]:
        """The same for the same file with the same answers to what the page asks."""
        return self.identity, self.arguments


@dataclass(frozen=True)
class Outcome:
    """What became of an item: the id of its run, or why there is none."""

    item: Item
    run: str = ""
    refusal: str = ""


@dataclass
class Imports:
    """The imports of one click. A thread works on them; the page looks.

    Attributes:
        runs: folder of all runs.
        items: what was asked for.
        outcomes: of the items so far, in their order.
        started: when the present item was begun, `time.monotonic()`.
    """

    runs: Path
    items: Sequence[Item]
    outcomes: list[Outcome] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    _process: subprocess.Popen[str] | None = None
    _stopped: bool = False

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        # A daemon: a server that ends waits for nobody; the process at work still finishes its run.
        self._thread = threading.Thread(target=self._work, name="rampart-import", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """False once every item has its outcome."""
        return len(self.outcomes) < len(self.items)

    @property
    def current(self) -> Item | None:
        """The item at work, None at the end."""
        done = len(self.outcomes)
        return self.items[done] if done < len(self.items) else None

    def stop(self) -> None:
        """Ends the process at work and leaves out what comes behind it; what is done stays."""
        with self._lock:
            self._stopped = True
            if self._process is not None and self._process.poll() is None:
                self._process.terminate()

    def _work(self) -> None:
        for item in self.items:
            self.started = time.monotonic()
            try:
                outcome = self._take(item)
            except OSError as problem:
                outcome = Outcome(item, refusal=f"{item.name} could not be put aside for reading "
                                                f"({problem.strerror or problem}); free some space, or give its path.")
            except Exception:  # noqa: BLE001 - the page would wait for good if one item could end the thread
                _LOGGER.exception("The import of %s", item.name)
                outcome = Outcome(item, refusal=f"The import of {item.name} could not be started; the server's log says why.")
            self.outcomes.append(outcome)

    def _take(self, item: Item) -> Outcome:
        folder = Path(tempfile.mkdtemp(prefix="rampart-import-"))
        try:
            for name, read in item.files:
                (folder / name).write_bytes(read())
            with self._lock:
                if self._stopped:
                    return Outcome(item, refusal="Stopped before it was read.")
                # Uploaded files are named as they were, so that the run's command holds no folder that will be gone. -P: a
                # file of that folder must never be taken for a module.
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "engine", "import", *item.arguments], cwd=folder, text=True, errors="replace",
                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                    env=os.environ | {"PYTHONPATH": str(ROOT), "RAMPART_RUNS": str(self.runs)})
            said, complaint = self._process.communicate()
            return self._outcome(item, self._process.returncode, said.strip(), complaint.strip())
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _outcome(self, item: Item, code: int, said: str, complaint: str) -> Outcome:
        if code == 0:
            return Outcome(item, run=said)
        if self._stopped:
            return Outcome(item, refusal="Stopped; nothing of it was kept.")
        if code == REFUSED and complaint:
            return Outcome(item, refusal=complaint)
        last = complaint.splitlines()[-1] if complaint else "it said nothing"
        return Outcome(item, refusal=f"The import of {item.name} ended with code {code} ({last}); nothing was written. Free some "
                                     "memory, or try the command below in a terminal.")


def plain_name(name: str) -> str:
    """An uploaded file's own name, without any folder a browser may have sent with it."""
    own = PureWindowsPath(PurePosixPath(name.replace("\0", "")).name).name
    return own if own not in ("", ".", "..") else "file"
