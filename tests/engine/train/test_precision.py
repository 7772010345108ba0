"""Mixed precision: near float32, gradients for every weight, float32 state, measurements in float32."""

from __future__ import annotations

import copy
import os

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from engine.architecture.catalogue import find_genotype
from engine.architecture.hand_made import residual_shape
from engine.attack.guard import attacked, under_attack
from engine.configuring import build
from engine.space.network import Network
from engine.space.primitives import dropped_scale
from engine.space.residual import ResidualNetwork
from engine.train.precision import under_autocast
from engine.train.retrain import Retraining

DEVICE = torch.device(os.environ.get("RAMPART_TEST_DEVICE", "cpu"))
# Rows (small maps), maps with the channels first and last in memory, 7x1 convolutions, hand-made.
SHAPES = {"rows": ("ARNAS", 6, (1, 8, 8)), "maps": ("DARTS_V2", 6, (3, 20, 20)), "channels last": ("ARNAS", 16, (3, 20, 20)),
          "wide kernels": ("AmoebaNet", 4, (1, 12, 12))}
HAND_MADE = ("resnet-18", "wide-resnet-10-1")


def network_of(name: str) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """Return (network, images, labels)."""
    torch.manual_seed(3)
    if name in HAND_MADE:
        shape = (3, 16, 16)
        network: nn.Module = ResidualNetwork(residual_shape(name), classes=5, image_shape=shape)
    else:
        genotype, channels, shape = SHAPES[name]
        network = Network(find_genotype(genotype), channels=channels, layers=3, classes=5, image_shape=shape)
    return network.to(DEVICE), torch.rand(24, *shape, device=DEVICE), torch.arange(24, device=DEVICE) % 5


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the length of the difference relative to the second's."""
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("name", [*SHAPES, *HAND_MADE])
def test_a_step_is_that_of_float32_within_the_rounding(name: str) -> None:
    network, x, y = network_of(name)
    plain, found = network.train(), copy.deepcopy(network).train()
    expected = plain(x)
    logits = under_autocast("bf16", found)(x)
    assert logits.dtype == torch.float32
    assert 0 < apart(logits.detach(), expected.detach()) < 0.05
    for output in (expected, logits):
        F.cross_entropy(output, y).backward()
    for (at, parameter), (_, theirs) in zip(found.named_parameters(), plain.named_parameters(), strict=True):
        assert parameter.grad is not None and parameter.grad.dtype == torch.float32, at
        assert torch.isfinite(parameter.grad).all() and (parameter.grad.any() or not theirs.grad.any()), at
    gradients = [torch.cat([p.grad.flatten() for p in one.parameters()]) for one in (found, plain)]
    assert float(torch.cosine_similarity(*gradients, dim=0)) > 0.9  # ReLUs that switch add to the rounding
    for (at, buffer), (_, theirs) in zip(found.named_buffers(), plain.named_buffers(), strict=True):
        assert buffer.dtype == theirs.dtype and torch.allclose(buffer.float(), theirs.float(), rtol=0.1, atol=0.02), at


@pytest.mark.parametrize("name", [*SHAPES, *HAND_MADE])
def test_what_an_attack_differentiates_is_near(name: str) -> None:
    network, x, y = network_of(name)
    with torch.no_grad():
        for _ in range(3):
            network.train()(x)  # running statistics that fit
    gradients = []
    with under_attack(network):
        for precision in ("bf16", "float32"):
            images = x.clone().requires_grad_()
            F.cross_entropy(under_autocast(precision, attacked(network))(images), y).backward()
            gradients.append(images.grad)
    assert gradients[0].dtype == torch.float32
    assert float(torch.cosine_similarity(*(gradient.flatten() for gradient in gradients), dim=0)) > 0.95


def test_float32_is_the_function_itself() -> None:
    function = torch.nn.Linear(2, 2)
    assert under_autocast("float32", function) is function


def test_a_pass_without_gradients_does_not_cut_off_the_next() -> None:
    """Autocast caches cast weights; those of a pass without gradients must not be reused by a pass with gradients."""
    network, x, y = network_of("wide-resnet-10-1")
    with torch.autocast(DEVICE.type, torch.bfloat16):  # somebody's, around both
        with torch.no_grad():
            under_autocast("bf16", network)(x)
        logits = under_autocast("bf16", network)(x)
    F.cross_entropy(logits, y).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("training", ["pgd_at", "trades", "fast_at", "natural"])
def test_state_stays_float32_and_learns(training: str) -> None:
    network, x, y = network_of("rows")
    config = build("retrain", changes={"precision": "bf16", "training": training, "attack_steps": 2, "drop_path": 0.1,
                                       "epsilon": 0.02, "learning_rate": 0.05, "epochs": 2, "average_decay": 0.5})
    retraining = Retraining(config, network)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    for step in range(3):
        retraining.step(x, y, epoch=1, step=step)
    for state in (network.state_dict(), retraining.average.network.state_dict()):
        assert {value.dtype for value in state.values()} == {torch.float32, torch.int64}
    assert not all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    momenta = [entry["momentum_buffer"] for entry in retraining.optimizer.state.values()]
    assert momenta and all(momentum.dtype == torch.float32 for momentum in momenta)


def test_measurements_are_in_float32() -> None:
    network, x, y = network_of("rows")
    found = [Retraining(build("retrain", changes={"precision": precision}), network).select(x, y)
             for precision in ("float32", "bf16")]
    assert found[0] == found[1]


def test_paths_are_dropped_as_often_in_short_numbers() -> None:
    like = torch.zeros(1, dtype=torch.bfloat16)
    kept = dropped_scale(400_000, 0.999, torch.Generator().manual_seed(0), like) > 0
    assert float(kept.float().mean()) == pytest.approx(1e-3, rel=0.2)
