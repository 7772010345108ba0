"""Finished runs of studies, written in milliseconds: the runs are launched for real, and their results are files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from engine.attack.protocol import Protocol
from engine.configuring import recorded
from engine.run.folder import RunFolder
from engine.study.actions import advance
from engine.study.identity import Runs
from tests.sample_runs import (
    MACS,
    PARAMETERS,
    EventsFile,
    genotype_at,
    write_attack,
    write_evaluation,
    write_finished,
    write_json,
    write_network,
    write_outcomes,
)

IMAGES = 64
Accuracy = Callable[[str, int, int], int]  # (arm, search seed, index of the retraining) -> correct images of IMAGES


def finish(runs: Path, run_id: str, correct: int = 32, *, macs: int = MACS) -> None:
    """Write the results of a run that was launched: a genotype, a network, or accuracies on `IMAGES` images.

    Args:
        runs: folder of all runs.
        run_id: id of the run.
        correct: number of images that withstand the attacks, in an attack run.
        macs: MACs of the attacked network.
    """
    folder = RunFolder(runs, run_id)
    run = folder.read_run()
    events = EventsFile(folder.path, t=float(run["created"]))
    if run["kind"] == "search":
        write_json(folder.results / "genotype.json", genotype_at(10, int(run["config"]["seed"])).to_dict())
    if run["kind"] == "retrain":
        write_json(folder.results / "network.json", {"classes": 10, "image_shape": [1, 8, 8]})
        folder.checkpoint.mkdir(exist_ok=True)
        (folder.checkpoint / "best.pt").touch()
    if run["kind"] == "attack":
        write_network(events, parameters=PARAMETERS, macs=macs)
        protocol = Protocol.of(recorded(run), classes=10, images=range(IMAGES), subset=range(IMAGES))
        write_evaluation(events, protocol, f"weights of {run['parent']}")
        for attack, title, number in (("natural", "Natural", 60), ("fgsm", "FGSM", correct), ("pgd-20", "PGD-20", correct),
                                      ("worst-case", "Worst case", correct)):
            write_attack(events, attack, title, IMAGES, number)
        standing = {attack: np.arange(IMAGES) < number for attack, number in (("natural", 60), ("fgsm", correct),
                                                                              ("pgd-20", correct))}
        write_outcomes(folder.path, standing)
    events.t += 30.0
    write_finished(folder.path, events)


def finish_study(runs: Path, study_id: str, accuracy: Accuracy = lambda arm, seed, index: 32, *, most: int = 10_000) -> int:
    """Launch and finish the runs of a study until none is due, and return their number.

    Args:
        runs: folder of all runs.
        study_id: id of the study.
        accuracy: number of correct images of each cell.
        most: largest number of runs to finish.
    """
    finished: set[str] = set()
    while True:
        launched = advance(runs, study_id)
        due = [one for one in Runs(runs).of_study(study_id) if not (RunFolder(runs, one.id).exit_json).exists()]
        for one in due:
            if len(finished) >= most:
                return len(finished)
            membership = RunFolder(runs, one.id).read_run()["study"]
            finish(runs, one.id, accuracy(membership["arm"], membership["search_seed"], membership["index"]))
            finished.add(one.id)
        if not launched and not due:
            return len(finished)
