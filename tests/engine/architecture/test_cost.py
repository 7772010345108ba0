"""Parameters and MACs by arithmetic against published figures and against real networks, counted with hooks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from engine.architecture.catalogue import CATALOG, find_genotype
from engine.architecture.cost import FREE, Cost, breakdown, cost
from engine.architecture.genotype import KINDS_OF_ARNAS, KINDS_OF_DARTS, Genotype
from engine.architecture.placement import RULES
from engine.architecture.transplant import read_grafts, transplant
from engine.errors import ConfigError
from engine.space.network import Network
from tests.engine.architectures import random_genotype

# (name, C, layers, parameters in millions, MACs in millions), all at 32x32 and 10 classes unless given.
PUBLISHED = [
    ("DARTS_V2", 36, 20, "3.349", "528.4"),
    ("ADVRUSH", 36, 20, "4.158", "645.3"),
    ("RACL", 36, 20, "3.571", "550.0"),
    ("RNAS_H", 36, 20, "3.496", "552.2"),
    ("LRNAS_CIFAR10", 36, 20, "2.180", "346.1"),
    ("E2RNAS_V2_CIFAR10", 36, 20, "2.546", "416.3"),
    ("E2RNAS_V1_CIFAR10", 16, 20, "0.449", "71"),
    ("E2RNAS_V1_CIFAR10", 25, 20, "1.042", "164"),
    ("E2RNAS_V1_CIFAR10", 36, 20, "2.102", "328"),
    ("E2RNAS_V1_CIFAR10", 46, 20, "3.383", "526"),
]


def printed(number: int, like: str) -> str:
    """Return `number` in millions with as many decimals as `like`."""
    decimals = len(like.partition(".")[2])
    return f"{number / 1e6:.{decimals}f}"


@pytest.mark.parametrize(("name", "channels", "layers", "parameters", "macs"), PUBLISHED)
def test_published_sizes(name: str, channels: int, layers: int, parameters: str, macs: str) -> None:
    """Parameters and MACs round to the printed figures of the papers."""
    got = cost(find_genotype(name), channels=channels, layers=layers, classes=10, image_shape=(3, 32, 32))
    assert (printed(got.parameters, parameters), printed(got.macs, macs)) == (parameters, macs)


def test_arnas_exactly() -> None:
    got = cost(find_genotype("ARNAS"), channels=64, layers=20, classes=10, image_shape=(3, 32, 32))
    assert got.parameters == 4520394
    assert printed(got.macs, "1240.2") == "1240.2"
    assert got.macs == pytest.approx(1240.15e6, rel=1e-3)


def test_arnas_on_tiny_imagenet() -> None:
    got = cost(find_genotype("ARNAS"), channels=84, layers=14, classes=200, image_shape=(3, 64, 64))
    assert (printed(got.parameters, "5.406"), printed(got.macs, "5819.0")) == ("5.406", "5819.0")


def measured(genotype: Genotype, *, auxiliary: bool, **sizes: object) -> Cost:
    """Count on the real network: parameters by `numel`, MACs by hooks on convolutions and linear layers."""
    network = Network(genotype, auxiliary=auxiliary, **sizes).eval()
    macs = 0

    def count(module: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal macs
        if isinstance(module, nn.Linear):
            macs += module.in_features * output[0].numel()
        else:
            macs += module.in_channels // module.groups * module.kernel_size[0] * module.kernel_size[1] * output[0].numel()

    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(count)
    with torch.no_grad():
        network.forward_with_auxiliary(torch.rand(1, *sizes["image_shape"]))
    return Cost(sum(p.numel() for p in network.parameters()), macs)


@pytest.mark.parametrize("name", [name for name, entry in CATALOG.items() if entry.genotype])
def test_every_catalogue_network_costs_what_is_counted(name: str) -> None:
    """The closed-form cost equals the parameters of the built module and the MACs counted in a forward pass."""
    sizes = {"channels": 4, "layers": 5, "classes": 7, "image_shape": (1, 8, 8)}
    assert cost(find_genotype(name), **sizes) == measured(find_genotype(name), auxiliary=False, **sizes)


@pytest.mark.parametrize("image_shape", [(1, 8, 8), (3, 32, 32), (2, 17, 30), (1, 1, 1), (3, 9, 5), (1, 28, 28)])
@pytest.mark.parametrize("kinds", [KINDS_OF_ARNAS, KINDS_OF_DARTS])
def test_random_networks_cost_what_is_counted(kinds: tuple[str, ...], image_shape: tuple[int, int, int]) -> None:
    """The closed-form cost equals the count on the built module for random genotypes, kinds and image sizes."""
    for seed, layers, channels in ((0, 3, 3), (1, 4, 4), (2, 7, 2)):
        genotype = random_genotype(seed, kinds, nodes=3 + seed)
        sizes = {"channels": channels, "layers": layers, "classes": 10, "image_shape": image_shape}
        for auxiliary in (False, True):
            if auxiliary and min(image_shape[1:]) < 17:
                continue
            assert cost(genotype, auxiliary=auxiliary, **sizes) == measured(genotype, auxiliary=auxiliary, **sizes)


@pytest.mark.parametrize("rule", list(RULES))
@pytest.mark.parametrize(("ratio", "channels"), [("1:2:2", 3), ("1:2:4", 3), ("1:1:1", 2), ("1:7:5", 2)])
def test_networks_of_every_rule_and_ratio_cost_what_is_counted(rule: str, ratio: str, channels: int) -> None:
    """The closed-form cost equals the count on the built module for every placement rule and channel ratio."""
    for layers in (3, 5):
        genotype = random_genotype(layers, tuple(sorted(RULES[rule].kinds)))
        sizes = {"channels": channels, "layers": layers, "classes": 5, "image_shape": (1, 17, 18), "placement": rule,
                 "width_ratio": ratio}
        for auxiliary in (False, True):
            assert cost(genotype, auxiliary=auxiliary, **sizes) == measured(genotype, auxiliary=auxiliary, **sizes)


def test_the_published_rule_and_ratio_are_the_defaults() -> None:
    sizes = {"channels": 6, "layers": 7, "classes": 5, "image_shape": (3, 32, 32)}
    for name, placement, ratio, other in (
            ("ARNAS", "accurate_first", "1:2:2", "1:2:4"), ("DARTS_V2", "normal", "1:2:4", "1:2:2")):
        genotype = find_genotype(name)
        assert cost(genotype, **sizes) == cost(genotype, **sizes, placement=placement, width_ratio=ratio)
        assert cost(genotype, **sizes) != cost(genotype, **sizes, width_ratio=other)


def test_places_exchanged_are_cells_exchanged() -> None:
    """The rule robust_first equals the published rule after the two cells are swapped."""
    genotype = find_genotype("ARNAS")
    swapped = transplant(genotype, read_grafts("accurate:robust, robust:accurate"))
    sizes = {"channels": 8, "layers": 8, "classes": 10, "image_shape": (3, 32, 32)}
    for rule, other in (("robust_first", "accurate_first"), ("robust_first_third", "accurate_first_third")):
        assert cost(genotype, placement=rule, **sizes) == cost(swapped, placement=other, **sizes)
        assert cost(genotype, placement=rule, **sizes) != cost(genotype, placement=other, **sizes)


def test_an_odd_width_is_refused_where_a_reduction_splits_it() -> None:
    sizes = {"layers": 5, "classes": 10, "image_shape": (1, 8, 8)}
    for build in (cost, Network):
        with pytest.raises(ConfigError, match="channels must be even with the width ratio 1:1:1.*got 3; use 4"):
            build(find_genotype("ARNAS"), channels=3, width_ratio="1:1:1", **sizes)
        with pytest.raises(ConfigError, match="must be a rule for the cells normal, reduce, got robust_first.*use normal"):
            build(find_genotype("DARTS_V2"), channels=4, placement="robust_first", **sizes)


def test_the_auxiliary_head_of_both_published_image_sizes() -> None:
    for side, classes in ((32, 10), (64, 200)):
        sizes = {"channels": 4, "layers": 3, "classes": classes, "image_shape": (3, side, side)}
        genotype = find_genotype("ARNAS")
        assert cost(genotype, auxiliary=True, **sizes) == measured(genotype, auxiliary=True, **sizes)


def test_parts_sum_to_the_whole_and_carry_the_names_of_the_network() -> None:
    """The costs of the parts sum to the cost of the network."""
    sizes = {"channels": 4, "layers": 5, "classes": 10, "image_shape": (3, 32, 32)}
    genotype = find_genotype("ARNAS")
    parts = breakdown(genotype, auxiliary=True, **sizes)
    assert sum((part.cost for part in parts), FREE) == cost(genotype, auxiliary=True, **sizes)
    network = Network(genotype, auxiliary=True, **sizes)
    for part in parts:
        assert sum(p.numel() for p in network.get_submodule(part.name).parameters()) == part.cost.parameters
    assert [part.kind for part in parts if part.kind] == ["accurate", "reduce", "accurate", "reduce", "robust"]


def test_sizes_that_no_network_has_are_refused() -> None:
    genotype = find_genotype("ARNAS")
    with pytest.raises(ConfigError, match="auxiliary"):
        cost(genotype, channels=4, layers=5, classes=10, image_shape=(1, 8, 8), auxiliary=True)
    with pytest.raises(ConfigError, match="layers"):
        cost(genotype, channels=4, layers=2, classes=10, image_shape=(1, 8, 8))
