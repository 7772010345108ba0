"""Objectives and weightings by name: their results, and that configurations offer all of them."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import Tensor

from engine.search.config import RobustBilevelConfig
from engine.search.methods.arnas.config import ArnasConfig
from engine.search.methods.arnas.method import Arnas
from engine.search.methods.darts.config import DartsConfig
from engine.search.methods.dsara.config import DsaraConfig
from engine.search.objectives import StepImages, bound
from engine.search.registries import OBJECTIVES, WEIGHTINGS, Objective
from engine.search.weighting import gramian_of, mgda
from tests.engine.search.functional_networks import DEVICE, TwoLayers

RATE = 0.05


def batches() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return tuple((torch.rand(8, 1, 3, 3, generator=generator, dtype=torch.float64).to(DEVICE),  # type: ignore[return-value]
                  torch.randint(3, (8,), generator=generator).to(DEVICE)) for _ in range(2))


def make(**changes: object) -> Arnas:
    return Arnas(ArnasConfig(epsilon=0.1, step_size=0.025, **changes), TwoLayers(pixels=9), device=DEVICE, dtype=torch.float64,
                 seed=3)


def objective_of(name: str, network: TwoLayers, images: StepImages, coefficient: float = 1.0) -> Objective:
    return bound(OBJECTIVES[name].times(coefficient), network, images, ArnasConfig())


def propose(arnas: Arnas):
    return arnas.propose(*batches(), learning_rate=RATE, generator=torch.Generator().manual_seed(1))


def test_configurations_offer_every_weighting_and_every_objective() -> None:
    fields = RobustBilevelConfig.model_fields
    assert set(get_args(fields["weighting"].annotation)) == set(WEIGHTINGS) - {"plain_sum"}  # E2RNAS (2020) has this name
    added = set(get_args(get_args(fields["added_objectives"].annotation)[0]))
    assert {"natural", *get_args(fields["robust_objective"].annotation)} == set(OBJECTIVES) - added
    assert {f"{name}_factor" for name in added} <= fields.keys()


@pytest.mark.parametrize("name", [name for name, kind in OBJECTIVES.items() if kind.passes])
def test_an_objective_has_the_name_the_passes_and_the_accuracy_of_its_entry(name: str) -> None:
    (x, y), (x_adv, _) = batches()
    network, seen = TwoLayers(pixels=9), []
    plain = network.logits
    network.logits = lambda *given, **more: seen.append(given[0]) or plain(*given, **more)  # type: ignore[method-assign]
    generator = torch.Generator().manual_seed(0)
    weights, alphas = (draw(generator, torch.float64, DEVICE) for draw in (network.initial_weights, network.initial_alphas))
    objective = objective_of(name, network, StepImages(x, y, x_adv, x_adv, x_adv), 0.3)
    value = objective(weights, alphas)
    assert (objective.name, objective.coefficient, len(seen)) == (name, 0.3, OBJECTIVES[name].passes)
    if name in ("out_of_distribution", "curvature"):
        assert value.accuracy is None
    else:
        read = x_adv if OBJECTIVES[name].adversarial else x
        assert value.accuracy == (plain(read, weights, alphas).argmax(dim=1) == y).double().mean()
    again = objective_of(name, network, StepImages(x, y, x_adv, x_adv, x_adv))
    assert again.kind == objective.kind != objective_of(name, TwoLayers(pixels=9), StepImages(x, y, x_adv, x_adv, x_adv)).kind


def test_trades_is_the_divergence_summed_over_classes() -> None:
    """TRADES is KL(p || q) of clean p and adversarial q, summed over classes and averaged over images."""
    (x, y), (x_adv, _) = batches()
    network, generator = TwoLayers(pixels=9), torch.Generator().manual_seed(0)
    weights, alphas = (draw(generator, torch.float64, DEVICE) for draw in (network.initial_weights, network.initial_alphas))
    p, q = (network.logits(images, weights, alphas).softmax(dim=1) for images in (x, x_adv))
    expected = sum(float(p[i, c] * (p[i, c] / q[i, c]).log()) for i in range(8) for c in range(3)) / 8
    found = objective_of("trades", network, StepImages(x, y, x_adv))(weights, alphas)
    assert found.loss.item() == pytest.approx(expected, rel=1e-12)
    assert objective_of("trades", network, StepImages(x, y, x))(weights, alphas).loss.item() == pytest.approx(0)


@pytest.mark.parametrize(("name", "names", "expected"), [
    ("equal", ("natural", "adversarial"), [0.5, 0.5]), ("equal", ("a", "b", "c"), [1 / 3] * 3),
    ("fixed", ("natural", "adversarial"), [0.7, 0.3]), ("fixed", ("natural", "adversarial", "size"), [0.7, 0.15, 0.15]),
    ("fixed", ("adversarial",), [1.0]), ("adversarial", ("natural", "trades"), [0.0, 1.0]), ("adversarial", ("trades",), [1.0]),
    ("mgda", ("trades",), [1.0]), ("sum", ("natural", "adversarial", "size"), [1.0] * 3),
])
def test_weights_that_do_not_follow_the_gradients(name: str, names: tuple[str, ...], expected: list[float]) -> None:
    gramian = gramian_of(torch.randn(len(names), 9, generator=torch.Generator().manual_seed(0)))
    found = WEIGHTINGS[name].function(gramian, names, 0.7)
    assert found.dtype == torch.float64 and found.tolist() == pytest.approx(expected)


def test_mgda_by_name_is_mgda() -> None:
    for seed in range(5):
        gramian = gramian_of(torch.randn(3, 9, generator=torch.Generator().manual_seed(seed)))
        assert torch.equal(WEIGHTINGS["mgda"].function(gramian, ("a", "b", "c"), 0.5), mgda(gramian))


@pytest.mark.parametrize(("changes", "weights"), [
    ({"weighting": "equal"}, (0.5, 0.5)), ({"weighting": "adversarial"}, (0.0, 1.0)),
    ({"weighting": "fixed", "fixed_natural_weight": 0.9}, (0.9, 0.1))])
def test_a_search_follows_the_sum_that_its_weighting_says(changes: dict[str, object], weights: tuple[float, float]) -> None:
    published, changed = propose(make()), propose(make(**changes))
    assert torch.equal(published.architecture.gradients, changed.architecture.gradients)
    assert changed.architecture.weights.tolist() == pytest.approx(weights)
    first, second = changed.architecture.gradients
    assert torch.allclose(changed.architecture.combined, weights[0] * first + weights[1] * second, rtol=1e-12, atol=0)


def test_a_search_with_trades_reports_it_by_its_name() -> None:
    arnas = make(robust_objective="trades", unrolled=False)
    proposal = propose(arnas)
    report = arnas.take(proposal)
    _, (xs, ys) = batches()
    network, fresh = arnas.supernet, make()
    p, q = (network.logits(images, fresh.weights, fresh.alphas).softmax(dim=1) for images in (xs, proposal.xs_adv))
    assert report.names == ("natural", "trades")
    assert report.losses[1] == pytest.approx(float((p * (p / q).log()).sum() / len(ys)), rel=1e-10)
    assert report.adversarial_accuracy == pytest.approx((q.argmax(dim=1) == ys).double().mean().item())


def test_names_of_deviations() -> None:
    assert ArnasConfig(weighting="fixed", fixed_natural_weight=0.25).deviations() == ["fixed weights (natural 0.25)"]
    assert ArnasConfig(weighting="adversarial", unrolled=False).deviations() == ["first order", "adversarial loss only"]
    assert ArnasConfig(robust_objective="trades").deviations() == ["TRADES KL instead of adversarial loss"]
    assert ArnasConfig(fixed_natural_weight=0.25).deviations() == []


@pytest.mark.parametrize("weighting", ["equal", "fixed", "adversarial", "sum"])
def test_a_switch_without_effect_is_not_named(weighting: str) -> None:
    bare = ArnasConfig(weighting=weighting).deviations()
    assert len(bare) == 1
    assert ArnasConfig(weighting=weighting, gradient_normalisation="l2").deviations() == bare
    assert ArnasConfig(weighting="upgrad", gradient_normalisation="l2").deviations() == ["gradients normalised (l2)", "UPGrad"]
    assert DartsConfig(weighting=weighting if weighting != "adversarial" else "upgrad").deviations() == []
    assert DartsConfig(gradient_normalisation="l2").deviations() == []
    assert DsaraConfig(solver="first_order_weights", unrolled=False).deviations() == ["first order"]
    assert DsaraConfig(solver="first_order_weights").deviations() == ["first-order weights"]
