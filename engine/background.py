"""The background process (supervisor) of a runs folder, which starts waiting runs and launches the runs of studies.

    python -m engine.background --runs DIR

The dashboard and the command line start this process when they need it. It can be killed at any moment. It never imports torch,
and imports the code of studies only if there is a study, because every import delays the start of a run.
"""

from __future__ import annotations

import time
from pathlib import Path

from engine.run import supervisor
from engine.run.folder import RunFolder
from engine.run.trouble import trouble_is_logged

EVERY_S = 5.0  # seconds between two looks at the studies if nothing has changed
# A look takes longer the more runs the studies have. The next one follows after this many times its CPU time, if nothing or if
# something has changed.
REST, SHORT_REST = 150, 10


class Studies:
    """The part of the background process that launches the runs of studies."""

    def __init__(self, runs: Path) -> None:
        """Prepare to launch runs of the studies in the runs folder `runs`."""
        self.runs = runs
        self._next = self._soonest = 0.0
        self._changed = False
        self._requests: list[tuple[str, int]] = []

    def tick(self, changed: bool) -> bool:
        """Launch runs of studies that are due, and return True if any was launched.

        The supervisor calls this at every tick. Most calls do nothing, because the studies are read only from time to time.

        Args:
            changed: True if a run has started or ended since the last call. Further runs may then be due.
        """
        requests, now = self._stamps(), time.monotonic()
        self._changed |= changed or requests != self._requests
        if now < (self._soonest if self._changed else self._next):
            return False
        self._requests, self._changed = requests, False
        launched, took = self._advance()
        # A study launches only some of its runs at a time.
        self._soonest, self._next = (0.0, 0.0) if launched else (now + SHORT_REST * took, now + max(EVERY_S, REST * took))
        return bool(launched)

    def _advance(self) -> tuple[int, float]:
        """Launch due runs of all studies.

        Returns:
            The number of runs that were launched.
            The CPU time that this took, in seconds, without imports.
        """
        if not any((self.runs / "studies").glob("*.json")):
            return 0, 0.0
        from engine.study.actions import advance
        from engine.study.folder import StudyFolder, study_ids
        from engine.study.identity import Runs

        before = time.process_time()
        folders = [StudyFolder(self.runs, one) for one in study_ids(self.runs)]
        active = [one.id for one in folders if not (one.is_stopped or one.is_complete)]
        known = Runs(self.runs) if active else None
        launched = 0
        for study_id in active:
            with trouble_is_logged(study_id):
                launched += advance(self.runs, study_id, known)
        return launched, time.process_time() - before

    def _stamps(self) -> list[tuple[str, int]]:
        """Return (name, modification time in ns) of the folder of studies and of each study's folder of requests."""
        folder = self.runs / "studies"
        if not folder.is_dir():
            return []
        return [(path.name, path.stat().st_mtime_ns) for path in (folder, *sorted(folder.iterdir())) if path.is_dir()]


def memory_on_gpu(folder: RunFolder) -> int:
    """Return the bytes that a run needs on a GPU, as measured before its launch; 0 if they were not measured."""
    from engine.preflight.forecast import device_memory  # only supervisors of shared GPUs need it

    return device_memory(folder)


def main(arguments: list[str] | None = None) -> None:
    """Start the background process, unless the runs folder already has one."""
    supervisor.main(arguments, lambda runs: Studies(runs).tick, memory_on_gpu)


if __name__ == "__main__":
    main()
