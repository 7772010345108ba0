"""Objectives that a configuration adds to those of a method: their formulas, gradients, weights, passes and names."""

from __future__ import annotations

from math import log
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.config import build
from engine.errors import ConfigError
from engine.search.methods.arnas.config import ArnasConfig
from engine.search.methods.arnas.method import Arnas
from engine.search.methods.dsara.config import DsaraConfig
from engine.search.methods.dsara.method import Dsara
from engine.search.objectives import StepImages
from engine.search.registries import OBJECTIVES, implementation_of
from engine.search.weighting import mgda
from engine.space.supernet import Supernet
from tests.engine.search.functional_networks import DEVICE, FunctionalReference

RATE, EPSILON = 0.05, 0.1
SHAPE = (1, 8, 8)
OOD = ("out_of_distribution",)


def arguments(batch: int = 4, **changes: Any) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(5)
    x, xs, other = (torch.rand(batch, *SHAPE, generator=generator, dtype=torch.float64).to(DEVICE) for _ in range(3))
    y, ys = (torch.randint(3, (batch,), generator=generator).to(DEVICE) for _ in range(2))
    return {"train_batch": (x, y), "alpha_batch": (xs, ys), "learning_rate": RATE, "out_of_distribution": other,
            "generator": torch.Generator().manual_seed(1)} | changes


def supernet(backend: str | None = None) -> Supernet:
    return Supernet(channels=2, layers=3, classes=3, image_shape=SHAPE, backend=backend)


def make(backend: str | None = None, **changes: Any) -> Arnas:
    config = ArnasConfig(**({"epsilon": EPSILON, "step_size": EPSILON / 4, "attack_steps": 1} | changes))
    return Arnas(config, supernet(backend), device=DEVICE, dtype=torch.float64, seed=3)


def reference_point(seed: int = 0) -> tuple[FunctionalReference, Tensor, Tensor]:
    """The unmerged reference supernet with weights and alphas."""
    network = FunctionalReference(channels=2, layers=4, classes=3, image_shape=SHAPE)
    generator = torch.Generator().manual_seed(seed)
    return (network, network.initial_weights(generator, torch.float64, DEVICE),
            200 * network.initial_alphas(generator, torch.float64, DEVICE))


def test_the_divergence_from_the_uniform_distribution_by_its_definition() -> None:
    network, weights, alphas = reference_point()
    x = arguments()["out_of_distribution"]
    p = network.logits(x, weights, alphas).softmax(dim=1)
    expected = sum(1 / 3 * log(1 / 3 / p[i, c].item()) for i in range(len(x)) for c in range(3)) / len(x)
    objective = implementation_of(OBJECTIVES["out_of_distribution"])(
        network, StepImages(x, torch.zeros(4), None, x), ArnasConfig(), 1.0)
    assert objective(weights, alphas).loss.item() == pytest.approx(expected, rel=1e-10)
    assert objective(torch.zeros_like(weights), alphas).loss.item() == pytest.approx(0, abs=1e-12)  # equal logits


def test_its_gradients_are_those_of_the_plain_formula() -> None:
    network, weights, alphas = reference_point()
    x = arguments()["out_of_distribution"]
    objective = implementation_of(OBJECTIVES["out_of_distribution"])(
        network, StepImages(x, torch.zeros(4), None, x), ArnasConfig(), 1.0)
    for at in (weights, alphas):
        at.requires_grad_(True)
    found = torch.autograd.grad(objective(weights, alphas).loss, (weights, alphas))
    logits = network.logits(x, weights, alphas)
    uniform = torch.full_like(logits, 1 / 3)
    by_torch = torch.nn.functional.kl_div(logits.log_softmax(dim=1), uniform, reduction="batchmean")
    for ours, theirs in zip(found, torch.autograd.grad(by_torch, (weights, alphas)), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-14) and ours.norm() > 1e-6


def test_an_added_objective_leaves_the_gradients_of_the_others_alone() -> None:
    plain, added = make().propose(**arguments()), make(added_objectives=OOD).propose(**arguments())
    assert torch.equal(added.architecture.raw[:2], plain.architecture.raw) and len(added.architecture.raw) == 3
    assert torch.equal(added.x_adv, plain.x_adv) and torch.equal(added.xs_adv, plain.xs_adv)
    assert torch.allclose(added.architecture.weights, mgda(added.architecture.gramian))


def test_its_unrolled_gradient_is_the_mixed_derivative_of_the_formula() -> None:
    """d/d alpha of KL at w - rate (grad L_train(w, alpha) + ...) by autograd through the step itself."""
    method, given = make("merged", added_objectives=OOD, finite_difference=1e-5), arguments()
    proposal = method.propose(**given)
    (_, y), network = given["train_batch"], method.supernet
    weights, alphas = method.weights.requires_grad_(True), method.alphas.requires_grad_(True)
    training = torch.nn.functional.cross_entropy(network.logits(proposal.x_adv, weights, alphas), y)
    (gradient,) = torch.autograd.grad(training, weights, create_graph=True)
    unrolled = weights - RATE * (gradient + method.config.weight_decay * weights)
    logits = network.logits(given["out_of_distribution"], unrolled, alphas)
    loss = -logits.log_softmax(dim=1).mean() - log(3)
    expected = torch.autograd.grad(loss, alphas)[0]
    assert torch.allclose(proposal.architecture.raw[2], expected, rtol=1e-4, atol=1e-4 * expected.norm().item())
    assert proposal.architecture.values[2].loss.item() == pytest.approx(loss.item(), rel=1e-9)


@pytest.mark.parametrize("unrolled", [True, False])
def test_passes_of_a_step(unrolled: bool) -> None:
    plain, added = make(unrolled=unrolled), make(unrolled=unrolled, added_objectives=OOD)
    report = added.step(**arguments())
    assert report.passes == added.passes_per_step == plain.passes_per_step + (3 if unrolled else 1)
    assert report.names == ("natural", "adversarial", "out_of_distribution")


def test_the_coefficient_multiplies_the_gradient() -> None:
    method = make(added_objectives=OOD, out_of_distribution_factor=10.0)
    proposal = method.propose(**arguments())
    assert torch.allclose(proposal.architecture.gradients[2], 10 * proposal.architecture.raw[2])
    assert method.take(proposal).coefficients == (1.0, 0.1, 10.0)


def test_images_that_an_objective_reads_must_come() -> None:
    with pytest.raises(ValueError, match="out-of-distribution images that its configuration asks for"):
        make(added_objectives=OOD).step(**arguments(out_of_distribution=None))


def test_stage_one_of_dsara_is_as_published() -> None:
    config = DsaraConfig(epsilon=EPSILON, step_size=EPSILON / 4, attack_steps=1, added_objectives=OOD, epochs=4, switch_epoch=1)
    method = Dsara(config, supernet(), device=DEVICE, dtype=torch.float64, seed=3)
    names = []
    for epoch in (0, 2):
        method.begin_epoch(epoch)
        names.append((method.step(**arguments()).names, "added" in method.stage))
    assert names == [(("adversarial",), False), (("natural", "adversarial", "out_of_distribution"), True)]


def test_names_of_added_objectives() -> None:
    def named(**changes: Any) -> list[str]:
        return build("search", "arnas", "digits", "paper", {"added_objectives": OOD} | changes).deviations()

    assert named() == ["plus out-of-distribution KL on Photographs"]
    assert named(second_dataset="svhn", out_of_distribution_factor=10) == ["plus out-of-distribution KL on SVHN times 10"]
    assert named(unrolled=False) == ["first order", "plus out-of-distribution KL on Photographs"]
    with pytest.raises(ConfigError, match="out_of_distribution_factor must be greater than 0"):
        named(out_of_distribution_factor=0)
