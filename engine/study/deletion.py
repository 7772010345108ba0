"""The deletion of a study, with or without its runs. Imports no torch.

Several studies can use the same run. If a study is deleted with its runs, a run that another study uses is kept, and the other
study inherits it: from now on, the run counts as a run of that study, and is deleted when the last study that uses it is deleted
with its runs.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.acts import act, named
from engine.errors import RunError
from engine.report.words import plural_text
from engine.run.folder import RunFolder
from engine.run.state import compute
from engine.run.trash import needed_by_others
from engine.study.actions import users_of_runs
from engine.study.folder import StudyFolder
from engine.study.identity import Runs


@dataclass(frozen=True)
class Deletion:
    """A record of which runs of a deleted study were deleted and which were kept.

    Attributes:
        runs: number of runs that were deleted with the study.
        shared: ids of runs that were kept because other studies use them.
        users: ids of these other studies.
        foreign: ids of runs that were kept although no study uses them now, because they were launched by hand or for another
            study.
        needed: ids of runs that were kept because runs outside the study need them, for example an attack launched by hand.
        with_runs: True if the user wanted to delete the runs of the study.
    """

    runs: int
    shared: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()
    with_runs: bool = True

    @property
    def words(self) -> str:
        """The end of a sentence that begins "The study is deleted": what happens to its runs. Example: ", with 30 runs"."""
        if not self.with_runs:
            return "; its runs are kept"
        parts = [f", with {plural_text(self.runs, 'run')}"]
        if self.shared:
            users = " and ".join(self.users) if len(self.users) < 3 else f"{len(self.users)} other studies"
            parts.append(f"{plural_text(len(self.shared), 'shared run')} {_stay(self.shared)} for {users}, which "
                         f"{'uses' if len(self.users) == 1 else 'use'} {'it' if len(self.shared) == 1 else 'them'}")
        if self.foreign:
            parts.append(f"{plural_text(len(self.foreign), 'run')} {_stay(self.foreign)}, because "
                         f"{'it was' if len(self.foreign) == 1 else 'they were'} not launched for this study")
        if self.needed:
            parts.append(f"{plural_text(len(self.needed), 'run')} {_stay(self.needed)}, because other runs need "
                         f"{'it' if len(self.needed) == 1 else 'them'}; delete those first, then these with `rampart trash`")
        return "; ".join(parts)


def _stay(runs: tuple[str, ...]) -> str:
    return "stays" if len(runs) == 1 else "stay"


def own_runs(runs: Path | str, study_id: str, known: Runs | None = None) -> list[str]:
    """Return the ids of the runs that may be deleted with a study.

    They are the runs that were launched for the study, and the runs that were kept for it when other studies were deleted.
    """
    known = known or Runs(runs)
    launched = [run.id for run in known.of_study(study_id)]
    inherited = [run_id for run_id in StudyFolder(runs, study_id).inherited() if run_id in known]
    return list(dict.fromkeys((*launched, *inherited)))


@act("delete study", named("study_id"), "admin")
def delete(runs: Path | str, study_id: str, *, with_runs: bool) -> Deletion:
    """Delete a study, and return a record of its deleted and kept runs.

    Args:
        runs: folder of all runs.
        study_id: id of the study.
        with_runs: True to also delete the runs that were launched for the study, and the runs that were kept for it when other
            studies were deleted. A run is kept, however, if another study uses it or if a run outside the study needs it. Runs
            that another study uses are recorded for that study.

    Raises:
        RunError: there is no such study, or one of its own runs has not ended.
    """
    folder = StudyFolder(runs, study_id)
    folder.read()
    known = Runs(runs)
    own = own_runs(runs, study_id, known)
    if busy := [run_id for run_id in own if not compute(RunFolder(runs, run_id), with_parent=False).is_over]:
        raise RunError(f"A study can be deleted when none of its runs waits or runs, and {len(busy)} do, for example {busy[0]}; "
                       "stop the study first.")
    if not with_runs:
        folder.remove()
        return Deletion(0, with_runs=False)
    users = users_of_runs(runs, known)
    others = {run_id: users.get(run_id, set()) - {study_id} for run_id in {*own, *_used(users, study_id)}}
    _bequeath(runs, study_id, {run_id: others[run_id] for run_id in own})
    folder.remove()
    removed = [run_id for run_id in own if not others[run_id]]
    needed = needed_by_others(runs, removed)
    removed = [run_id for run_id in removed if run_id not in needed]
    for run_id in removed:
        shutil.rmtree(RunFolder(runs, run_id).path, ignore_errors=True)
    shared = sorted(run_id for run_id, studies in others.items() if studies)
    return Deletion(len(removed), tuple(shared), tuple(sorted({one for run_id in shared for one in others[run_id]})),
                    tuple(sorted(set(others) - set(shared) - set(own))), tuple(needed))


def _used(users: Mapping[str, set[str]], study_id: str) -> set[str]:
    """Return the ids of the runs that a study uses, from {run id: ids of the studies that use it}."""
    return {run_id for run_id, studies in users.items() if study_id in studies}


def _bequeath(runs: Path | str, study_id: str, others: Mapping[str, set[str]]) -> None:
    """Record for each other study which runs of the deleted study it uses, so that these runs are kept for it.

    Args:
        runs: folder of all runs.
        study_id: id of the study, which is about to be deleted.
        others: {id of a run: ids of the other studies that use it}.
    """
    for heir in sorted(set().union(*others.values())):
        StudyFolder(runs, heir).inherit(study_id, [run_id for run_id, studies in others.items() if heir in studies])
