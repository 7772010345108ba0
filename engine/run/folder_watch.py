"""A cheap check of which runs have changed. It compares the times and sizes of their files, for some runs at a time.

The check of one run takes two to four `stat` calls, up to 10 microseconds. It works on every file system, even on network
folders, for which the operating system reports no changes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from engine.run.folder import run_ids

AT_ONCE = 250
# A file that has changed within this time may change again without a new modification time, because clocks of file systems are
# coarse. Such a file counts as changed once more at the next look.
COARSE_NS = 20_000_000
FILES = ("", "/control", "/events.jsonl", "/log.txt")

Stamp = tuple[int, ...]
_FRESH = -1  # in place of the time of a file that may change again without a new time


class FolderWatch:
    """A watch of a runs folder. It remembers the times and sizes of the runs' files, and `look` returns the changed runs."""

    def __init__(self, root: Path, files: Sequence[str] = FILES, *, coarse_ns: int = COARSE_NS, at_once: int = AT_ONCE) -> None:
        """Create a watch of the runs folder `root`. All runs count as new at the first look.

        Args:
            root: folder of all runs.
            files: files and folders to compare in each run, as the rest of the path after the run's folder: "/log.txt" for a file
                in it, "" for the folder itself.
            coarse_ns: number of nanoseconds within which a file may change twice without a new modification time.
            at_once: number of runs that one call of `look` checks, in addition to those named by the caller.
        """
        self.root = root
        self._files, self._coarse_ns, self._at_once = files, coarse_ns, at_once
        self._stamps: dict[str, Stamp] = {}
        self._names: list[str] = []
        self._listed: Stamp = ()
        self._next = 0

    def look(self, at_least: Collection[str] = (), *, everything: bool = False) -> set[str]:
        """Return the ids of the runs that are new, have changed, or no longer exist.

        Args:
            at_least: ids of runs to check for changes now. Of the other runs, each call checks only the next few in turn (as many
                as the constructor's `at_once`). New and deleted runs are found in every call.
            everything: True to check all runs.
        """
        changed = self._list_again()
        for name in {*at_least, *(self._names if everything else self._slice())}:
            if name in self._stamps and ((stamp := self._stamp(name)) != self._stamps[name] or _FRESH in stamp):
                changed.add(name)
                self._stamps[name] = stamp
        return changed

    def _list_again(self) -> set[str]:
        """List the runs folder if it has changed, and return the ids of the runs that are new or no longer exist."""
        listed = self._times(str(self.root))
        if listed == self._listed and _FRESH not in listed:
            return set()
        self._listed = listed
        names = run_ids(self.root)
        if names == self._names:
            return set()
        self._names = names
        gone = self._stamps.keys() - names
        for name in gone:
            del self._stamps[name]
        new = set(names) - self._stamps.keys()
        self._stamps |= {name: self._stamp(name) for name in new}
        return gone | new

    def _slice(self) -> list[str]:
        start = self._next if self._next < len(self._names) else 0
        self._next = start + self._at_once
        return self._names[start:self._next]

    def _stamp(self, name: str) -> Stamp:
        """Return a tuple that changes whenever a watched file of a run changes, or a watched folder gains or loses an entry."""
        folder = f"{self.root}/{name}"
        return tuple(number for file in self._files for number in self._times(folder + file))

    def _times(self, path: str) -> Stamp:
        """Return the modification time and the size of a file or folder, or (0, 0) if it does not exist.

        If the file may change again without a new time, the first number is `_FRESH`.
        """
        before = time.time_ns()  # a busy machine may hold this process up between any two of these lines
        try:
            status = os.stat(path)
        except OSError:
            return 0, 0
        fresh = before - self._coarse_ns < status.st_mtime_ns < time.time_ns() + self._coarse_ns
        return (_FRESH if fresh else status.st_mtime_ns), status.st_size
