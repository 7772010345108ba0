"""Studies whose runs are written by hand, in every state: nothing is searched, trained or attacked.

    python -m tests.sample_studies DIR     # a runs folder with studies in every state, to look at the pages
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from engine.attack.protocol import Protocol
from engine.configuring import recorded
from engine.files import atomic_write_json
from engine.run.folder import RunFolder, read_json
from engine.run.state import identity
from engine.study import actions
from engine.study.declaration import Cell, Study
from engine.study.folder import StudyFolder
from engine.study.overview import cells_of
from engine.study.parsing import from_text
from engine.study.planning import CellState
from tests.sample_runs import (
    MACS,
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


@dataclass(frozen=True)
class Outcome:
    """What the runs of one cell measure.

    Attributes:
        correct: number of images that withstand all attacks.
        images: number of attacked images.
        natural: number of images that are classified correctly without an attack.
        macs: MACs of the network.
        hand_made: name of a network without cells; "" for a network with cells.
    """

    correct: int = 32
    images: int = 64
    natural: int = 60
    macs: int = MACS
    hand_made: str = ""


def two_arms(question: str = QUESTION, seeds: int | list[int] = 2, retrainings: int = 1) -> Study:
    """Return a study of two searches and a hand-made network."""
    return from_text(TEXT.format(question=question, seeds=seeds, retrainings=retrainings))


def share(cell: Cell) -> float:
    """Return an accuracy that depends on the arm, the search seed and the retraining."""
    level = {"MGDA": 0.62, "Fixed coefficient 0.5": 0.55}.get(cell.arm, 0.6)
    return level + 0.02 * np.sin(7 * cell.search_seed + len(cell.arm)) + 0.006 * np.cos(3 * cell.index + cell.search_seed)


def different(cell: Cell) -> Outcome:
    """Return an outcome that differs from cell to cell, as in a real study."""
    return Outcome(round(TEST_IMAGES * share(cell)), TEST_IMAGES, round(TEST_IMAGES * (0.95 + share(cell) / 30)),
                   1_200_000 if cell.arm == "MGDA" else 1_320_000, "WideResNet-10-1" if cell.arm == "Hand-made network" else "")


def finish(root: Path, study_id: str, which: Callable[[CellState], bool] = lambda state: True) -> None:
    """Launch and finish all runs of the chosen cells with outcomes that differ."""
    finish_study(root, study_id, different, which)


def finish_study(root: Path, study_id: str, outcome: Callable[[Cell], Outcome] = lambda cell: Outcome(),
                 which: Callable[[CellState], bool] = lambda state: True, *, most: int = 10_000) -> int:
    """Launch and finish the runs of a study, as the supervisor and its workers would, and return their number.

    Args:
        root: folder of all runs.
        study_id: id of the study.
        outcome: what the runs of a cell measure.
        which: which cells to finish.
        most: largest number of runs to finish.
    """
    finished = 0
    while True:
        actions.advance(root, study_id)
        due: dict[str, Cell] = {}
        for state in filter(which, cells_of(root, study_id)):
            for step in state.steps:
                if step.run and step.status == "queued":
                    due.setdefault(step.run, state.cell)
        for run, cell in list(due.items())[:most - finished]:
            finish_run(root, run, outcome(cell))
            finished += 1
        if not due or finished == most:
            return finished


def finish_run(root: Path, run: str, outcome: Outcome = Outcome(), *, start: float = 0, seconds: float = 60) -> None:
    """Write the results of a run that was launched.

    Args:
        root: folder of all runs.
        run: id of the run.
        outcome: what the run measures.
        start: start of the run, in seconds after its launch.
        seconds: duration of the run.
    """
    folder = RunFolder(root, run)
    record = folder.read_run()
    events = EventsFile(folder.path, t=record["created"])
    if record["kind"] == "search":
        events.step = int(record["config"]["seed"]) % 4  # the first steps of one search, which differ in some edges
        write_genotype(events)
        write_json(folder.results / "genotype.json", genotype_at(events.step).to_dict())
    else:
        write_network(events, macs=outcome.macs, hand_made=outcome.hand_made)
    if record["kind"] == "retrain":
        write_json(folder.results / "network.json", {"classes": 10, "image_shape": [1, 8, 8]})
        folder.checkpoint.mkdir(exist_ok=True)
        (folder.checkpoint / "best.pt").touch()
    if record["kind"] == "attack":
        _attack(folder, events, outcome)
    events.t = record["created"] + start + seconds
    write_finished(folder.path, events)
    process = read_json(folder.process_json) or {}
    write_json(folder.process_json, process | {"started": record["created"] + start})


def _attack(folder: RunFolder, events: EventsFile, outcome: Outcome) -> None:
    run, images = folder.read_run(), outcome.images
    write_evaluation(events, Protocol.of(recorded(run), classes=10, images=range(images), subset=range(images)),
                     f"weights of {run['parent']}")
    correct = {"natural": outcome.natural, "fgsm": outcome.correct + images // 30, "pgd-20": outcome.correct}
    titles = {"natural": "Natural", "fgsm": "FGSM", "pgd-20": "PGD-20", "worst-case": "Worst case"}
    for attack, number in (correct | {"worst-case": outcome.correct}).items():
        write_attack(events, attack, titles[attack], images, min(number, images))
    write_checks(events, natural_at_radius_0="passed", more_steps_are_not_weaker="passed")
    write_outcomes(folder.path, {attack: np.arange(images) < number for attack, number in correct.items()})


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
