"""Generators by purpose and batched augmentation."""

from __future__ import annotations

import pytest
import torch

from engine.data.augmentation import augment, generator_for


def test_equal_keys_give_equal_numbers_and_different_keys_do_not() -> None:
    draw = [torch.rand(1000, generator=generator_for(2, *key)) for key in (("a", 1), ("a", 1), ("a", 2), ("b", 1))]
    assert torch.equal(draw[0], draw[1])
    for other in draw[2:]:
        assert abs(torch.corrcoef(torch.stack([draw[0], other]))[0, 1]) < 0.1


def test_nothing_asked_for_changes_nothing() -> None:
    x = torch.rand(4, 3, 8, 8)
    assert torch.equal(augment(x, generator_for(0, "augment")), x)


def test_the_generator_decides_everything_and_the_input_stays() -> None:
    x = torch.rand(16, 3, 8, 8)
    before = x.clone()
    one, again, other = (augment(x, generator_for(0, "augment", step), 2, True, 4) for step in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert torch.equal(x, before) and one.shape == x.shape and one.min() >= 0 and one.max() <= 1


def test_a_crop_is_a_shift_over_black_and_every_shift_comes() -> None:
    x = torch.rand(400, 2, 5, 6) + 0.1
    cropped = augment(x, generator_for(0, "augment"), crop_padding=1)
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1))
    shifts = [(top, left) for top in range(3) for left in range(3)]
    matches = torch.stack([(cropped == padded[:, :, top:top + 5, left:left + 6]).flatten(1).all(1) for top, left in shifts])
    assert matches.any(0).all()
    assert matches.any(1).all()


def test_a_flip_mirrors_about_half_of_the_images() -> None:
    x = torch.rand(400, 1, 4, 4)
    flipped = augment(x, generator_for(0, "augment"), flip=True)
    mirrored = (flipped == x.flip(3)).flatten(1).all(1)
    assert ((flipped == x).flatten(1).all(1) | mirrored).all()
    assert 150 < int(mirrored.sum()) < 250


def test_cutout_blanks_one_square_that_may_hang_over_the_edge() -> None:
    blank = augment(torch.ones(500, 2, 8, 8), generator_for(0, "augment"), cutout=4)[:, 0] == 0
    assert torch.equal(blank.any(2).sum(1) * blank.any(1).sum(1), blank.flatten(1).sum(1))  # a rectangle
    sides = blank.any(2).sum(1)
    assert sides.max() == 4 and sides.min() == 2
    assert blank.any(0).all()


def one_by_one(x: torch.Tensor, generator: torch.Generator, padding: int, flip: bool, cutout: int,
               mean: torch.Tensor | None = None, std: float = 1.0) -> torch.Tensor:
    """Augment image by image as the published training code does, with the same draws; normalise if a mean is given."""
    images, _, height, width = x.shape
    draws = [torch.randint(high, (images,), generator=generator).tolist()
             for high in (2 * padding + 1, 2 * padding + 1, 2, height, width)]
    done = []
    for image, top, left, mirrored, row, column in zip(x, *draws):
        framed = torch.zeros(x.shape[1], height + 2 * padding, width + 2 * padding)
        framed[:, padding:padding + height, padding:padding + width] = image
        image = framed[:, top:top + height, left:left + width].clone()
        if flip and mirrored:
            image = torch.stack([image[:, :, width - 1 - place] for place in range(width)], dim=2)
        if mean is not None:
            image = (image - mean[:, None, None]) / std
        y1, y2 = (min(max(row + side, 0), height) for side in (-(cutout // 2), cutout // 2))
        x1, x2 = (min(max(column + side, 0), width) for side in (-(cutout // 2), cutout // 2))
        image[:, y1:y2, x1:x2] = 0.0
        done.append(image)
    return torch.stack(done)


@pytest.mark.parametrize(("shape", "padding", "cutout"), [
    ((64, 3, 32, 32), 4, 16), ((9, 3, 64, 64), 4, 16), ((30, 1, 8, 12), 1, 4)])
def test_a_batch_is_augmented_as_each_image_alone(shape: tuple[int, ...], padding: int, cutout: int) -> None:
    x = torch.rand(shape)
    got = augment(x, generator_for(3, "augment"), padding, True, cutout)
    assert torch.equal(got, one_by_one(x, generator_for(3, "augment"), padding, True, cutout))


def test_a_network_that_normalises_sees_the_published_cutout() -> None:
    """The published code cuts out after normalisation: the square is the mean, and the border of a crop is black."""
    x, mean = torch.rand(64, 3, 8, 12), torch.tensor([0.4, 0.5, 0.3])
    ours = augment(x, generator_for(3, "augment"), 2, True, 4, blank=mean)
    seen = (ours - mean[:, None, None]) / 0.25
    published = one_by_one(x, generator_for(3, "augment"), 2, True, 4, mean, 0.25)
    assert torch.allclose(seen, published, atol=1e-6)
    assert ((seen == 0) == (published == 0)).all() and (published == 0).any() and ours.min() >= 0 and ours.max() <= 1
