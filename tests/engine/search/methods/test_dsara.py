"""DSARA: both stages against autograd, and the second alone against ARNAS."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.configuring import build
from engine.errors import ConfigError
from engine.search.method import StepReport
from engine.search.methods.arnas.config import ArnasConfig
from engine.search.methods.arnas.method import Arnas
from engine.search.methods.dsara.config import DsaraConfig
from engine.search.methods.dsara.method import Dsara
from engine.search.proposal import Proposal
from engine.search.robust_method import RobustBilevelMethod
from engine.space.supernet import Supernet
from tests.engine.search.functional_networks import DEVICE, TwoLayers

RATE = 0.05
SHARED = {"epsilon": 0.1, "step_size": 0.025, "attack_steps": 2}


def make(epoch: int = 0, **changes: Any) -> Dsara:
    config = DsaraConfig(**(SHARED | {"finite_difference": 1e-4} | changes))
    dsara = Dsara(config, TwoLayers(pixels=9), device=DEVICE, dtype=torch.float64, seed=3)
    dsara.begin_epoch(epoch)
    return dsara


def batches(seed: int = 0, shape: tuple[int, ...] = (1, 3, 3), dtype: torch.dtype = torch.float64) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return tuple((torch.rand(8, *shape, generator=generator, dtype=dtype).to(DEVICE),
                  torch.randint(3, (8,), generator=generator).to(DEVICE)) for _ in range(2))


def propose(dsara: Dsara, seed: int = 0) -> Proposal:
    return dsara.propose(*batches(seed), learning_rate=RATE, generator=torch.Generator().manual_seed(seed))


def exact(dsara: Dsara, proposal: Proposal, factors: dict[str, float]) -> Tensor:
    """Return the gradient [k] of the weighted sum of losses at w'(alpha), by autograd through the unrolled step."""
    (_, y), (xs, ys) = batches()
    alphas, weights = dsara.alphas.clone().requires_grad_(True), dsara.weights.clone().requires_grad_(True)
    training = F.cross_entropy(dsara.supernet.logits(proposal.x_adv, weights, alphas), y)
    (gradient,) = torch.autograd.grad(training, weights, create_graph=True)
    unrolled = weights - RATE * (gradient + dsara.config.weight_decay * weights)
    images = {"natural": xs, "adversarial": proposal.xs_adv}
    total = sum(factor * F.cross_entropy(dsara.supernet.logits(images[name], unrolled, alphas), ys)
                for name, factor in factors.items())
    return torch.autograd.grad(total, alphas)[0]


@pytest.mark.parametrize("unrolled", [True, False])
@pytest.mark.parametrize("coefficient", [0.1, 1.0])
def test_without_stage_one_it_is_arnas_step_for_step_bit_for_bit(unrolled: bool, coefficient: float) -> None:
    def search(cls: type[RobustBilevelMethod], config: Any) -> tuple[dict[str, Any], list[StepReport]]:
        supernet = Supernet(kinds=cls.cell_kinds, channels=2, layers=4, classes=3, image_shape=(1, 8, 8))
        method, reports = cls(config, supernet, device=DEVICE, seed=3), []
        for t in range(4):
            method.begin_epoch(t // 2)
            reports.append(method.step(*batches(t, (1, 8, 8), torch.float32), learning_rate=RATE,
                                       generator=torch.Generator().manual_seed(t)))
        return method.state_dict(), reports

    settings = SHARED | {"adversarial_lambda": coefficient, "unrolled": unrolled}
    ours, our_reports = search(Dsara, DsaraConfig(**settings, switch_epoch=-1))
    theirs, their_reports = search(Arnas, ArnasConfig(**settings))
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(ours[name], value) if isinstance(value, Tensor) else ours[name] == value, name
    for one, two in zip(our_reports, their_reports, strict=True):
        assert {**vars(one), "stage": ""} == vars(two)


def test_every_shared_setting_has_arnas_default_but_lambda() -> None:
    ours, theirs = ({name: info.default for name, info in cls.model_fields.items()} for cls in (DsaraConfig, ArnasConfig))
    assert {name for name in theirs if ours[name] != theirs[name]} == {"adversarial_lambda"}
    assert ours.keys() - theirs.keys() == {"switch_epoch", "solver"}
    assert (ours["switch_epoch"], ours["adversarial_lambda"]) == (20, 1.0)


@pytest.mark.parametrize("coefficient", [0.1, 1.0])
def test_stage_one_follows_the_unrolled_adversarial_loss_alone(coefficient: float) -> None:
    dsara = make(adversarial_lambda=coefficient)
    proposal = propose(dsara)
    assert torch.allclose(proposal.architecture.combined, exact(dsara, proposal, {"adversarial": 1.0}), rtol=1e-5, atol=1e-9)
    report = dsara.take(proposal)
    assert (report.names, report.weights, report.natural_accuracy) == (("adversarial",), (1.0,), None)
    assert report.adversarial_accuracy is not None
    assert report.passes == dsara.passes_per_step == 2 * 2 + 6


def test_stage_two_follows_the_smallest_sum_of_both() -> None:
    dsara = make(epoch=21)
    proposal = propose(dsara)
    rows = [exact(dsara, proposal, {name: 1.0}) for name in ("natural", "adversarial")]
    difference = rows[1] - rows[0]
    gamma = float((difference @ rows[1] / (difference @ difference)).clamp(0, 1))
    expected = gamma * rows[0] + (1 - gamma) * rows[1]
    assert torch.allclose(proposal.architecture.combined, expected, rtol=1e-4, atol=1e-8)
    assert dsara.take(proposal).passes == dsara.passes_per_step == 2 * 2 + 9


@pytest.mark.parametrize("coefficient", [0.3, 1.0, 3.0])
def test_first_order_weights_unroll_the_weighted_sum_once(coefficient: float) -> None:
    dsara = make(epoch=21, solver="first_order_weights", adversarial_lambda=coefficient)
    proposal = propose(dsara)
    _, (xs, ys) = batches()
    rows = []
    for images, factor in ((xs, 1.0), (proposal.xs_adv, coefficient)):
        alphas = dsara.alphas.clone().requires_grad_(True)
        loss = factor * F.cross_entropy(dsara.supernet.logits(images, dsara.weights, alphas), ys)
        rows.append(torch.autograd.grad(loss, alphas)[0])
    difference = rows[1] - rows[0]
    gamma = float((difference @ rows[1] / (difference @ difference)).clamp(0, 1))
    assert proposal.architecture.weights.tolist() == pytest.approx([gamma, 1 - gamma])
    expected = exact(dsara, proposal, {"natural": gamma, "adversarial": (1 - gamma) * coefficient})
    assert torch.allclose(proposal.architecture.combined, expected, rtol=1e-5, atol=1e-9)
    assert dsara.take(proposal).passes == dsara.passes_per_step == 2 * 2 + 9


def test_the_stage_changes_behind_the_switch_epoch_and_says_so() -> None:
    dsara = make(epochs=30)
    told = {}
    for epoch in range(30):
        dsara.begin_epoch(epoch)
        told.setdefault(dsara.stage, []).append(epoch)
    assert told == {"Stage 1 of 2: adversarial loss only, until epoch 21": list(range(21)),
                    "Stage 2 of 2: natural and adversarial loss, since epoch 22": list(range(21, 30))}


def test_a_switch_that_leaves_no_epoch_for_stage_two_is_refused() -> None:
    with pytest.raises(ConfigError, match="switch_epoch must be at most 8.*got 9; lower it"):
        build("search", "dsara", "digits", "paper", {"epochs": 10, "switch_epoch": 9})
    assert build("search", "dsara", "digits", "paper", {"epochs": 10, "switch_epoch": 8}).stage(9) == 2


def test_help_says_what_is_known_and_what_a_comparison_with_arnas_confounds() -> None:
    words = {name: str(DsaraConfig.model_fields[name].description) for name in ("switch_epoch", "adversarial_lambda", "solver")}
    assert "Known" in words["switch_epoch"] and "Ours" in words["switch_epoch"]
    assert "ours: 1, while ARNAS has 0.1" in words["adversarial_lambda"] and "same lambda" in words["adversarial_lambda"]
    assert "not known" in words["solver"]
