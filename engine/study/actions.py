"""Actions on studies for the dashboard and the command line: launch, stop, resume and extend. Imports no torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from engine import requests
from engine.acts import act, named, returned, unrecorded
from engine.errors import ConfigError, GenotypeError, RampartError, RunError
from engine.run import admission, provenance
from engine.run.bulk import Outcome, done_runs
from engine.run.folder import RunFolder, new_id
from engine.run.state import compute, ended_from_outside
from engine.run.trash import put
from engine.study.declaration import Study, kind_of
from engine.study.folder import StudyFolder, study_ids
from engine.study.identity import Runs
from engine.study.parsing import MOST_SEEDS, check_size, checked
from engine.study.planning import Plan, plan_of

# The supervisor launches at most this many runs of a study at a time, so that it can watch its workers in between.
MOST_AT_ONCE = 20
# A run of a study whose worker keeps being killed is not resumed after this many attempts.
MOST_ATTEMPTS = 3


@act("launch study", returned)
def launch(runs: Path | str, study: Study) -> str:
    """Write a new study, and return its id. The supervisor, a background process, then launches the runs of the study.

    Raises:
        ConfigError: the study is not valid, or a setting is not allowed.
        DataError: a dataset is missing.
        RunError: the disk is full, or the folder cannot be written.
    """
    root = Path(runs).absolute()
    settled = admitted(study)
    for arm in settled.arms:
        for config in settled.configurations(arm).values():
            admission.check_present(config)
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise RunError(f"The runs folder must be a writable folder, {root} is not ({problem.strerror}); choose another one "
                       "(--runs DIR).") from None
    admission.check_disk(root)
    created = time.time()
    study_id = new_id(study.recipe or "study", study.dataset, created)
    launched = replace(settled, id=study_id, created=created, numerics=provenance.numerics())
    StudyFolder(root, study_id).write(launched)
    requests.ensure_supervisor(root)
    return study_id


def admitted(study: Study) -> Study:
    """Check everything about a study that does not depend on this machine. Return the study with all settings of its arms.

    Raises:
        ConfigError: the study is not valid, a setting is not allowed, or an arm names a genotype that does not exist.
    """
    settled = checked(study).settled()
    for arm in settled.arms:
        for step, config in settled.configurations(arm).items():
            try:
                admission.check_config(kind_of(step), config)
            except (ConfigError, GenotypeError) as refusal:
                raise ConfigError(f"Arm {arm.name}: {refusal}") from None
    return settled


@unrecorded
def advance(runs: Path, study_id: str, known: Runs | None = None) -> int:
    """Launch at most `MOST_AT_ONCE` due runs of a study, and return how many were launched. The supervisor calls this.

    Runs that failed because their worker was killed or the machine restarted are resumed, up to `MOST_ATTEMPTS` attempts.

    A study that is stopped or complete launches nothing. When all its runs have finished, the study is marked as complete.

    Raises:
        RunError: the study cannot be read, or a run cannot be written.
    """
    folder = StudyFolder(runs, study_id)
    if folder.is_stopped or folder.is_complete:
        return 0
    plan = Plan(folder.read(), known or Runs(runs))
    _revive(runs, plan)
    launched = plan.launch(MOST_AT_ONCE, {seed: one.at for one in folder.extensions() for seed in one.seeds})
    if not launched and all(cell.status == "finished" for cell in plan.cells):
        folder.mark("complete")
    return len(launched)


def _revive(runs: Path, plan: Plan) -> None:
    """Resume the runs of a study that failed because their worker was killed or the machine restarted."""
    ended = {step.run for cell in plan.cells for step in cell.steps
             if step.status == "failed" and not step.reused and ended_from_outside(step.cause)}
    for run_id in ended:
        state = compute(RunFolder(runs, run_id), with_parent=False)
        if state.can_resume and state.attempt < MOST_ATTEMPTS:
            _without_race(requests.resume, runs, run_id)


@act("stop study", named("study_id"))
def stop(runs: Path | str, study_id: str) -> bool:
    """Stop a study: no further runs are launched for it, and its own runs that have not ended are asked to stop.

    Returns:
        True if the study or one of its runs was asked to stop; False if all of them had been asked before.

    Raises:
        RunError: there is no such study, all its runs have finished, or the request cannot be written.
    """
    folder = StudyFolder(runs, study_id)
    study = folder.read()
    if all(cell.status == "finished" for cell in plan_of(runs, study).cells):
        raise RunError(f"Only a study with unfinished cells can be stopped, {study_id} is finished; nothing to do.")
    changed = not folder.is_stopped
    if changed:
        folder.mark("stop")
    for known in reversed(Runs(runs).of_study(study.id)):  # the last run of a chain first, so that none starts in between
        state = compute(RunFolder(runs, known.id), with_parent=False)
        if state.can_stop and state.status != "stopping":
            changed = True
            _without_race(requests.request_stop, runs, known.id)
    return changed


@act("resume study", named("study_id"))
def resume(runs: Path | str, study_id: str) -> int:
    """Continue a stopped study and try its failed runs again. Return the number of runs that continue.

    Raises:
        RunError: there is no such study, or it is the example.
    """
    folder = StudyFolder(runs, study_id)
    study = folder.read()
    _check_own(study, "continued")
    folder.clear("stop")
    folder.clear("complete")
    again = [known.id for known in Runs(runs).of_study(study.id)
             if compute(RunFolder(runs, known.id), with_parent=False).can_resume]
    for run_id in again:
        _without_race(requests.resume, runs, run_id)
    requests.ensure_supervisor(runs)
    return len(again)


@act("extend study", named("study_id"))
def extend(runs: Path | str, study_id: str, seeds: int | Sequence[int]) -> tuple[int, ...]:
    """Repeat every arm of a study for more search seeds, and return these seeds.

    The record of the extension says whether results of the study were already known.

    Args:
        runs: folder of all runs.
        study_id: id of the study.
        seeds: the new seeds, or their number. A number n stands for the n seeds after the largest one so far.

    Raises:
        RunError: there is no such study, it is the example, a seed is not valid or belongs to the study already, or the study
            would have too many seeds or runs.
    """
    folder = StudyFolder(runs, study_id)
    study = folder.read()
    _check_own(study, "extended")
    if isinstance(seeds, int):
        if seeds < 1:
            raise RunError(f"An extension needs 1 or more search seeds, got {seeds}; give a larger number.")
        first = max(study.search_seeds) + 1
        seeds = range(first, first + min(seeds, MOST_SEEDS + 1))
    total = len(dict.fromkeys((*study.search_seeds, *seeds)))
    if total > MOST_SEEDS:
        raise RunError(f"A study can have at most {MOST_SEEDS} search seeds. This one has {len(study.search_seeds)}, so at most "
                       f"{MOST_SEEDS - len(study.search_seeds)} can be added.")
    try:
        check_size(replace(study, search_seeds=tuple(dict.fromkeys((*study.search_seeds, *seeds)))))
    except ConfigError as refusal:
        raise RunError(str(refusal)) from None
    looked = any(cell.status == "finished" for cell in plan_of(runs, study).cells)
    folder.extend(tuple(seeds), looked)
    requests.ensure_supervisor(runs)
    return tuple(seeds)


def users_of_runs(runs: Path | str, known: Runs | None = None) -> dict[str, set[str]]:
    """Return {run id: ids of the studies that use the run}. Studies that cannot be read are ignored."""
    ids = study_ids(runs)
    known = known or Runs(runs) if ids else None
    users: dict[str, set[str]] = {}
    for study_id in ids:
        try:
            cells = Plan(StudyFolder(runs, study_id).read(), known).cells if known else []
        except RampartError:
            continue
        for run_id in {step.run for cell in cells for step in cell.steps if step.run}:
            users.setdefault(run_id, set()).add(study_id)
    return users


@act("trash", done_runs)
def trash(runs: Path | str, ids: Sequence[str], *, with_dependents: bool = False) -> list[Outcome]:
    """Move runs to the trash, and return one outcome per run. Runs that a study uses are not moved.

    Args:
        runs: folder of all runs.
        ids: ids of the runs.
        with_dependents: True to also move all runs that need the given ones. If False, a run that others need is not moved.
    """
    kept = {run_id: f"The study {min(studies)} uses {run_id}; archive the run, or delete the study first."
            for run_id, studies in users_of_runs(runs).items()}
    return put(runs, ids, with_dependents=with_dependents, kept=kept)


def _check_own(study: Study, what: str) -> None:
    """Raise RunError if a study is the example. Its runs come from another machine and have no network weights."""
    if study.example:
        raise RunError(f"The example study cannot be {what}, because its runs were made on another machine and came without "
                       "their networks. Launch a study of your own with the same arms: Duplicate and edit on its page, or "
                       f"`rampart study new {study.recipe or 'FILE'}`.")


def _without_race(request: Callable[[Path | str, str], None], runs: Path | str, run_id: str) -> None:
    """Call `request` for a run. Ignore a RunError, because it means that the run has ended or been deleted in the meantime."""
    try:
        request(runs, run_id)
    except RunError:
        return

