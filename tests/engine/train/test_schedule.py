"""Learning rates of the published training, and the growth of drop path."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction

import pytest
import torch

from engine.config import RetrainConfig
from engine.configuring import build
from engine.errors import ConfigError
from engine.train import schedule


def test_the_published_steps_are_at_99_and_149_of_200() -> None:
    config = RetrainConfig(auxiliary_weight=0.0)
    rates = [schedule.learning_rate(config, epoch) for epoch in range(200)]
    assert rates == pytest.approx([0.1] * 99 + [0.01] * 50 + [0.001] * 51)


@pytest.mark.parametrize(("dataset", "epochs", "drops"), [("cifar10", 200, [99, 149]), ("tiny-imagenet", 90, [30, 60])])
def test_the_papers_datasets_drop_the_rate_where_they_did(dataset: str, epochs: int, drops: list[int]) -> None:
    config = build("retrain", None, dataset, "paper")
    assert schedule.milestone_epochs(config.milestones, config.epochs) == drops and config.epochs == epochs


@pytest.mark.parametrize(("milestones", "epochs"), [("99/200, 149/200", 200), ("1/3,2/3", 90), ("30, 60", 90), ("0.5, 45", 60),
                                                    ("7", 9), ("1, 2, 3, 3", 5), ("0.01, 0.9", 12), ("100/400", 7)])
def test_steps_are_pytorchs_multi_step_schedule(milestones: str, epochs: int) -> None:
    """The step schedule equals PyTorch's MultiStepLR with a factor of 0.1 at the milestones."""
    config = RetrainConfig(auxiliary_weight=0.0, milestones=milestones, epochs=epochs)
    shares = [Fraction(part.strip()) for part in milestones.split(",")]
    drops = [max(1, int(share * epochs) if share < 1 else int(share)) for share in shares]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    theirs = torch.optim.lr_scheduler.MultiStepLR(optimizer, drops, gamma=0.1)
    for epoch in range(epochs):
        assert schedule.learning_rate(config, epoch) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize(("milestones", "sentence"), [
    ("", "must be shares below 1 or whole"), ("half", "must be shares"), ("0, 0.5", "must be shares"), ("30.5", "must be shares"),
    ("3/2", "must be shares"), ("1/0", "must be shares"), ("-1/3", "must be shares"), ("1e999999999", "must be shares"),
    ("0.5, nan", "must be shares"), ("2/3, 1/3", "must ascend"), ("1/2, 3", "must ascend"),
    ("14", "must be within the 14 epochs"), ("0.5, 99999", "must be within")])
def test_milestones_that_are_none_are_refused(milestones: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        build("retrain", preset="quick", changes={"schedule": "step", "milestones": milestones})
    build("retrain", preset="quick", changes={"schedule": "cosine", "milestones": milestones})  # not used


@pytest.mark.parametrize("epochs", [10, 600])
def test_cosine_is_pytorchs_to_zero(epochs: int) -> None:
    """The cosine schedule equals PyTorch's CosineAnnealingLR with final rate 0."""
    config = RetrainConfig(auxiliary_weight=0.0, schedule="cosine", epochs=epochs, learning_rate=0.025)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.025)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for epoch in range(epochs):
        assert schedule.learning_rate(config, epoch) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9, abs=1e-15)
        optimizer.step()
        theirs.step()


def test_cosine_falls_from_the_first_epoch_towards_zero() -> None:
    """The cosine schedule starts at the full rate, never rises and stays above 0."""
    config = RetrainConfig(auxiliary_weight=0.0, schedule="cosine", epochs=10)
    rates = [schedule.learning_rate(config, epoch) for epoch in range(10)]
    assert rates[0] == 0.1 and rates[5] == pytest.approx(0.05) and 0 < rates[-1] < 0.01
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize("epochs", [1, 2, 3])
@pytest.mark.parametrize("kind", ["step", "cosine"])
def test_the_shortest_trainings_begin_at_the_full_rate(epochs: int, kind: str) -> None:
    config = RetrainConfig(auxiliary_weight=0.0, schedule=kind, epochs=epochs)
    assert schedule.learning_rate(config, 0) == 0.1
    assert all(schedule.learning_rate(config, epoch) > 0 for epoch in range(epochs))


@pytest.mark.parametrize(("epochs", "steps"), [(1, 4), (3, 5), (15, 8)])
def test_cyclic_is_the_triangle_of_the_released_code(epochs: int, steps: int) -> None:
    config = RetrainConfig(auxiliary_weight=0.0, schedule="cyclic", epochs=epochs, learning_rate=0.2)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.2, momentum=0.9)
    half = epochs * steps / 2
    theirs = torch.optim.lr_scheduler.CyclicLR(optimizer, base_lr=0.0, max_lr=0.2, step_size_up=half, step_size_down=half)
    for epoch in range(epochs):
        for step in range(steps):
            ours = schedule.learning_rate(config, epoch, step, steps)
            assert ours == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
            optimizer.step()
            theirs.step()


@pytest.mark.parametrize("kind", ["step", "cosine"])
def test_warm_up_grows_by_equal_steps_to_the_full_rate(kind: str) -> None:
    """Warm-up is linear in the step and ends at the full rate."""
    config = RetrainConfig(auxiliary_weight=0.0, schedule=kind, epochs=20, warmup_epochs=3)
    rates = [schedule.learning_rate(config, epoch, step, 4) for epoch in range(3) for step in range(4)]
    assert rates == pytest.approx([0.1 * n / 12 for n in range(1, 13)])
    assert schedule.learning_rate(config, 3, 0, 4) == pytest.approx(0.1)
    after = [schedule.learning_rate(config, epoch, 0, 4) for epoch in range(3, 20)]
    if kind == "step":  # the drops stay where they are
        plain = RetrainConfig(auxiliary_weight=0.0, schedule=kind, epochs=20)
        assert after == [schedule.learning_rate(plain, epoch) for epoch in range(3, 20)]
    else:  # the whole curve comes after the warm-up
        plain = RetrainConfig(auxiliary_weight=0.0, schedule=kind, epochs=17)
        assert after == [schedule.learning_rate(plain, epoch) for epoch in range(17)]


@pytest.mark.parametrize("kind", ["step", "cosine"])
def test_without_warm_up_every_step_of_an_epoch_has_its_rate(kind: str) -> None:
    config = RetrainConfig(auxiliary_weight=0.0, schedule=kind, epochs=7)
    for epoch in range(7):
        assert {schedule.learning_rate(config, epoch, step, 5) for step in range(5)} == {schedule.learning_rate(config, epoch)}


@pytest.mark.parametrize(("changes", "sentence"), [
    ({"warmup_epochs": 1, "schedule": "cyclic"}, "warmup_epochs must be 0 with the cyclic schedule.*got 1; use 0"),
    ({"warmup_epochs": 14}, "warmup_epochs must be less than the 14 epochs, got 14; use fewer"),
])
def test_a_warm_up_that_leaves_nothing_is_refused(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        build("retrain", preset="quick", changes=changes)


def test_drop_path_grows_by_equal_steps_to_its_value() -> None:
    """The drop-path probability is linear in the epoch: p e / E."""
    config = RetrainConfig(auxiliary_weight=0.0, drop_path=0.3, epochs=4)
    assert [schedule.drop_path(config, epoch) for epoch in range(4)] == pytest.approx([0, 0.1, 0.2, 0.3])


def test_the_page_can_draw_the_schedule_without_torch() -> None:
    subprocess.run([sys.executable, "-c", "import sys, engine.train.schedule; assert 'torch' not in sys.modules"], check=True)
