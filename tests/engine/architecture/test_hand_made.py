"""Hand-made networks: published numbers, the module against a plain transcription, and invalid names."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.architecture.hand_made import residual_shape
from engine.architecture.network import OFFERED, named_network, network_name
from engine.errors import ConfigError
from engine.space.residual import ResidualNetwork

SMALL = ("resnet-18", "preact-resnet-18", "wide-resnet-10-1", "wide-resnet-16-2", "wide-resnet-10-1@12.6", "resnet-18@7.3")


@pytest.mark.parametrize(("name", "parameters"), [
    # kuangliu/pytorch-cifar; the 1,024 of the last BatchNorm come on top in He et al. 2016b; Zagoruyko's table; Madry's network.
    ("resnet-18", 11_173_962), ("preact-resnet-18", 11_171_146 + 2 * 512), ("wide-resnet-28-10", 36_479_194),
    ("wide-resnet-34-10", 46_160_474)])
def test_the_published_numbers_of_parameters(name: str, parameters: int) -> None:
    assert named_network(name, 10, (3, 32, 32)).cost().parameters == parameters


@pytest.mark.parametrize(("name", "millions", "giga_macs"), [
    # The table of RobustResNets (NeurIPS 2021).
    ("wide-resnet-28-10", 36.5, 5.20), ("wide-resnet-34-12", 66.5, 9.60), ("wide-resnet-46-14", 128, 18.6),
    ("wide-resnet-70-16", 267, 38.8)])
def test_the_published_sizes_of_wide_networks(name: str, millions: float, giga_macs: float) -> None:
    found = named_network(name, 10, (3, 32, 32)).cost()
    assert found.parameters / 1e6 == pytest.approx(millions, rel=5e-3) and found.macs / 1e9 == pytest.approx(giga_macs, rel=1e-2)


@pytest.mark.parametrize("name", OFFERED)
def test_neither_parameters_nor_macs_fall_when_the_width_grows(name: str) -> None:
    network = named_network(name, 10, (3, 32, 32))
    costs = [network.at_width(width).cost() for width in network.widths[:800]]
    assert all(one.parameters <= other.parameters and one.macs <= other.macs for one, other in zip(costs, costs[1:]))
    assert network.at_width(network.width) == network and costs[0].macs < network.cost().macs


@pytest.mark.parametrize(("name", "stem", "widths"), [
    ("wide-resnet-10-1", 16, (16, 32, 64)), ("wide-resnet-10-1@12.6", 13, (13, 25, 50)), ("wide-resnet-28-10@1", 1, (10, 20, 40)),
    ("resnet-18@7.5", 8, (8, 15, 30, 60)), ("resnet-18@64", 64, (64, 128, 256, 512))])
def test_each_stage_has_a_multiple_of_the_base_channels(name: str, stem: int, widths: tuple[int, ...]) -> None:
    shape = residual_shape(name)
    assert shape is not None and (shape.stem, shape.widths) == (stem, widths)


def test_the_published_width_has_the_published_name() -> None:
    assert network_name("wide-resnet-28-10@16.0") == "wide-resnet-28-10" and network_name("ResNet-18@32") == "resnet-18@32"
    assert named_network("WIDE-resnet-10-1@12.6").title == "WRN-10-1@12.6"
    assert named_network("wide-resnet-10-1@15.9").name == "wide-resnet-10-1", "15.9 base channels round to the same network"


def counted(network: nn.Module, x: Tensor) -> tuple[int, int]:
    """Return (parameters, MACs of one image), counted while the network runs."""
    macs = 0

    def count(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        nonlocal macs
        macs += module.weight[0].numel() * output[0].numel()

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    network(x)
    return sum(p.numel() for p in network.parameters()), macs


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64), (3, 9, 15)])
def test_arithmetic_is_what_the_network_has(name: str, shape: tuple[int, int, int]) -> None:
    network = ResidualNetwork(residual_shape(name), classes=7, image_shape=shape).eval()
    found = named_network(name, 7, shape).cost()
    assert counted(network, torch.rand(1, *shape)) == (found.parameters, found.macs)
    assert network(torch.rand(2, *shape)).shape == (2, 7)


def published(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    """Return the logits in evaluation mode as the papers define them, from a state dict alone."""
    def norm(x: Tensor, at: str) -> Tensor:
        mean, variance = weights[f"{at}.running_mean"], weights[f"{at}.running_var"]
        y = (x - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
        return weights[f"{at}.weight"][:, None, None] * y + weights[f"{at}.bias"][:, None, None]

    def conv(x: Tensor, at: str, stride: int, padding: int = 1) -> Tensor:
        return F.conv2d(x, weights[f"{at}.weight"], None, stride, padding)

    before = not name.startswith("resnet")
    x = conv((x - weights["mean"][:, None, None]) / weights["std"][:, None, None], "stem", 1)
    x = x if before else norm(x, "norm").relu()
    stages, depth = (3, (int(name.partition("@")[0].split("-")[2]) - 4) // 6) if name.startswith("wide") else (4, 2)
    for block in range(stages * depth):
        at, stride = f"blocks.{block}", 2 if block and block % depth == 0 else 1
        if before:
            activated = norm(x, f"{at}.norm1").relu()
            shortcut = conv(activated, f"{at}.shortcut", stride, 0) if f"{at}.shortcut.weight" in weights else x
            x = shortcut + conv(norm(conv(activated, f"{at}.conv1", stride), f"{at}.norm2").relu(), f"{at}.conv2", 1)
        else:
            projected = f"{at}.shortcut.0.weight" in weights
            shortcut = norm(conv(x, f"{at}.shortcut.0", stride, 0), f"{at}.shortcut.1") if projected else x
            y = norm(conv(x, f"{at}.conv1", stride), f"{at}.norm1").relu()
            x = (shortcut + norm(conv(y, f"{at}.conv2", 1), f"{at}.norm2")).relu()
    x = norm(x, "norm").relu() if before else x
    return x.mean((2, 3)) @ weights["classifier.weight"].T + weights["classifier.bias"]


@pytest.mark.parametrize("name", SMALL)
def test_the_network_is_the_papers(name: str) -> None:
    torch.manual_seed(0)
    network = ResidualNetwork(residual_shape(name), classes=5, image_shape=(3, 8, 8), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in ((module.running_mean, -1), (module.running_var, 0.5), (module.weight, 0.5), (module.bias, -1)):
                nn.init.uniform_(tensor, low, 1.5)
    network = network.double().eval()
    x = torch.rand(3, 3, 8, 8, dtype=torch.float64)
    assert torch.allclose(network(x), published(network.state_dict(), name, x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["resnet-18", "wide-resnet-16-2"])
def test_weights_begin_as_he_et_al_draw_them(name: str) -> None:
    torch.manual_seed(1)
    network = ResidualNetwork(residual_shape(name), classes=10, image_shape=(3, 32, 32))
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 10_000:
            outputs, _, height, width = module.weight.shape
            assert float(module.weight.detach().std()) == pytest.approx((2 / (outputs * height * width)) ** 0.5, rel=0.03)
    assert not network.classifier.bias.any()


def test_names_are_read_as_they_are_written_in_papers() -> None:
    assert [named_network(name).title for name in OFFERED] == ["ResNet-18", "PreActResNet-18", "WRN-28-10", "WRN-34-10"]
    assert network_name(" Wide-ResNet-34-10 ") == "wide-resnet-34-10" and network_name("Derived") == "derived"
    assert network_name("wide-resnet-028-10") == "wide-resnet-28-10"


@pytest.mark.parametrize(("name", "sentence"), [
    ("resnet-19", "network must be derived, resnet-18, preact-resnet-18 or wide-resnet-N-K .* got 'resnet-19'"),
    ("", "must be derived"), ("wide-resnet-28", "must be derived"), ("wide-resnet-28-10-1", "must be derived"),
    ("wide-resnet-27-10", "must be 6 m \\+ 4 .* got 27 and 10; use for example wide-resnet-28-10"),
    ("resnet-18@", "base channels of ResNet-18 must be a number from 1 to 1024 with at most one decimal, got ''"),
    ("wide-resnet-10-1@0.9", "got '0.9'; write for example wide-resnet-10-1@8"), ("wide-resnet-10-1@12.65", "got '12.65'"),
    ("wide-resnet-10-1@2000", "got '2000'"), ("wide-resnet-10-1@12@13", "got '12@13'"), ("resnet-19@3", "must be derived"),
    ("wide-resnet-4-1", "use for example wide-resnet-10-1"), ("wide-resnet-28-0", "use for example wide-resnet-28-1")])
def test_names_that_are_none_are_refused(name: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        network_name(name)
