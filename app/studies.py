"""A cache of the studies in the runs folder, which all pages and browser tabs share."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

from app.formats import missing
from engine.errors import RampartError
from engine.log import RunLog
from engine.study.declaration import Study
from engine.study.estimate import Durations, Estimate, estimate
from engine.study.folder import StudyFolder, study_ids
from engine.study.identity import Runs
from engine.study.overview import Overview, overview_of, status_of
from engine.study.parsing import ENTRIES, exported
from engine.study.planning import CellState, Plan
from engine.study.power import Power, power_of, spread_of

ACTIVE = ("waiting", "running")  # statuses of a study whose runs will go on
FRESH_S = 0.5  # seconds for which the table of runs is used again, because several panels ask for it at the same time
PROGRESS_STEPS = 20  # a page redraws the progress of a run in steps of 5 %

Stamps = tuple[tuple[str, int], ...]
Statuses = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Planned:
    """A study with its runs, without their results.

    Attributes:
        study: the study, with the search seeds of its extensions.
        status: status of the study.
        cells: all cells (repetitions of arms) with their runs.
        stamps: names and modification times of the study's files.
    """

    study: Study
    status: str
    cells: tuple[CellState, ...]
    stamps: Stamps


@dataclass(frozen=True)
class Outlook:
    """The cost of a study before its launch, and the smallest difference that it can detect.

    Attributes:
        study: the study.
        time: duration of the study on this machine.
        power: the smallest difference that the study can detect; None if it does not compare arms in pairs.
    """

    study: Study
    time: Estimate
    power: Power | None


class Studies:
    """The studies of one runs folder, cached until a run starts or ends or a file of a study changes."""

    def __init__(self, log: RunLog) -> None:
        """Create an object for the studies in the runs folder of a run log."""
        self.log = log
        self.root = Path(log.root)
        self._lock, self._timing = threading.RLock(), threading.Lock()  # the second for durations alone
        self._known: tuple[Statuses, Runs] | None = None
        self._plans: dict[str, tuple[object, Planned]] = {}
        self._overviews: dict[str, tuple[object, Overview]] = {}
        self._left: dict[str, tuple[object, Estimate]] = {}
        self._durations: tuple[object, Durations] | None = None
        self._table: tuple[float, pd.DataFrame] | None = None
        self._statuses: tuple[float, Statuses] | None = None

    def ids(self) -> list[str]:
        """Return the ids of all studies, newest first."""
        return study_ids(self.root)[::-1]

    def runs(self) -> pd.DataFrame:
        """Return the table of all runs (`RunLog.runs`), read at most `FRESH_S` seconds ago. The caller must not change it."""
        with self._lock:
            if self._table is None or time.monotonic() - self._table[0] > FRESH_S:
                self._table = (time.monotonic(), self.log.runs())
            return self._table[1]

    def statuses(self) -> Statuses:
        """Return (id, status) of every run, newest first, read at most `FRESH_S` seconds ago."""
        with self._lock:
            if self._statuses is None or time.monotonic() - self._statuses[0] > FRESH_S:
                self._statuses = (time.monotonic(), tuple(self.log.statuses().items()))
            return self._statuses[1]

    def refresh(self) -> None:
        """Make the next call of `runs` and `statuses` read the runs again. Call this after a request that changes runs."""
        with self._lock:
            self._table = self._statuses = None

    def stamps(self) -> tuple[Stamps, ...]:
        """Return values that change whenever a file of any study changes."""
        return tuple(stamps_of(StudyFolder(self.root, one)) for one in self.ids())

    def planned(self, study_id: str) -> Planned:
        """Return a study with its runs.

        Raises:
            RampartError: there is no such study, or this version cannot read it.
        """
        return self._planned(study_id, self.statuses())

    def overview(self, study_id: str) -> Overview:
        """Return the overview of a study: its runs, its results and its answer.

        Raises:
            RampartError: there is no such study, or it cannot be read, or one of its results cannot be read.
        """
        with self._lock:
            planned = self.planned(study_id)
            key = (planned.stamps, planned.cells)
            known = self._overviews.get(study_id)
            if known is None or known[0] != key:
                self.log.ingest()  # a run that has ended has written all its events, and these are read before its results
                known = self._overviews[study_id] = (key, overview_of(self.log, study_id))
            return known[1]

    def left(self, overview: Overview) -> Estimate:
        """Return how much longer a study takes. The estimate takes the current progress of its runs into account."""
        with self._lock:
            cells, study_id = overview.results.cells, overview.study.id
            key = (cells, self._steps_done(cells))
            known = self._left.get(study_id)
            if known is None or known[0] != key:
                known = self._left[study_id] = (key, estimate(overview.study, self.durations(), cells, self.root))
            return known[1]

    def outlook(self, study: Study) -> Outlook:
        """Return the cost of a study that has not been launched, and the smallest difference that it can detect."""
        return Outlook(study, estimate(study, self.durations()), power_of(study, spread_of(study, (
            one.results for one in self.all() if isinstance(one, Overview)))))

    def all(self) -> list[Overview | str]:
        """Return the overviews of all studies, newest first. If a study cannot be read, its entry is a sentence that says why."""
        everything = [self._overview_or_problem(study_id) for study_id in self.ids()]
        return sorted(everything, key=lambda one: one.study.created if isinstance(one, Overview) else 0.0, reverse=True)

    def durations(self) -> Durations:
        """Return the durations of the finished runs. Does not wait for a study that is being computed."""
        with self._timing:
            key = tuple(run for run, status in self.log.statuses().items() if status == "finished")
            if self._durations is None or self._durations[0] != key:
                self._durations = (key, Durations(self.root))
            return self._durations[1]

    def facts(self, study_id: str = "") -> list[object]:
        """Return values that change whenever the contents of a page change. The page is shown again when they change.

        Args:
            study_id: id of the study that the page shows; "" for the list of all studies, which does not show the progress of
                runs.
        """
        statuses = self.statuses()
        if not study_id:
            return [fact for one in self.ids() for fact in self._facts(one, statuses)]
        facts = self._facts(study_id, statuses)
        planned = self._plans.get(study_id)
        return [*facts, self._steps_done(planned[1].cells)] if planned else facts

    def is_active(self) -> bool:
        """Return True if any study is waiting or running."""
        statuses = self.statuses()
        for study_id in self.ids():
            folder = StudyFolder(self.root, study_id)
            if not (folder.is_stopped or folder.is_complete):
                try:
                    if self._planned(study_id, statuses).status in ACTIVE:
                        return True
                except RampartError:
                    continue  # a damaged study launches nothing
        return False

    def _planned(self, study_id: str, statuses: Statuses) -> Planned:
        with self._lock:
            folder = StudyFolder(self.root, study_id)
            key = (stamps_of(folder), statuses)
            known = self._plans.get(study_id)
            if known is None or known[0] != key:
                study = folder.read()
                cells = tuple(Plan(study, self._identities(statuses)).cells)
                known = self._plans[study_id] = (key, Planned(study, status_of(folder, cells), cells, key[0]))
            return known[1]

    def _identities(self, statuses: Statuses) -> Runs:
        if self._known is None or self._known[0] != statuses:
            self._known = (statuses, Runs(self.root))
        return self._known[1]

    def _overview_or_problem(self, study_id: str) -> Overview | str:
        try:
            return self.overview(study_id)
        except RampartError as error:
            return f"{study_id}: {error}"

    def _facts(self, study_id: str, statuses: Statuses) -> list[object]:
        try:
            planned = self._planned(study_id, statuses)
        except RampartError as error:
            return [study_id, str(error)]
        return [planned.stamps, planned.status, hash(planned.cells)]

    def _steps_done(self, cells: Sequence[CellState]) -> tuple[int, ...]:
        """Return the progress of each running run of a study as a number of steps, from 0 to `PROGRESS_STEPS`."""
        running = sorted({step.run for cell in cells for step in cell.steps if step.status == "running" and step.run})
        return tuple(steps_done(self.log.progress(run).get("fraction")) for run in running)


def stamps_of(folder: StudyFolder) -> Stamps:
    """Return the name and the modification time of every file of a study. A file that is deleted meanwhile is left out."""
    stamps = []
    for path in (folder.file, *sorted(folder.requests.glob("*"))):
        try:
            stamps.append((path.name, path.stat().st_mtime_ns))
        except OSError:
            continue
    return tuple(stamps)


def steps_done(progress: float | None) -> int:
    """Return the progress of a run (0..1) as a number of steps, from 0 to `PROGRESS_STEPS`; 0 if it is unknown."""
    return 0 if missing(progress) else int(progress * PROGRESS_STEPS)


def as_text(study: Study, leave_out: Sequence[str] = ()) -> str:
    """Return a study as the text of a YAML file, which a user can edit and launch.

    Args:
        study: the study.
        leave_out: names of entries to leave out.
    """
    record = exported(study)
    if study.search_seeds == tuple(range(len(study.search_seeds))):
        record["search_seeds"] = len(study.search_seeds)
    ordered = {name: plain(record[name]) for name in ENTRIES if name in record and name not in leave_out}
    return str(yaml.safe_dump(ordered, sort_keys=False, allow_unicode=True, width=100, default_flow_style=None))


def plain(value: object) -> object:
    """Return a value in the form in which YAML shows it best.

    Tuples become lists, and the texts "true" and "false" become booleans.
    """
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if value in ("true", "false"):  # the values of settings in a file are read as texts
        return value == "true"
    return [plain(one) for one in value] if isinstance(value, (list, tuple)) else value
