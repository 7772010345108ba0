"""Interval bounds against points of the ball, the natural margins, and linear networks, where they are exact."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.architecture.catalogue import find_genotype
from engine.architecture.hand_made import residual_shape
from engine.attack.certified import BATCH, Interval, box, certify
from engine.attack.walk import margins
from engine.errors import ConfigError
from engine.space.network import Network
from engine.space.residual import ResidualNetwork
from tests.engine.architectures import random_genotype

GENOTYPES = ("ARNAS", "DARTS_V2", "PC_DARTS_CIFAR", "E2RNAS_V1_CIFAR10", "AmoebaNet")
RESIDUAL = ("resnet-18", "preact-resnet-18", "wide-resnet-10-1")
SEQUENTIAL: dict[str, list[nn.Module]] = {
    "dense": [nn.Flatten(), nn.Linear(56, 12), nn.ReLU(), nn.Linear(12, 6)],
    "pools": [nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.AvgPool2d(3, 1, padding=1),
              nn.AdaptiveAvgPool2d(2), nn.Dropout(0.5), nn.Flatten(), nn.Linear(16, 6, bias=False)]}
NAMES = [*GENOTYPES, *RESIDUAL, *SEQUENTIAL, "random-0", "random-1"]


def build(name: str) -> nn.Module:
    """Return a network of 7x8 images (an odd height, which reductions pad) and 6 classes, with running statistics of its own."""
    if name in SEQUENTIAL:
        network: nn.Module = copy.deepcopy(nn.Sequential(*SEQUENTIAL[name]))
        for module in network.modules():  # the weights drawn at import depend on whatever was imported before
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    elif name in RESIDUAL:
        narrow = replace(residual_shape(name), base_channels=4.0, multiples=(1, 1, 2))
        network = ResidualNetwork(narrow, classes=6, image_shape=(1, 7, 8), mean=(0.4,), std=(0.3,))
    else:
        genotype = random_genotype(int(name[-1])) if name.startswith("random") else find_genotype(name)
        network = Network(genotype, channels=4, layers=4, classes=6, image_shape=(1, 7, 8), mean=(0.4,), std=(0.3,))
    with torch.no_grad():
        for _ in range(3):
            network(torch.rand(16, 1, 7, 8))
    return network.eval()


def batch(images: int = 3) -> tuple[Tensor, Tensor]:
    """Return images with pixels at both ends of the range."""
    return (torch.rand(images, 1, 7, 8) * 1.4 - 0.2).clamp(0, 1), torch.arange(images) % 6


@torch.no_grad()
def exact_margins(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return margins(copy.deepcopy(network).double().eval()(x.double()), y)


def points(network: nn.Module, x: Tensor, y: Tensor, epsilon: float) -> Tensor:
    """Return points [8, B, C, H, W] of the ball: random ones, random corners, and the two that the margin's gradient leads to."""
    lower, upper = box(x, epsilon)
    start = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(margins(network(start), y).sum(), start)
    random = [lower + torch.rand_like(lower) * (upper - lower) for _ in range(3)]
    corners = [torch.where(torch.rand_like(lower) < 0.5, lower, upper) for _ in range(3)]
    return torch.stack([*random, *corners, torch.where(gradient > 0, lower, upper), torch.where(gradient > 0, upper, lower)])


@pytest.mark.parametrize("name", NAMES)
def test_no_point_of_the_ball_is_below_the_bound(name: str) -> None:
    """The margin of every point is at least the bound, at small and at large radii."""
    network, (x, y) = build(name), batch()
    for epsilon in (1e-6, 1e-3, 0.1):
        bound = certify(network, x, y, epsilon=epsilon).margin
        margin = exact_margins(network, points(network, x, y, epsilon).flatten(0, 1), y.repeat(8)).view(8, -1)
        assert (margin >= bound - 1e-9 * bound.abs().clamp(min=1)).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_radius_of_zero_gives_the_natural_margin_and_larger_radii_less(name: str) -> None:
    """At epsilon 0 the bound is the margin itself, and it falls as epsilon rises."""
    network, (x, y) = build(name), batch()
    bounds = torch.stack([certify(network, x, y, epsilon=epsilon).margin for epsilon in (0.0, 1e-5, 0.01, 0.3)])
    assert torch.allclose(bounds[0], exact_margins(network, x, y), rtol=1e-12, atol=1e-12)
    assert (bounds.diff(dim=0) <= 0).all()


def test_a_linear_network_is_bounded_exactly() -> None:
    """The bound is the analytic minimum over the clipped box, moved against the difference of two rows of the weight."""
    network, (x, y) = nn.Sequential(nn.Flatten(), nn.Linear(56, 6)), batch()
    weight, bias = (parameter.detach().double() for parameter in network[1].parameters())
    lower, upper = (bounds.flatten(1) for bounds in box(x, 0.2))
    worst = torch.full((len(x),), torch.inf, dtype=torch.float64)
    for row, label in enumerate(y.tolist()):
        for other in set(range(6)) - {label}:
            difference = weight[label] - weight[other]
            point = torch.where(difference > 0, lower[row], upper[row])
            worst[row] = min(worst[row], difference @ point + bias[label] - bias[other])
    assert torch.allclose(certify(network, x, y, epsilon=0.2).margin, worst, rtol=0, atol=1e-12)


def test_a_certified_image_is_right_at_every_point() -> None:
    """Some images are certified and some are not; the certified ones are classified correctly at every point tried."""
    torch.manual_seed(0)
    network, (x, _) = build("dense"), batch(40)
    y = network(x).argmax(1)
    certified = certify(network, x, y, epsilon=0.01).certified
    assert 0 < int(certified.sum()) < 40
    margin = exact_margins(network, points(network, x, y, 0.01).flatten(0, 1), y.repeat(8)).view(8, -1)
    assert (margin[:, certified] > 0).all()


class Shifted(nn.Module):
    """A network whose last operation is not its linear layer."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x) + 0.5


def test_differences_of_rows_are_tighter_than_bounds_of_each_logit() -> None:
    """If something follows the linear layer, each logit is bounded alone: true, never tighter, and equal at epsilon 0."""
    network, (x, y) = build("dense"), batch()
    tight, loose = (certify(one, x, y, epsilon=0.05).margin for one in (network, Shifted(network)))
    assert (loose < tight).all()
    assert torch.allclose(certify(Shifted(network), x, y, epsilon=0.0).margin, exact_margins(network, x, y))


OPERATIONS = {
    "minus a constant": lambda x: x - 0.3,
    "times constants of both signs": lambda x: x * torch.tensor([-2.0, 1.0]).double().view(2, 1, 1),
    "over a negative constant": lambda x: x / -0.7, "minus itself": lambda x: x[:, :1] - x[:, 1:],
    "joined with a constant": lambda x: torch.cat([x, torch.ones(3, 1, 5, 6).double()], 1),
    "padded": lambda x: F.pad(x, (1, 0, 2, 0), value=0.2), "max pool": lambda x: F.max_pool2d(x, 3, 2, padding=1),
    "avg pool": lambda x: F.avg_pool2d(x, 3, 2, padding=1, count_include_pad=False), "mean": lambda x: x.mean(dim=(2, 3)),
    "grouped convolution": lambda x: F.conv2d(x, torch.tensor([1.0, -1.0]).double().view(2, 1, 1, 1).expand(2, 1, 3, 3),
                                              torch.tensor([0.1, 0.2]).double(), 2, 2, 2, groups=2),
    "batch norm": lambda x: F.batch_norm(x, torch.tensor([0.1, 0.5]).double(), torch.tensor([1.0, 0.1]).double(),
                                         torch.tensor([-1.0, 2.0]).double(), torch.tensor([0.0, 1.0]).double()),
    "plain batch norm": lambda x: F.batch_norm(x, torch.tensor([0.1, 0.5]).double(), torch.tensor([1.0, 0.1]).double()),
    "bounds": lambda x: x.clamp(0.1, 0.6), "flat": lambda x: x.permute(0, 2, 3, 1).flatten(1)[:, 3]}


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_bounds_its_values(name: str) -> None:
    """Values at corners of the box lie within the bounds, and the bounds of a box without width are the value."""
    lower = torch.rand(3, 2, 5, 6).double()
    upper = lower + torch.rand_like(lower)
    bounds = OPERATIONS[name](Interval(lower, upper))
    assert (bounds.lower <= bounds.upper).all()
    for _ in range(20):
        value = OPERATIONS[name](torch.where(torch.rand_like(lower) < 0.5, lower, upper))
        assert value.shape == bounds.shape == bounds.lower.shape
        assert (value >= bounds.lower - 1e-12).all() and (value <= bounds.upper + 1e-12).all()
    at_point = OPERATIONS[name](Interval(lower, lower))
    assert torch.allclose(at_point.lower, OPERATIONS[name](lower)) and torch.allclose(at_point.upper, OPERATIONS[name](lower))


class Squared(nn.Module):
    """Multiplies an activation by itself."""

    def forward(self, x: Tensor) -> Tensor:
        return x * x


class Inverted(nn.Module):
    """Divides by an activation, which may be 0."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.ones(x.shape).double() / x


@pytest.mark.parametrize("module, expected", [
    (nn.Softmax(1), "no form of the operation aten._softmax"), (Squared(), "product of two activations"),
    (Inverted(), "division by one"),
    (nn.BatchNorm1d(56, track_running_stats=False), "BatchNorm with running statistics")])
def test_operations_without_an_interval_form_are_refused(module: nn.Module, expected: str) -> None:
    x, y = batch()
    with pytest.raises(ConfigError, match=expected):
        certify(nn.Sequential(nn.Flatten(), module, nn.Linear(56, 6)), x, y, epsilon=0.1)


def test_the_network_stays_as_it_was() -> None:
    """Mode, parameters, statistics and their types are unchanged, and no gradient is left."""
    network, (x, y) = build("ARNAS").train(), batch()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    assert not certify(network, x, y, epsilon=0.1).margin.requires_grad
    assert all(module.training for module in network.modules())
    after = network.state_dict()
    assert all(torch.equal(after[name], value) and after[name].dtype == value.dtype for name, value in state.items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


def test_batches_make_no_difference() -> None:
    """More images than one pass takes, or none, are certified one by one."""
    network, (x, y) = build("dense"), batch(BATCH + 3)
    whole = certify(network, x, y, epsilon=0.1).margin
    assert whole.shape == (BATCH + 3,)
    assert torch.allclose(whole[-2:], certify(network, x[-2:], y[-2:], epsilon=0.1).margin, rtol=1e-12)
    assert certify(network, x[:0], y[:0], epsilon=0.1).margin.shape == (0,)
