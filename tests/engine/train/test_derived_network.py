"""Retraining and evaluation of a real derived network on a few digits, as a run does it."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from engine.architecture.catalogue import CATALOG
from engine.attack.evaluation import Evaluation
from engine.configuring import build
from engine.data.augmentation import augment, generator_for
from engine.data.catalogue import DATASETS
from engine.data.loading import batches, load_split
from engine.data.splits import splits_of
from engine.space.network import Network
from engine.train.adversarial import training_images
from engine.train.retrain import Retraining

DIGITS = DATASETS["digits"]


@pytest.mark.parametrize("training", ["pgd_at", "trades", "natural", "fast_at"])
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
    while not evaluation.over:
        evaluation.step()
    rows = evaluation.rows()
    assert [row["attack"] for row in rows] == ["natural", "fgsm", "pgd-20", "worst-case"]
    assert all(row["images"] == 64 and row["epsilon"] == (0.0 if row["attack"] == "natural" else 0.15) for row in rows)


def test_the_quick_preset_computes_bit_for_bit_what_its_recipe_says() -> None:
    """The recipe without any code of `Retraining`: clean pass, PGD in evaluation mode, cross-entropy, clip, SGD."""
    config = build("retrain", preset="quick")
    splits = splits_of("digits", config.seed, 256)
    x, y = load_split("digits", splits, ("weights", "alphas"))
    networks = []
    for _ in range(2):
        torch.manual_seed(1)
        networks.append(Network(CATALOG["ARNAS"].genotype, channels=config.channels, layers=config.layers,
                                classes=DIGITS.classes, image_shape=DIGITS.image_shape))
    ours, network = Retraining(config, networks[0], steps_per_epoch=3), networks[1].train()
    optimizer = torch.optim.SGD(network.parameters(), lr=config.learning_rate, momentum=config.momentum,
                                weight_decay=config.weight_decay)
    for epoch in (0, 1):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * (1 + math.cos(math.pi * epoch / config.epochs)) / 2
        for step, chosen in enumerate(batches(len(y), config.batch_size, generator_for(config.seed, "order", epoch), 3)):
            ours.step(x[chosen], y[chosen], epoch=epoch, step=step)
            images = augment(x[chosen], generator_for(config.seed, "augment", epoch, step), config.crop_padding, config.flip,
                             config.cutout)
            with torch.no_grad():
                network(images)
            x_adv = training_images(network, images, y[chosen], epsilon=config.epsilon, step_size=config.step_size,
                                    steps=config.attack_steps, start_noise=config.start_noise,
                                    generator=generator_for(config.seed, "attack", epoch, step))
            F.cross_entropy(network(x_adv), y[chosen]).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), config.gradient_clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    assert ours.steps == 6 and ours.average is None
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in ours.network.state_dict().items())


def test_the_network_is_left_as_found_by_the_measurement() -> None:
    network = Network(CATALOG["ARNAS"].genotype, channels=4, layers=4, classes=10, image_shape=(1, 8, 8))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    Retraining(build("retrain", preset="smoke"), network).select(torch.rand(8, 1, 8, 8), torch.arange(8))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert network.training
