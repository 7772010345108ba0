"""Compare attack radii for a dataset: train one network at each radius, and attack it on images of the select split.

    python -m benchmarks.epsilon                                      # mnist5k, radii 0.1, 0.2 and 0.3; a quarter of an hour
    python -m benchmarks.epsilon --dataset digits --epsilon 0.15

The genotype is ARNAS, and the settings are those of the dataset's preset `quick`. At each radius, a network is trained against
PGD and attacked. One more network is trained without an attack and attacked at the smallest radius. The step size is a quarter of
the radius. The network of the last epoch is attacked. The test split is not used.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from benchmarks.measurement import Table, add_output_options, publish
from engine.attack.evaluation import Evaluation
from engine.attack.statistics import wilson
from engine.config import AttackConfig, RetrainConfig
from engine.configuring import build
from engine.data.augmentation import generator_for
from engine.data.catalogue import DATASETS
from engine.data.loading import batches, load_split
from engine.data.splits import split_sizes, splits_of, stable_seed, steps_in_epoch
from engine.run.lineage import trained_network
from engine.train.retrain import Retraining

ATTACKS = ("fgsm", "pgd-20", "autoattack")


def trained(config: RetrainConfig) -> nn.Module:
    """Train a network as a run with this configuration does, and return the network of the last epoch."""
    x, y = load_split(config.dataset, splits_of(config.dataset, config.split_seed, config.images), ("weights", "alphas"))
    steps = steps_in_epoch(len(y), config.batch_size, config.steps_per_epoch)
    torch.manual_seed(stable_seed(config.seed, "network"))
    training = Retraining(config, trained_network(Path(), config, None).build(), steps)
    for epoch in range(config.epochs):
        order = batches(len(y), config.batch_size, generator_for(config.seed, "order", epoch), config.steps_per_epoch)
        for step, chosen in enumerate(order):
            training.step(x[chosen], y[chosen], epoch=epoch, step=step)
    return training.network


def accuracies(config: AttackConfig, network: nn.Module) -> dict[str, str]:
    """Return {attack: accuracy on the select split with its 95 % interval, as text}."""
    splits = splits_of(config.dataset, config.split_seed, config.images)
    x, y = load_split(config.dataset, splits, "select")
    evaluation = Evaluation(config, network, x, y, classes=DATASETS[config.dataset].classes, indices=splits.select)
    while not evaluation.over:
        evaluation.step()
    return {row["attack"]: interval(round(row["accuracy"] * row["images"]), row["images"]) for row in evaluation.rows()}


def interval(correct: int, images: int) -> str:
    """Return an accuracy in per cent with its Wilson interval, for example "97.2 (94.9 to 98.5)"."""
    low, high = wilson(correct, images)
    return f"{100 * correct / images:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def row_of(dataset: str, training: str, epsilon: float, changes: dict[str, Any], attacked: dict[str, Any]) -> tuple[str, ...]:
    """Train and attack one network, and return its row of the table.

    Args:
        dataset: name of the dataset.
        training: training loss, "pgd_at" or "natural".
        epsilon: radius of training and attacks; the step size is a quarter of it.
        changes: further changes to the preset's settings of the retraining.
        attacked: further changes to the preset's settings of the attack.
    """
    radius = {"epsilon": epsilon, "step_size": epsilon / 4}
    config = build("retrain", None, dataset, "quick", {"genotype": "ARNAS", "training": training} | radius | changes)
    start = time.process_time()
    network = trained(cast(RetrainConfig, config))
    seconds = time.process_time() - start
    config = build("attack", None, dataset, "quick", {"attacks": ATTACKS} | radius | attacked)
    measured = accuracies(cast(AttackConfig, config), network)
    return (f"{epsilon:g}", "no attack" if training == "natural" else "PGD-7 at epsilon", measured["natural"],
            *(measured[name] for name in ATTACKS), f"{seconds:.0f}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and attack the networks. Print a row as soon as it is measured, and the table at the end."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--dataset", default="mnist5k", choices=list(DATASETS), help="dataset (default: mnist5k)")
    parser.add_argument("--epsilon", type=float, action="append", help="radius, may be repeated (default: 0.1, 0.2, 0.3)")
    parser.add_argument("--images", type=int, default=50, help="images of the select split under AutoAttack (default: 50)")
    add_output_options(parser)
    words = sys.argv[1:] if arguments is None else arguments
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    radii = options.epsilon or [0.1, 0.2, 0.3]
    rows = []
    for training, epsilon in [("natural", min(radii)), *(("pgd_at", radius) for radius in radii)]:
        rows.append(row_of(options.dataset, training, epsilon, {}, {"autoattack_images": options.images}))
        print("  ".join(rows[-1]), flush=True)
    images = split_sizes(options.dataset)["select"]
    caption = (f"{DATASETS[options.dataset].title}: accuracy in per cent (95 % interval) on {images} images of the select split, "
               f"{options.images} under AutoAttack")
    header = ("epsilon", "trained against", "natural", "FGSM", "PGD-20", "AutoAttack", "CPU s of training")
    publish(options, "epsilon", words, {"rows": rows}, [Table(caption, header, tuple(rows))])


if __name__ == "__main__":
    main()
