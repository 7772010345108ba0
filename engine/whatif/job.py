"""A process that measures architectures with the weights of a search, and prints the counts after each batch of images.

    python -m engine.whatif.job < REQUEST

Each line is a JSON object with the fields of an `Answer`, over all images so far. After the time limit, no further batch is
begun, so a slow machine gives a wider interval instead of a long wait. A refusal is the object {"problem": sentence}.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path

import psutil
import torch

from engine.architecture.genotype import Genotype
from engine.config import SearchConfig
from engine.configuring import recorded
from engine.data.augmentation import generator_for
from engine.data.catalogue import DATASETS
from engine.data.loading import load_split
from engine.data.splits import splits_of
from engine.errors import RampartError
from engine.run import device, environment
from engine.run.folder import RunFolder
from engine.run.trained_supernet import trained_supernet
from engine.search.inherited import inherited_accuracy
from engine.whatif.question import MOST_IMAGES, SPLIT, STEPS, Answer, Counts, radius_of

BATCH = 64  # most images in a batch
NONE_YET = Counts(0, 0, 0)


def measure(folder: RunFolder, genotypes: Sequence[Genotype], limit_s: float, report: Callable[[Answer], None]) -> None:
    """Measure architectures batch by batch on images of the select split, and report the counts after each batch.

    The images, their batches and the starting points of PGD depend on the search's split seed only.

    Args:
        folder: folder of the search.
        genotypes: the architectures.
        limit_s: seconds after which no further batch is begun.
        report: function that is called with the answer so far.

    Raises:
        RunError: the run is not a search on a supernet.
        CheckpointError: its checkpoint is missing or damaged.
        GenotypeError: its space does not contain an architecture.
        DataError: the images are not on this machine.
    """
    started = time.monotonic()
    trained, config = trained_supernet(folder, torch.device("cpu")), recorded(folder.read_run())
    assert isinstance(config, SearchConfig)  # else there is no supernet
    dataset = DATASETS[config.dataset]
    images, labels = load_split(dataset, splits_of(dataset, config.split_seed, config.images), SPLIT)
    generator = generator_for(config.split_seed, "what if")
    order = torch.randperm(len(labels), generator=generator)[:MOST_IMAGES]
    epsilon, counts = radius_of(config), [NONE_YET] * len(genotypes)
    # The supernet normalises with the statistics of a batch, and those of a small last batch would be worse.
    for chosen in order.tensor_split(math.ceil(len(order) / BATCH)):
        x, y = images[chosen], labels[chosen]
        noise = epsilon * (2 * torch.rand(x.shape, generator=generator) - 1)
        batch = (x, y, (x + noise).clamp(0, 1) - x)
        for place, genotype in enumerate(genotypes):
            one, before = inherited_accuracy(trained, genotype, [batch], epsilon=epsilon, steps=STEPS), counts[place]
            counts[place] = Counts(before.images + one.images, before.natural_correct + one.natural_correct,
                                   before.adversarial_correct + one.adversarial_correct)
        report(Answer(tuple(counts), config.dataset, epsilon, STEPS))
        if time.monotonic() - started > limit_s:
            return


def main() -> int:
    """Read a request from stdin, measure it, and print each answer. Return the exit code."""
    request, lines = json.load(sys.stdin), sys.stdout

    def report(answer: Answer) -> None:
        print(json.dumps(asdict(answer)), file=lines, flush=True)

    with redirect_stdout(sys.stderr):  # stdout carries the answers
        environment.prepare(1 if psutil.getloadavg()[0] > device.cores() else device.cores(), "cpu")
        try:
            genotypes = [Genotype.from_dict(one) for one in request["genotypes"]]
            measure(RunFolder(Path(request["runs"]), request["search"]), genotypes, request["limit_s"], report)
        except RampartError as refusal:
            print(json.dumps({"problem": str(refusal)}), file=lines, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
