"""Imports in the background. The chosen files are read one after another, each by a `rampart import` process of its own.

There are two reasons for separate processes. Reading a checkpoint requires torch, which the dashboard never loads, and a foreign
file may contain anything. Each process prints the id of the new run or an error message. The page polls the progress of the
imports.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath

from engine.acts import VARIABLE, actor
from engine.errors import first_line
from engine.run.leftovers import scratch_folder

ROOT = Path(__file__).resolve().parents[1]
_LOGGER = logging.getLogger(__name__)
LONGEST_S = 900.0
REFUSED = 2  # exit code of `rampart import` if it refuses the file with a message


@dataclass(frozen=True)
class Item:
    """One import, which creates one run.

    Attributes:
        name: the file name that the page shows.
        arguments: arguments of `rampart import`: the file, followed by flags.
        files: a pair (name, function that returns the content) for each uploaded file.
        identity: ids of the uploaded files or, for a file on this machine, its path, modification time and size.
    """

    name: str
    arguments: tuple[str, ...]
    files: tuple[tuple[str, Callable[[], bytes]], ...] = ()
    identity: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[object, ...]:
        """A key for recognising a repeated import: the identity of the file and the arguments of `rampart import`."""
        return self.identity, self.arguments


@dataclass(frozen=True)
class Outcome:
    """The result of importing one item.

    Attributes:
        item: the item.
        run: id of the new run, or "" if there is none.
        refusal: the reason why there is no new run, or "".
    """

    item: Item
    run: str = ""
    refusal: str = ""


@dataclass
class Imports:
    """The imports started by one click on the Import button. A thread runs the imports one after another.

    Attributes:
        runs: folder of all runs.
        items: the items to import, in order.
        outcomes: the results of the items that are done, in the order of `items`.
        started: value of `time.monotonic()` at the start of the current item.
    """

    runs: Path
    items: Sequence[Item]
    outcomes: list[Outcome] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    _process: subprocess.Popen[str] | None = None
    _stopped: bool = False

    def __post_init__(self) -> None:
        self._lock, self._by = threading.Lock(), actor().name
        # A daemon thread lets the server exit at once. The import process that is running still finishes its work.
        self._thread = threading.Thread(target=self._work, name="rampart-import", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """True while at least one item has no outcome yet."""
        return len(self.outcomes) < len(self.items)

    @property
    def current(self) -> Item | None:
        """The item being imported; None when all are done."""
        done = len(self.outcomes)
        return self.items[done] if done < len(self.items) else None

    def stop(self) -> None:
        """End the running process and skip the remaining items. Finished imports are kept."""
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
                outcome = Outcome(item, refusal=f"{item.name} could not be copied to a temporary folder "
                                                f"({problem.strerror or problem}); free some space, or import it by its path.")
            except Exception:  # noqa: BLE001 - if an item could end the thread, the page would wait forever
                _LOGGER.exception("The import of %s failed", item.name)
                outcome = Outcome(item, refusal=f"The import of {item.name} could not start; see the server's log for the cause.")
            self.outcomes.append(outcome)

    def _take(self, item: Item) -> Outcome:
        with scratch_folder("import") as folder:
            for name, read in item.files:
                (folder / name).write_bytes(read())
            with self._lock:
                if self._stopped:
                    return Outcome(item, refusal="Stopped before it was read.")
                # The command is stored in the run. Uploaded files are named relative to the temporary folder, so that the
                # folder does not appear in it. -P keeps Python from importing a file of that folder as a module.
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "engine", "import", *item.arguments], cwd=folder, text=True, errors="replace",
                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                    env=os.environ | {"PYTHONPATH": str(ROOT), "RAMPART_RUNS": str(self.runs), VARIABLE: self._by})
            try:
                output, errors = self._process.communicate(timeout=LONGEST_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.communicate()
                return Outcome(item, refusal=f"The import of {item.name} took more than {LONGEST_S / 60:.0f} minutes and was "
                                             "ended; run the command on this page in a terminal.")
            return self._outcome(item, self._process.returncode, output.strip(), errors.strip())

    def _outcome(self, item: Item, code: int, output: str, errors: str) -> Outcome:
        if code == 0:
            return Outcome(item, run=output)
        if self._stopped:
            return Outcome(item, refusal="Stopped; nothing was written.")
        if code == REFUSED and errors:
            return Outcome(item, refusal=errors)
        cause = first_line(errors.splitlines()[-1]) if errors else "without a message"
        return Outcome(item, refusal=f"The import of {item.name} ended with code {code} ({cause}); nothing was written. Free "
                                     "some memory, or run the command on this page in a terminal.")


def plain_name(name: str) -> str:
    """Return an uploaded file's name without any folders that the browser sent with it."""
    own = PureWindowsPath(PurePosixPath(name.replace("\0", "")).name).name
    return own if own not in ("", ".", "..") else "file"
