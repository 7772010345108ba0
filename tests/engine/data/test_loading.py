"""Splits as tensors, batches of indices, and datasets that differ from their description."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.data.augmentation import generator_for
from engine.data.catalogue import DATASETS
from engine.data.loading import Images, batches, channel_statistics, checked, load_split
from engine.data.splits import splits_of
from engine.errors import ConfigError

DEVICE = os.environ.get("ENGINE_TEST_DEVICE", "cpu")


def test_splits_come_as_tensors_alone_and_joined() -> None:
    splits = splits_of("digits", seed=2)
    x, y = load_split("digits", splits, "select")
    assert len(x) == 216 and x.shape == (216, 1, 8, 8) and x[:2].dtype == torch.float32 and y.dtype == torch.int64
    both, _ = load_split("digits", splits, ("weights", "alphas"))
    assert torch.equal(both[...], torch.cat([load_split("digits", splits, name)[0][...] for name in ("weights", "alphas")]))


@pytest.mark.parametrize("resident", [True, False])
def test_bytes_become_pixels_when_a_batch_is_asked_for(resident: bool) -> None:
    content = torch.randint(256, (40, 3, 5, 6), dtype=torch.uint8)
    content[0, 0, 0, :2] = torch.tensor([0, 255])
    images, expected = Images(content, DEVICE, resident=resident), content.float() / 255
    chosen = torch.tensor([7, 7, 0, 39])
    for index in (chosen, slice(3, 9), ...):
        batch = images[index]
        assert batch.dtype == torch.float32 and batch.device.type == DEVICE and torch.equal(batch.cpu(), expected[index])
    assert torch.equal(images[chosen.to(DEVICE)].cpu(), expected[chosen])
    assert (images.content.device.type == DEVICE) == (resident or DEVICE == "cpu") and images.content.dtype == torch.uint8
    blocks = list(images.split(16))
    assert [len(block) for block in blocks] == [16, 16, 8] and torch.equal(torch.cat(blocks).cpu(), expected)


def test_every_byte_is_the_same_pixel_on_every_device() -> None:
    content = torch.arange(256, dtype=torch.uint8).reshape(256, 1, 1, 1)
    pixels = np.arange(256, dtype=np.float32) / np.float32(255)
    assert np.array_equal(Images(content, DEVICE)[...].flatten().cpu().numpy(), pixels)


def test_float_images_are_taken_as_they_are() -> None:
    content = torch.rand(5, 1, 4, 4)
    assert torch.equal(Images(content)[torch.tensor([4, 1])], content[[4, 1]])


def test_an_unknown_split_is_named() -> None:
    with pytest.raises(ConfigError, match="no split 'valid'.*weights, alphas, select, test"):
        load_split("digits", splits_of("digits", seed=2), "valid")


@pytest.mark.parametrize("images, left_out", [(100, 0), (97, 1), (98, 0)])
def test_an_epoch_shows_every_image_once(images: int, left_out: int) -> None:
    seen = torch.cat(list(batches(images, 32, generator_for(0, "order", 0))))
    assert len(seen) == len(set(seen.tolist())) == images - left_out


def test_the_order_advances_with_the_epoch() -> None:
    first, again, second = (torch.cat(list(batches(64, 16, generator_for(0, "order", epoch)))) for epoch in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, second)


@pytest.mark.parametrize("damage, expected", [
    (lambda x, y: (x[:10], y), "must hold float32 images or bytes"),
    (lambda x, y: (x.astype(np.float64), y), "must hold float32 images or bytes"),
    (lambda x, y: (x * 255, y), "pixels in 0..1"),
    (lambda x, y: (x, np.minimum(y, 8)), "labels 0 to 9"),
    (lambda x, y: (x, y.astype(np.int32)), "int64 labels"),
])
def test_a_dataset_that_is_not_what_it_says_is_refused(damage, expected: str) -> None:
    digits = DATASETS["digits"]
    with pytest.raises(ConfigError, match=expected):
        checked(replace(digits, load=lambda: damage(*digits.load())))


def test_digits_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    from engine.data import digits

    images, labels = digits.load()
    oracle = load_digits()
    assert (images[:, 0] * 16 == oracle.images).all() and (labels == oracle.target).all()


def test_channel_statistics_are_published_or_measured() -> None:
    published = {"cifar10": (0.49139968, 0.24703233), "cifar100": (0.5071, 0.2675), "svhn": (0.4377, 0.1980)}
    nothing = Images(torch.zeros(1, 3, 1, 1))
    for name, first in published.items():
        mean, std = channel_statistics(DATASETS[name], nothing)
        assert (mean[0], std[0]) == first and len(mean) == len(std) == 3
    content = torch.randint(256, (5000, 2, 3, 4), dtype=torch.uint8)
    content[:, 1] = 51
    mean, std = channel_statistics(DATASETS["digits"], Images(content, DEVICE))
    pixels = content.double() / 255
    assert np.allclose(mean, pixels.mean((0, 2, 3)), rtol=1e-6)
    assert std[0] == pytest.approx(pixels[:, 0].std(correction=0).item(), rel=1e-6) and std[1] == 1.0
