"""An overview of a study at one moment: its runs, its results and its answer, for pages and commands. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.log.runlog import RunLog, snapshot
from engine.study.answer import Answer, answer_of
from engine.study.declaration import Study
from engine.study.estimate import Durations, Estimate, estimate
from engine.study.folder import Extension, StudyFolder
from engine.study.planning import CellState, plan_of
from engine.study.results import Results, results_of

STATUSES = ("waiting", "running", "stopped", "failed", "finished")


@dataclass(frozen=True)
class Overview:
    """A study with its runs, its results and its answer.

    Attributes:
        study: the study, with the search seeds of its extensions.
        status: status of the study, one of `STATUSES`.
        results: results of the cells (repetitions of arms) that have finished.
        answer: the answer so far.
        left: an estimate of the time that the study still needs.
        extensions: requests to repeat the arms for more search seeds, oldest first.
    """

    study: Study
    status: str
    results: Results
    answer: Answer
    left: Estimate
    extensions: tuple[Extension, ...]


def cells_of(runs: Path | str, study_id: str) -> list[CellState]:
    """Return all cells (repetitions of arms) of a study, each with its runs.

    Raises:
        RunError: there is no such study, or it cannot be read.
    """
    return plan_of(runs, StudyFolder(runs, study_id).read()).cells


def status_of(folder: StudyFolder, cells: Sequence[CellState]) -> str:
    """Return the status of a study, one of `STATUSES`.

    A study has failed if some results are missing although no run is waiting or running. If runs of a complete study were
    deleted, the study counts as stopped, because the deleted runs are launched again only if the user resumes the study.
    """
    statuses = {cell.status for cell in cells}
    if statuses == {"finished"}:
        return "finished"
    if folder.is_stopped or folder.is_complete:
        return "stopped"
    if "running" in statuses:
        return "running"
    return "waiting" if "waiting" in statuses else "failed"


def overview_of(log: RunLog, study_id: str) -> Overview:
    """Return the overview of a study.

    Args:
        log: the run log of the runs folder.
        study_id: id of the study.

    Raises:
        RunError: there is no such study, or it cannot be read.
    """
    folder = StudyFolder(log.root, study_id)
    declared, extensions = folder.read(), tuple(folder.extensions())
    cells = plan_of(log.root, declared).cells
    results = results_of(log, declared, cells)
    return Overview(declared, status_of(folder, cells), results, answer_of(log, results, extensions),
                    estimate(declared, Durations(log.root), cells, log.root), extensions)


def read_overview(runs: Path, study_id: str) -> Overview:
    """Return the overview of a study. A run log is opened for this call and closed again.

    Raises:
        RunError: there is no such study, or it cannot be read.
    """
    with snapshot(runs) as log:
        return overview_of(log, study_id)
