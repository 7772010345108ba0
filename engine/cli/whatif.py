"""The verb `whatif`, which swaps operations of a genotype and prints how its size and its inherited accuracy change."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from engine.architecture.cost import cost
from engine.architecture.swaps import read_swap, swapped
from engine.attack.statistics import accuracy_words
from engine.configuring import recorded
from engine.data.catalogue import DATASETS
from engine.report.words import count_text
from engine.requests import runs_root
from engine.run.folder import RunFolder
from engine.run.lineage import genotype_of
from engine.whatif.question import SPLIT, Question, answered


def whatif(search: str, genotype: str, swaps: Sequence[str], channels: int, layers: int, runs: Path | str | None,
           as_json: bool) -> int:
    """Print sizes and accuracies of a genotype before and after swaps of operations. Return the exit code.

    Args:
        search: id of the search whose weights are inherited.
        genotype: a catalogue name, a genotype as JSON, or the id of a run.
        swaps: changes of operations, as texts CELL.EDGE.OPERATION; if empty, only the genotype itself is measured.
        channels, layers: size of the networks whose parameters and MACs are printed.
        runs: folder of all runs; None for the default.
        as_json: True to print one JSON object.

    Raises:
        ConfigError: a swap has another form, or no network has this size.
        GenotypeError: there is no such edge or operation, or the search does not contain the architecture.
        RunError: the search or its checkpoint cannot be read, or the measurement failed.
    """
    root = runs_root(runs)
    before = genotype_of(root, genotype)
    after = swapped(before, map(read_swap, swaps))
    data = DATASETS[recorded(RunFolder(root, search).read_run()).dataset]
    shown = {"unchanged": before} | ({"changed": after} if swaps else {})
    sizes = {name: cost(one, channels=channels, layers=layers, classes=data.classes, image_shape=data.image_shape)
             for name, one in shown.items()}
    answer = answered(root, Question(search, tuple(shown.values())))
    counts = dict(zip(shown, answer.counts, strict=True))
    if as_json:
        print(json.dumps({"search": search, "split": SPLIT, "dataset": answer.dataset, "epsilon": answer.epsilon,
                          "pgd_steps": answer.steps, "inherited": True,
                          **{name: asdict(sizes[name]) | asdict(counts[name]) | {"genotype": one.to_dict()}
                             for name, one in shown.items()}}))
        return 0
    for name, one in counts.items():
        print(f"{name:<10} {count_text(sizes[name].parameters)} parameters, {count_text(sizes[name].macs)} MACs at {channels} "
              f"channels, {layers} cells\n           natural {accuracy_words(one.natural_correct, one.images)}\n"
              f"           PGD-{answer.steps} {accuracy_words(one.adversarial_correct, one.images)}")
    print(f"Accuracies with inherited weights, not a result: {SPLIT} split of {data.title}, nothing was trained.")
    print(after.to_json())
    return 0
