"""Studies whose runs are written by hand, in every state: nothing is searched, trained or attacked.

    python -m tests.sample_studies DIR     # a runs folder with studies in every state, to look at the pages
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

from engine.attack.protocol import Protocol
from engine.configuring import recorded
from engine.files import atomic_write_json
from engine.run.folder import RunFolder
from engine.run.state import identity
from engine.study import actions
from engine.study.declaration import Cell, Study
from engine.study.folder import StudyFolder
from engine.study.overview import cells_of
from engine.study.parsing import from_text
from engine.study.planning import CellState
from tests.sample_runs import (
    TEST_IMAGES,
    EventsFile,
    genotype_at,
    write_attack,
    write_checks,
    write_evaluation,
    write_exit,
    write_finished,
    write_genotype,
    write_json,
    write_network,
    write_outcomes,
    write_process,
)

QUESTION = "Does MGDA beat a fixed coefficient?"
TEXT = """\
question: {question}
dataset: digits
preset: quick
search_seeds: {seeds}
retrainings: {retrainings}
arms:
  - {{name: MGDA, method: arnas, attack: {{attacks: [fgsm, pgd-20], certify: false, sweep_radii: null}}}}
  - name: Fixed coefficient 0.5
    method: arnas
    search: {{weighting: fixed, fixed_natural_weight: 0.5}}
    attack: {{attacks: [fgsm, pgd-20], certify: false, sweep_radii: null}}
  - name: Hand-made network
    retrain: {{network: wide-resnet-10-1}}
    attack: {{attacks: [fgsm, pgd-20], certify: false, sweep_radii: null}}
contrasts: [[MGDA, Fixed coefficient 0.5], [MGDA, Hand-made network]]
"""
Share = Callable[[Cell], float]


def two_arms(question: str = QUESTION, seeds: int | list[int] = 2, retrainings: int = 1) -> Study:
    """Return a study of two searches and a hand-made network."""
    return from_text(TEXT.format(question=question, seeds=seeds, retrainings=retrainings))


def share(cell: Cell) -> float:
    """Return an accuracy that depends on the arm, the search seed and the retraining."""
    level = {"MGDA": 0.62, "Fixed coefficient 0.5": 0.55}.get(cell.arm, 0.6)
    return level + 0.02 * np.sin(7 * cell.search_seed + len(cell.arm)) + 0.006 * np.cos(3 * cell.index + cell.search_seed)


def finish(root: Path, study_id: str, which: Callable[[CellState], bool] = lambda state: True, value: Share = share) -> None:
    """Launch and finish all runs of the chosen cells, as the supervisor and its workers would."""
    while True:
        actions.advance(root, study_id)
        due = [(state, step) for state in cells_of(root, study_id) if which(state) for step in state.steps
               if step.run and step.status == "queued"]
        if not due:
            return
        for state, step in due:
            finish_run(root, step.run, state.cell, value)


def finish_run(root: Path, run: str, cell: Cell, value: Share = share) -> None:
    """Write everything that a run of a cell would have written; a run that is finished already stays as it is."""
    folder = RunFolder(root, run)
    if folder.exit_json.exists():
        return
    record = folder.read_run()
    events = EventsFile(folder.path, t=record["created"])
    if record["kind"] == "search":
        events.step = cell.search_seed % 4  # the first steps of one search, which differ in some edges
        write_genotype(events)
        write_json(folder.results / "genotype.json", genotype_at(events.step).to_dict())
    elif record["kind"] == "retrain":
        write_network(events, hand_made="WideResNet-10-1" if cell.arm == "Hand-made network" else "",
                      macs=1_200_000 if cell.arm == "MGDA" else 1_320_000)
    else:
        _attack(folder, events, cell, value)
    events.t += 60
    write_finished(folder.path, events)


def _attack(folder: RunFolder, events: EventsFile, cell: Cell, value: Share) -> None:
    config = recorded(folder.read_run())
    macs = 1_200_000 if cell.arm == "MGDA" else 1_320_000
    write_network(events, hand_made="WideResNet-10-1" if cell.arm == "Hand-made network" else "", macs=macs)
    write_evaluation(events, Protocol.of(config, classes=10, images=range(TEST_IMAGES), subset=range(TEST_IMAGES)),
                     f"{cell.arm}-{cell.search_seed}-{cell.index}")
    robust = round(TEST_IMAGES * value(cell))
    correct = {"natural": round(TEST_IMAGES * (0.95 + value(cell) / 30)), "fgsm": robust + 12, "pgd-20": robust}
    for attack, number in correct.items():
        write_attack(events, attack, attack, TEST_IMAGES, number)
    write_attack(events, "worst-case", "Worst case", TEST_IMAGES, robust)
    write_checks(events, natural_at_radius_0="passed", more_steps_are_not_weaker="passed")
    write_outcomes(folder.path, {attack: np.arange(TEST_IMAGES) < number for attack, number in correct.items()})


def run_one(root: Path, study_id: str, done: int = 12) -> str:
    """Launch what is due and let its first waiting run work in this process; return the id of this run."""
    actions.advance(root, study_id)
    run = next(step.run for state in cells_of(root, study_id) for step in state.steps if step.run and step.status == "queued")
    folder = RunFolder(root, run)
    events = EventsFile(folder.path, t=folder.read_run()["created"])
    events.write("progress", phase="search", done=done, total=40, unit="steps", passes=100, detail="")
    process = psutil.Process(os.getpid())
    write_process(folder.path, events, pid=process.pid, started=process.create_time())
    return run


def fail_one(root: Path, study_id: str, cause: str = "Out of memory.") -> str:
    """Launch what is due and let its first waiting run fail; return the id of this run."""
    actions.advance(root, study_id)
    run = next(step.run for state in cells_of(root, study_id) for step in state.steps if step.run and step.status == "queued")
    folder = RunFolder(root, run)
    write_exit(folder.path, EventsFile(folder.path, t=folder.read_run()["created"]), code=1, status="failed", cause=cause)
    return run


def fail_all(root: Path, study_id: str) -> None:
    """Let every waiting run fail until nothing is due."""
    while any(step.status == "queued" for state in cells_of(root, study_id) for step in state.steps) or (
            actions.advance(root, study_id)):
        fail_one(root, study_id)


def write_sample_studies(root: Path) -> dict[str, str]:
    """Write studies in every state, and return their ids by state. This process must be registered as the supervisor."""
    ids = {"finished": actions.launch(root, two_arms(seeds=5, retrainings=2))}
    finish(root, ids["finished"])
    actions.advance(root, ids["finished"])
    ids["demonstration"] = actions.launch(root, two_arms("Does a small study work?"))
    finish(root, ids["demonstration"])
    ids["running"] = actions.launch(root, two_arms("What does a running study look like?", seeds=[0, 20, 21, 22, 23, 24]))
    finish(root, ids["running"], lambda state: state.cell.search_seed < 21)
    run_one(root, ids["running"])
    ids["failed"] = actions.launch(root, two_arms("What does a failed study look like?", seeds=[0, 31]))
    fail_all(root, ids["failed"])
    ids["stopped"] = actions.launch(root, two_arms("What does a stopped study look like?", seeds=[0, 41, 42]))
    finish(root, ids["stopped"], lambda state: state.cell.search_seed == 41)
    actions.stop(root, ids["stopped"])
    ids["waiting"] = actions.launch(root, two_arms("What does a waiting study look like?", seeds=[50, 51]))
    assert set(ids.values()) == {StudyFolder(root, one).id for one in ids.values()}
    return ids


if __name__ == "__main__":
    folder = Path(sys.argv[1]).absolute()
    (folder / "control").mkdir(parents=True)
    atomic_write_json(folder / "control" / "supervisor.json", identity(os.getpid()))
    print(write_sample_studies(folder), flush=True)
    if "--hold" in sys.argv:  # keeps the pretended supervisor and worker alive while somebody looks
        input()
