"""Learning rates of the published training, and the growth of drop path."""

from __future__ import annotations

import subprocess
import sys

import pytest

from engine.config import RetrainConfig
from engine.train import schedule


def test_the_published_steps_are_at_99_and_149_of_200() -> None:
    config = RetrainConfig(auxiliary_weight=0.0)
    rates = [schedule.learning_rate(config, epoch) for epoch in range(200)]
    assert rates == pytest.approx([0.1] * 99 + [0.01] * 50 + [0.001] * 51)


def test_cosine_falls_from_the_first_epoch_towards_zero() -> None:
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


def test_drop_path_grows_by_equal_steps_to_its_value() -> None:
    config = RetrainConfig(auxiliary_weight=0.0, drop_path=0.3, epochs=4)
    assert [schedule.drop_path(config, epoch) for epoch in range(4)] == pytest.approx([0, 0.1, 0.2, 0.3])


def test_the_page_can_draw_the_schedule_without_torch() -> None:
    subprocess.run([sys.executable, "-c", "import sys, engine.train.schedule; assert 'torch' not in sys.modules"], check=True)
