"""The benchmark compares equals: modules and engine take the same training steps and find the same images in float64."""

from __future__ import annotations

import pytest
import torch

from benchmarks.derived_network import Comparison, Setting, report, time_pairs

ROWS = Setting(channels=4, layers=4, image_shape=(1, 8, 8), batch_size=6, epsilon=0.1)
MAPS = Setting(channels=4, layers=4, image_shape=(3, 12, 12), batch_size=4, epsilon=8 / 255)


@pytest.mark.parametrize("setting", [ROWS, MAPS])
def test_training_steps_and_attacks_are_equal_in_float64(setting: Setting) -> None:
    comparison = Comparison(setting, attack_steps=2, dtype=torch.float64)
    for _ in range(2):  # the second has momentum
        x, y = comparison.batch()
        comparison.train_plain(x, y)
        comparison.train(x, y)
        comparison.steps += 1
    plain = comparison.plain.network.state_dict()
    for name, value in comparison.network.state_dict().items():
        torch.testing.assert_close(value, plain[name], rtol=1e-9, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")
    x, y = comparison.batch()
    torch.testing.assert_close(comparison.attack(x, y), comparison.attack_plain(x, y), rtol=0, atol=1e-12)


def test_reports_the_ratios_of_interleaved_pairs() -> None:
    comparison = Comparison(ROWS, attack_steps=1)
    times = time_pairs(comparison, "attack", pairs=1)
    assert len(times) == 1 and min(times[0]) > 0
    text = report("tiny", comparison, {"train": [(2.0, 1.0), (9.0, 3.0), (5.0, 1.0)], "attack": times})
    assert "4 channels, 4 cells, 1x8x8, batch 6" in text and "training step, PGD-1, 3 pairs" in text
    assert "3.00 [2.00 - 5.00]" in text
