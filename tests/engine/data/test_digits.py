"""The digits at three sizes: the same images and splits, resized as PyTorch resizes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.api import launch, wait
from engine.configuring import build, preset_values
from engine.data.catalogue import DATASETS
from engine.data.loading import checked
from engine.data.splits import SPLITS, splits_of
from engine.search.methods.registry import METHODS


@pytest.mark.parametrize("side", [16, 32])
def test_larger_digits_are_the_same_images_resized(side: int) -> None:
    small, labels = DATASETS["digits"].load()
    images, same = checked(DATASETS[f"digits{side}"])
    expected = torch.nn.functional.interpolate(torch.from_numpy(small), size=(side, side), mode="bilinear", align_corners=False)
    assert np.array_equal(labels, same)
    np.testing.assert_allclose(images, expected.numpy(), atol=1e-6)


@pytest.mark.parametrize("seed", [0, 7])
def test_all_sizes_have_the_same_splits(seed: int) -> None:
    small = splits_of("digits", seed)
    for name in ("digits16", "digits32"):
        other = splits_of(name, seed)
        assert other.hash == small.hash
        assert all(np.array_equal(getattr(other, split), getattr(small, split)) for split in SPLITS)


def test_a_perturbation_of_the_small_images_fits_into_the_ball_of_the_large_ones() -> None:
    """The reason for the equal radius: resizing is a mean, so it does not make a perturbation larger."""
    epsilon = DATASETS["digits"].epsilon
    change = epsilon * torch.sign(torch.randn(50, 1, 8, 8))
    for name in ("digits16", "digits32"):
        side = DATASETS[name].image_shape[-1]
        larger = torch.nn.functional.interpolate(change, size=(side, side), mode="bilinear", align_corners=False)
        assert DATASETS[name].epsilon == epsilon and float(larger.abs().max()) <= epsilon + 1e-6


@pytest.mark.parametrize("name", ["digits16", "digits32"])
def test_every_method_and_preset_knows_the_sizes(name: str) -> None:
    for method in METHODS:
        for preset in ("quick", "scout", "smoke"):
            config = build("search", method, name, preset)
            assert config.dataset == name and getattr(config, "epsilon", 0.15) == 0.15
    for kind in ("retrain", "attack"):
        assert "epsilon" in preset_values(kind, None, name, "quick")


@pytest.mark.slow
def test_a_search_and_a_retraining_run_at_16_pixels(tmp_path: Path) -> None:
    ids = launch("search", runs=tmp_path, dataset="digits16", preset="smoke", then=("retrain", "attack"))
    assert [state.status for state in wait(ids, runs=tmp_path).values()] == ["finished"] * 3
