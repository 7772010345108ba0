"""The compiled frozen form: every image by itself, exact gradients, safe use of memory and threads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from engine.architecture.catalogue import find_genotype
from engine.architecture.genotype import KINDS_OF_DARTS
from engine.errors import ConfigError
from engine.space.compiled.build import unavailable
from engine.space.compiled.frozen import Frozen, serves
from engine.space.compiled.steps import placed, plane
from engine.space.derived import frozen_by_layout
from engine.space.network import Network
from tests.engine.architectures import random_genotype
from tests.engine.space.test_derived import LARGE, ODD, ROWS, assert_close, images, network

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Run the test with two of torch's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def compiled(built: Network) -> Frozen:
    frozen = built.frozen()
    assert isinstance(frozen, Frozen)
    return frozen


def gradient(frozen: Frozen, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(frozen(x).sin().sum(), x)[0]


def test_logits_and_gradient_of_an_image_are_bit_equal_in_any_batch() -> None:
    frozen, x = compiled(network(find_genotype("ARNAS"), ROWS).eval().float()), images(ROWS, 37).float()
    logits, slopes = frozen(x), gradient(frozen, x)
    for part in (slice(0, 1), slice(5, 6), slice(3, 20), slice(20, 37)):
        assert torch.equal(frozen(x[part]), logits[part]) and torch.equal(gradient(frozen, x[part]), slopes[part])


@pytest.mark.parametrize("shape", [ROWS, LARGE])
def test_threads_do_not_change_a_bit(shape: tuple[int, int, int], two_threads: None) -> None:
    frozen, x = compiled(network(find_genotype("PC_DARTS_CIFAR"), shape).eval()), images(shape, 35)
    torch.set_num_threads(1)
    logits, slopes = frozen(x), gradient(frozen, x)
    torch.set_num_threads(2)
    for _ in range(3):
        assert torch.equal(frozen(x), logits) and torch.equal(gradient(frozen, x), slopes)


def test_two_passes_keep_their_maps_apart() -> None:
    frozen, x = compiled(network(find_genotype("DARTS_V2"), ROWS).eval()), images(ROWS, 8).split(4)
    alone = [gradient(frozen, part) for part in x]
    leaves = [part.clone().requires_grad_() for part in x]
    both = [frozen(leaf).sin().sum() for leaf in leaves]
    frozen(x[0])
    for leaf, total, expected in zip(leaves, both, alone, strict=True):
        assert torch.equal(torch.autograd.grad(total, leaf)[0], expected)


def test_of_equal_pixels_the_first_one_gets_the_gradient_of_a_maximum_as_in_pytorch() -> None:
    edges = [["max_pool_3x3", 0], ["max_pool_3x3", 1], ["skip_connect", 0], ["max_pool_3x3", 2]]
    cell = {"normal": edges, "normal_concat": [2, 3], "reduce": edges, "reduce_concat": [2, 3]}
    built = network(type(find_genotype("DARTS_V2")).from_dict(cell), ROWS).eval()
    x = torch.full((2, *ROWS), 0.5, dtype=torch.float64).requires_grad_()
    expected = torch.autograd.grad(built(x).sin().sum(), x)[0]
    assert_close(gradient(compiled(built), x.detach()), expected)


@pytest.mark.parametrize("shape", [ROWS, (3, 12, 20), (2, 32, 8)])
def test_gradients_of_random_networks(shape: tuple[int, int, int]) -> None:
    for seed in range(6):
        built = network(random_genotype(seed, KINDS_OF_DARTS), shape).eval()
        if serves(built, shape[1:]):
            x = images(shape).requires_grad_()
            assert_close(gradient(compiled(built), x.detach()), torch.autograd.grad(built(x).sin().sum(), x)[0])


def test_as_accurate_in_float32_as_pytorch() -> None:
    built, x = network(find_genotype("ARNAS"), ROWS, channels=8).eval(), images(ROWS, 64)
    exact, single = built(x), built.float()
    errors = [(form(x.float()) - exact).abs().max() for form in (compiled(single), frozen_by_layout(single, ROWS[1:]))]
    assert errors[0] < 3 * errors[1]


def test_a_second_derivative_and_other_images_are_refused() -> None:
    frozen, x = compiled(network(find_genotype("ARNAS"), ROWS).eval()), images(ROWS).requires_grad_()
    slopes = torch.autograd.grad(frozen(x).sum(), x, create_graph=True)[0]
    with pytest.raises(ConfigError, match="must be differentiated once"):
        slopes.sum().backward()
    for wrong in (images(LARGE), images(ROWS).float()):
        with pytest.raises(ConfigError, match="takes images"):
            frozen(wrong)


def test_no_images_give_no_logits() -> None:
    assert compiled(network(find_genotype("ARNAS"), ROWS).eval())(images(ROWS, 0)).shape == (0, 10)


def test_serves_even_maps_without_7x1_convolutions() -> None:
    for name, shape, expected in (("ARNAS", ROWS, True), ("ARNAS", LARGE, True), ("ARNAS", ODD, False),
                                  ("AmoebaNet", ROWS, False)):
        assert serves(network(find_genotype(name), shape), shape[1:]) is expected


def test_buffers_that_live_at_the_same_time_have_places_of_their_own() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        numbers = torch.randint(1, 9, (12, 3), generator=generator).tolist()
        buffers = [(channels, (height, 4)) for channels, height, _ in numbers]
        lifetimes = [(number // 2, number // 2 + length) for number, (*_, length) in enumerate(numbers)]
        places, size = placed(buffers, lifetimes)
        spans = [(place, place + channels * plane(each)) for place, (channels, each) in zip(places, buffers, strict=True)]
        assert max(end for _, end in spans) == size <= sum(end - start for start, end in spans)
        for i in range(12):
            for j in range(i):
                alive = lifetimes[i][0] <= lifetimes[j][1] and lifetimes[j][0] <= lifetimes[i][1]
                assert not alive or spans[i][1] <= spans[j][0] or spans[j][1] <= spans[i][0]
