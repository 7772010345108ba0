"""Images of a second dataset: patches of photographs, images resized to another shape, batches that depend only on the step."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine.config import PRESETS
from engine.configuring import build
from engine.data.catalogue import DATASETS, UNLABELLED, image_source, image_sources
from engine.data.dataset import ChannelStatistics
from engine.data.loading import Images, checked
from engine.data.out_of_distribution import OutOfDistributionImages, fitted, restated
from engine.data.splits import splits_of
from engine.errors import ConfigError
from engine.search.methods.registry import METHODS

PHOTOGRAPHS = UNLABELLED["photographs"]


def images(count: int, shape: tuple[int, int, int], seed: int = 0) -> Images:
    generator = torch.Generator().manual_seed(seed)
    return Images(torch.randint(256, (count, *shape), generator=generator).to(torch.uint8))


def test_patches_put_together_again_are_the_photographs() -> None:
    patches, numbers = checked(PHOTOGRAPHS)
    for number, name in enumerate(("china.jpg", "flower.jpg")):
        place = Path(find_spec("sklearn").origin).parent / "datasets" / "images" / name
        picture = np.asarray(Image.open(place).convert("RGB"))
        of_this = iter(patches[numbers == number])
        for row in range(picture.shape[0] // 32):
            for column in range(picture.shape[1] // 32):
                expected = picture[32 * row:32 * row + 32, 32 * column:32 * column + 32]
                assert np.array_equal(next(of_this).transpose(1, 2, 0), expected)
        assert next(of_this, None) is None


def test_what_has_no_classes_is_no_dataset_to_search_on() -> None:
    assert "photographs" not in DATASETS and "photographs" in image_sources() and "photographs" in DATASETS.built_in
    with pytest.raises(ConfigError, match="There is no dataset 'photographs'"):
        build("search", "arnas", "photographs")
    with pytest.raises(ConfigError, match="known are: .*photographs.*Did you mean 'photographs'"):
        image_source("photograph")


@pytest.mark.parametrize("name", list(DATASETS))
def test_the_usual_second_dataset_is_another_one(name: str) -> None:
    assert DATASETS[name].out_of_distribution != name
    assert image_source(DATASETS[name].out_of_distribution)


@pytest.mark.parametrize(("shape", "wanted"), [((3, 32, 32), (1, 8, 8)), ((3, 32, 32), (3, 64, 48)), ((1, 8, 8), (3, 32, 32)),
                                               ((1, 9, 7), (1, 8, 8))])
def test_images_are_resized_as_an_image_program_does(shape: tuple[int, int, int], wanted: tuple[int, int, int]) -> None:
    x = images(4, shape)[...]
    found = fitted(x, wanted)
    assert found.shape == (4, *wanted) and found.min() >= 0 and found.max() <= 1
    grey = (np.tensordot([0.299, 0.587, 0.114], x.numpy(), axes=(0, 1))[:, None] if shape[0] > wanted[0]
            else np.broadcast_to(x.numpy(), (4, wanted[0], *shape[1:])))
    for image, expected in zip(found, grey, strict=True):
        for channel, plane in zip(image, expected, strict=True):
            resized = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32)).resize(wanted[:0:-1], Image.BILINEAR)
            assert np.allclose(channel, np.asarray(resized), atol=1e-5)


def test_images_of_the_right_shape_are_left_as_they_are() -> None:
    x = images(4, (3, 8, 8))[...]
    assert torch.equal(fitted(x, (3, 8, 8)), x)
    with pytest.raises(ValueError, match="grey .* or in colour"):
        fitted(x.expand(-1, 3, -1, -1)[:, :2], (3, 8, 8))


def test_a_batch_is_decided_by_seed_epoch_and_position_alone() -> None:
    content = images(20, (1, 8, 8))
    one, two, other = (OutOfDistributionImages(content, (1, 8, 8), batch_size=6, seed=seed) for seed in (2, 2, 3))
    places = [(epoch, position) for epoch in (0, 1) for position in range(7)]
    batches = {place: one.batch(*place) for place in places}
    for place in reversed(places):  # in another order than they were first asked for
        assert torch.equal(two.batch(*place), batches[place])
    assert not torch.equal(batches[0, 0], batches[1, 0]) and not torch.equal(other.batch(0, 0), batches[0, 0])


def test_no_image_comes_twice_before_a_new_pass_and_every_batch_is_whole() -> None:
    content = Images(torch.arange(20, dtype=torch.uint8).view(20, 1, 1, 1))
    source = OutOfDistributionImages(content, (1, 1, 1), batch_size=6, seed=2)
    turns = [[(255 * source.batch(0, 3 * turn + i)).round().flatten().tolist() for i in range(3)] for turn in range(3)]
    for turn in turns:
        seen = [pixel for batch in turn for pixel in batch]
        assert len(seen) == len(set(seen)) == 18
    assert turns[0] != turns[1] != turns[2]


def test_images_kept_for_choosing_and_testing_are_not_seen() -> None:
    splits = splits_of(PHOTOGRAPHS, seed=2)
    source = OutOfDistributionImages.of(PHOTOGRAPHS, splits, (3, 32, 32), batch_size=50, seed=2, device=torch.device("cpu"))
    everything = checked(PHOTOGRAPHS)[0]
    allowed = {everything[i].tobytes() for i in splits.indices("weights", "alphas")}
    seen = {(255 * image).round().to(torch.uint8).numpy().tobytes() for i in range(7) for image in source.batch(0, i)}
    assert seen <= allowed and len(seen) > 300


@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_method_says_which_datasets_it_reads(preset: str) -> None:
    for name in METHODS:
        for dataset in DATASETS:
            config = build("search", name, dataset, preset)
            assert config.datasets() == (dataset, *([config.out_of_distribution] if config.out_of_distribution else []))


def test_statistics_are_the_published_ones_or_those_of_the_fitted_images() -> None:
    published = ChannelStatistics((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    given = images(40, (3, 8, 8))
    same, grey = (OutOfDistributionImages(given, shape, batch_size=4, seed=0, published=published)
                  for shape in ((3, 4, 4), (1, 4, 4)))
    assert same.channel_statistics() == published
    pixels = fitted(given[...], (1, 4, 4)).double()
    measured = grey.channel_statistics()
    assert measured.mean == pytest.approx((pixels.mean().item(),))
    assert measured.std == pytest.approx((pixels.std(correction=0).item(),))


def test_restated_images_are_seen_by_their_own_numbers() -> None:
    theirs, ours = ChannelStatistics((0.44, 0.45, 0.47), (0.2, 0.2, 0.2)), ChannelStatistics((0.5, 0.4, 0.1), (0.25, 0.3, 0.1))
    x = torch.rand(5, 3, 4, 4, dtype=torch.float64)
    (mean, std), (our_mean, our_std) = ((torch.tensor(row)[:, None, None].double() for row in rows) for rows in (theirs, ours))
    assert torch.allclose((restated(x, theirs, ours) - our_mean) / our_std, (x - mean) / std, atol=1e-6)
    assert torch.allclose(restated(x, ours, ours), x)
