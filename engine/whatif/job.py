"""The process that answers what-if questions: it measures architectures with the weights of a finished search.

    python -m engine.whatif.job < REQUESTS

Every line of input and output is a JSON object. The first input line names the runs folder and the search, and each further line
is a question. For each question, the process prints an `Answer` after every batch of images, over all images so far, and finally
`DONE`. After the time limit, no further batch is begun, so a slow machine gives a wider interval instead of a long wait. If a
question cannot be answered, the process prints {"problem": sentence} and `DONE`.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from engine.architecture.genotype import Genotype
from engine.config import SearchConfig
from engine.configuring import recorded
from engine.data.augmentation import generator_for
from engine.data.catalogue import DATASETS
from engine.data.loading import Images, load_split
from engine.data.splits import splits_of
from engine.errors import RampartError
from engine.run import device, environment
from engine.run.folder import RunFolder
from engine.run.trained_supernet import trained_supernet
from engine.search.inherited import TrainedSupernet, inherited_accuracy
from engine.whatif.process import DONE
from engine.whatif.question import MOST_IMAGES, SPLIT, STEPS, Answer, Counts, radius_of

BATCH = 64  # most images in a batch


@dataclass(frozen=True)
class Loaded:
    """A finished search, with its weights and the images on which architectures are measured.

    Attributes:
        trained: the supernet and its weights.
        config: configuration of the search.
        images, labels: the select split.
        measured: {(genotype, number of a batch): counts} of earlier measurements, which are not repeated.
    """

    trained: TrainedSupernet
    config: SearchConfig
    images: Images
    labels: Tensor
    measured: dict[tuple[Genotype, int], Counts] = field(default_factory=dict)


def load(folder: RunFolder) -> Loaded:
    """Load the weights, the configuration and the select split of a search.

    Raises:
        RunError: the run is not a search on a supernet.
        CheckpointError: its checkpoint is missing or damaged.
        DataError: the images are not on this machine.
    """
    trained, config = trained_supernet(folder, torch.device("cpu")), recorded(folder.read_run())
    assert isinstance(config, SearchConfig)  # else there is no supernet
    dataset = DATASETS[config.dataset]
    return Loaded(trained, config, *load_split(dataset, splits_of(dataset, config.split_seed, config.images), SPLIT))


def measure(loaded: Loaded, genotypes: Sequence[Genotype], limit_s: float, report: Callable[[Answer], None]) -> None:
    """Measure architectures batch by batch on up to `MOST_IMAGES` images of the select split, and report after each batch.

    The choice of images, their batches and the starting points of PGD depend only on the split seed of the search.

    Args:
        loaded: the search.
        genotypes: the architectures.
        limit_s: seconds after which no further batch is begun. The first batch is always measured.
        report: function called after each batch with the answer so far.

    Raises:
        GenotypeError: the search space does not contain one of the architectures.
    """
    started, config = time.monotonic(), loaded.config
    generator = generator_for(config.split_seed, "what if")
    order = torch.randperm(len(loaded.labels), generator=generator)[:MOST_IMAGES]
    epsilon, counts = radius_of(config), [Counts(0, 0, 0)] * len(genotypes)
    # The supernet normalises with the statistics of a batch, and those of a small last batch would be worse.
    for number, chosen in enumerate(order.tensor_split(math.ceil(len(order) / BATCH))):
        x, y = loaded.images[chosen], loaded.labels[chosen]
        noise = epsilon * (2 * torch.rand(x.shape, generator=generator) - 1)
        batch = (x, y, (x + noise).clamp(0, 1) - x)
        for place, genotype in enumerate(genotypes):
            if (genotype, number) not in loaded.measured:
                one = inherited_accuracy(loaded.trained, genotype, [batch], epsilon=epsilon, steps=STEPS)
                loaded.measured[genotype, number] = Counts(one.images, one.natural_correct, one.adversarial_correct)
            counts[place] += loaded.measured[genotype, number]
        report(Answer(tuple(counts), config.dataset, epsilon, STEPS))
        if time.monotonic() - started > limit_s:
            return


def answer_all(lines: Iterable[str], tell: Callable[[dict[str, Any]], None]) -> None:
    """Answer the questions in the lines of the input, and call `tell` with each JSON object to print.

    If the search cannot be loaded, the function returns after the first question.
    """
    requests = map(json.loads, lines)
    search = next(requests)
    environment.prepare(1 if psutil.getloadavg()[0] > device.cores() else device.cores(), "cpu")
    loaded: Loaded | RampartError
    try:
        loaded = load(RunFolder(Path(search["runs"]), search["search"]))
    except RampartError as refusal:
        loaded = refusal
    for request in requests:
        try:
            if isinstance(loaded, RampartError):
                raise loaded
            measure(loaded, [Genotype.from_dict(one) for one in request["genotypes"]], request["limit_s"],
                    lambda answer: tell(asdict(answer)))
        except RampartError as refusal:
            tell({"problem": str(refusal)})
        tell(DONE)
        if isinstance(loaded, RampartError):
            return


def main() -> int:
    """Answer the questions on stdin until its end, and return the exit code."""
    answers = sys.stdout
    with redirect_stdout(sys.stderr):  # stdout carries the answers
        answer_all(sys.stdin, lambda told: print(json.dumps(told), file=answers, flush=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
