"""Channels last in memory: the same results in float64, and maps that really have this memory format."""

from __future__ import annotations

import copy
import os

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.architecture.catalogue import find_genotype
from engine.architecture.hand_made import residual_shape
from engine.configuring import build
from engine.space.building import with_channels_last
from engine.space.network import Network
from engine.space.residual import ResidualNetwork
from engine.train.retrain import Retraining

DEVICE = torch.device(os.environ.get("RAMPART_TEST_DEVICE", "cpu"))
SHAPE = (3, 20, 20)


def network_of(name: str) -> nn.Module:
    torch.manual_seed(3)
    if name == "derived":
        return Network(find_genotype("ARNAS"), channels=6, layers=4, classes=5, image_shape=SHAPE, auxiliary=True)
    return ResidualNetwork(residual_shape(name), classes=5, image_shape=SHAPE)


def images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(6, *SHAPE, generator=generator, dtype=torch.float64).to(DEVICE), (torch.arange(6) % 5).to(DEVICE)


@pytest.mark.parametrize(("name", "training"), [
    ("derived", True), ("derived", False), ("wide-resnet-10-1", True), ("wide-resnet-10-1", False), ("resnet-18", True),
    ("preact-resnet-18", False), *(pytest.param(*pair, marks=pytest.mark.slow) for pair in (
        ("resnet-18", False), ("preact-resnet-18", True)))])
def test_channels_last_are_the_same_network(name: str, training: bool) -> None:
    plain = network_of(name).to(DEVICE, torch.float64).train(training)
    last = with_channels_last(copy.deepcopy(plain))
    x, y = images()
    layouts: list[bool] = []
    for module in last.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda _, __, maps: layouts.append(
                maps.is_contiguous(memory_format=torch.channels_last) or maps.shape[2:] == (1, 1)))
    gradients = []
    for network in (plain, last):
        inputs = x.clone().requires_grad_(True)
        logits = network(inputs)
        gradients.append((logits, *torch.autograd.grad(F.cross_entropy(logits, y), [inputs, *(
            parameter for at, parameter in network.named_parameters() if not at.startswith("auxiliary"))])))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    # Called in evaluation mode, a derived network is its modules as they are; attacks and measurements take its frozen form.
    assert layouts and all(layouts) or (name == "derived" and not training)
    for at, value in plain.state_dict().items():
        torch.testing.assert_close(last.state_dict()[at], value, rtol=1e-9, atol=1e-12)


def test_a_training_resumes_bit_for_bit() -> None:
    config = build("retrain", changes={"network": "wide-resnet-10-1", "channels_last": True, "attack_steps": 2,
                                       "precision": "bf16", "epochs": 2})
    x, y = images()
    x = x.float()

    def training() -> Retraining:
        return Retraining(config, with_channels_last(network_of("wide-resnet-10-1").to(DEVICE)))

    whole, first, second = training(), training(), training()
    for step in range(3):
        whole.step(x, y, epoch=0, step=step)
    first.step(x, y, epoch=0, step=0)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for step in (1, 2):
        second.step(x, y, epoch=0, step=step)
    for at, value in whole.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[at]), at
