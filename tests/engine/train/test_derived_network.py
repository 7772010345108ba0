"""Retraining and evaluation of a real derived network on a few digits, as a run does it."""

from __future__ import annotations

import pytest
import torch

from engine.attack.evaluation import Evaluation
from engine.catalog import CATALOG
from engine.config import build
from engine.data import DATASETS
from engine.data.augmentation import generator_for
from engine.data.loading import batches, load_split
from engine.data.splits import splits_of
from engine.space.network import Network
from engine.train.retrain import Retraining

DIGITS = DATASETS["digits"]


@pytest.mark.parametrize("training", ["pgd_at", "trades", "natural"])
def test_the_chain_from_training_to_the_table(training: str) -> None:
    config = build("retrain", preset="smoke", changes={"training": training, "drop_path": 0.1, "epochs": 2})
    splits = splits_of("digits", config.seed, config.images)
    x, y = load_split("digits", splits, ("weights", "alphas"))
    network = Network(CATALOG["ARNAS"].genotype, channels=config.channels, layers=config.layers, classes=DIGITS.classes,
                      image_shape=DIGITS.image_shape)
    retraining = Retraining(config, network)
    order = batches(len(y), config.batch_size, generator_for(config.seed, "order", 1), config.steps_per_epoch)
    for step, indices in enumerate(order):
        assert retraining.step(x[indices], y[indices], epoch=1, step=step).loss > 0
    selection = retraining.select(*load_split("digits", splits, "select"))
    assert retraining.keep_best(selection, epoch=1) and selection.images == 64

    best = Network(CATALOG["ARNAS"].genotype, channels=config.channels, layers=config.layers, classes=DIGITS.classes,
                   image_shape=DIGITS.image_shape)
    best.load_state_dict(retraining.best["network"])
    attack = build("attack", preset="smoke")
    evaluation = Evaluation(attack, best, *load_split("digits", splits, "test"), classes=10, indices=splits.test)
    for stage, block in evaluation.remaining():
        evaluation.run_block(stage, block)
    rows = evaluation.rows()
    assert [row["attack"] for row in rows] == ["natural", "fgsm", "pgd-20", "worst-case"]
    assert all(row["images"] == 64 and row["epsilon"] == (0.0 if row["attack"] == "natural" else 0.15) for row in rows)


def test_the_network_is_left_as_found_by_the_measurement() -> None:
    network = Network(CATALOG["ARNAS"].genotype, channels=4, layers=4, classes=10, image_shape=(1, 8, 8))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    Retraining(build("retrain", preset="smoke"), network).select(torch.rand(8, 1, 8, 8), torch.arange(8))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert network.training
