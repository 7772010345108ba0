"""The background process (supervisor) of a runs folder, which starts waiting runs and launches the runs of studies.

    python -m engine.background --runs DIR

The dashboard and the command line start this process when they need it. It can be killed at any moment. It never imports torch,
and imports the code of studies only if there is a study, because every import delays the start of a run.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from engine.run.device import CPU_SLOTS
from engine.run.folder import RunFolder
from engine.run.supervision import take_lock
from engine.run.supervisor import IDLE_S, Supervisor
from engine.run.trouble import trouble_is_logged
from engine.run.waiting import changed as changed_at

if TYPE_CHECKING:
    from engine.study.identity import Runs

EVERY_S = 5.0  # seconds between two looks at the studies if nothing has changed
# A look takes longer the more runs the studies have. The next one follows after this many times its CPU time, if nothing or if
# something has changed.
REST, SHORT_REST = 500, 10
# CPU seconds in a tick, after which the rest of the studies waits for the next tick, so that the supervisor can watch its workers
PER_TICK_S = 0.5


class Studies:
    """The part of the background process that launches the runs of studies."""

    def __init__(self, runs: Path) -> None:
        """Prepare to launch runs of the studies in the runs folder `runs`."""
        self.runs = runs
        self._next = self._soonest = 0.0
        self._changed = False
        self._requests: list[tuple[str, int]] = []
        # the look at the studies: ids of those that are left, the runs, the number of launched runs, and the CPU seconds
        self._left: list[str] = []
        self._known: Runs | None = None
        self._launched, self._took = 0, 0.0

    def tick(self, changed: bool) -> bool:
        """Launch runs of studies that are due. Return True if any was launched, or if studies are left for the next tick.

        The supervisor calls this at every tick. Most calls do nothing, because the studies are read only from time to time.

        Args:
            changed: True if a run has started or ended since the last call. Further runs may then be due.
        """
        requests, now = self._stamps(), time.monotonic()
        self._changed |= changed or requests != self._requests
        if not self._left:
            if now < (self._soonest if self._changed else self._next):
                return False
            self._requests, self._changed = requests, False
            self._begin_look()
        launched = self._advance()
        if not self._left:
            self._known, now = None, time.monotonic()
            # A study launches only some of its runs at a time.
            self._soonest, self._next = (0.0, 0.0) if self._launched else (
                now + SHORT_REST * self._took, now + max(EVERY_S, REST * self._took))
        return bool(launched or self._left)

    def _begin_look(self) -> None:
        """List the studies whose runs may be due, and read all runs."""
        self._launched, self._took = 0, 0.0
        if not any((self.runs / "studies").glob("*.json")):
            return
        from engine.study.folder import StudyFolder, study_ids
        from engine.study.identity import Runs

        before = time.process_time()
        folders = [StudyFolder(self.runs, one) for one in study_ids(self.runs)]
        self._left = [one.id for one in reversed(folders) if not (one.is_stopped or one.is_complete)]
        self._known = Runs(self.runs) if self._left else None
        self._took = time.process_time() - before

    def _advance(self) -> int:
        """Launch due runs of the studies that are left, for `PER_TICK_S` of CPU time. Return the number of launched runs."""
        if not self._left:
            return 0
        from engine.study.actions import advance
        from engine.study.folder import StudyFolder

        launched, before = 0, time.process_time()
        while self._left:
            study_id = self._left.pop()
            with trouble_is_logged(study_id):
                if StudyFolder(self.runs, study_id).exists():
                    launched += advance(self.runs, study_id, self._known)
            if time.process_time() - before > PER_TICK_S:
                break
        self._launched, self._took = self._launched + launched, self._took + time.process_time() - before
        return launched

    def _stamps(self) -> list[tuple[str, int]]:
        """Return (path, modification time in ns) of the folder of studies and of each study's folder of requests."""
        folder = f"{self.runs}/studies"
        try:
            with os.scandir(folder) as entries:  # tells folders from files without a `stat` of each
                paths = [folder, *sorted(entry.path for entry in entries if entry.is_dir())]
        except FileNotFoundError:
            return []
        return [(path, changed_at(path)) for path in paths]


def memory_on_gpu(folder: RunFolder) -> int:
    """Return the bytes that a run needs on a GPU, as measured before its launch; 0 if they were not measured."""
    from engine.preflight.forecast import device_memory  # only supervisors of shared GPUs need it

    return device_memory(folder)


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line of the supervisor process, and run a supervisor unless the runs folder already has one.

    Args:
        arguments: words of the command line; None for the arguments of this process.
    """
    parser = argparse.ArgumentParser(prog="python -m engine.background", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=Path, required=True, help="folder of all runs")
    parser.add_argument("--cpu-slots", type=int, default=int(os.environ.get("RAMPART_CPU_SLOTS", CPU_SLOTS)),
                        help="number of runs at a time on the CPU")
    parser.add_argument("--idle", type=float, default=IDLE_S, help="exit after this many seconds with nothing to do")
    options = parser.parse_args(arguments)
    runs = options.runs.absolute()
    (runs / "control").mkdir(parents=True, exist_ok=True)
    while (runs / "control").is_dir() and (lock := take_lock(runs)) is not None:
        Supervisor(runs, lock=lock, cpu_slots=options.cpu_slots, idle_s=options.idle, after_tick=Studies(runs).tick,
                   memory_of=memory_on_gpu).run()
        if lock.is_in_place():
            return
        lock.close()  # the runs folder has been replaced: begin again on the new one


if __name__ == "__main__":
    main()
