"""The ARNAS step outside the recorded traces: its report, switches, cost and refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from engine.errors import CheckpointError, RunError
from engine.search.bilevel import Bilevel
from engine.search.methods.arnas.config import ArnasConfig
from engine.search.methods.arnas.method import Arnas, Proposal
from engine.search.objectives import cross_entropy_of
from engine.search.weighting import gramian_of, mgda, normalised
from engine.space.supernet import Supernet
from tests.engine.search.functional_networks import DEVICE, TwoLayers

EPSILON = 0.1
RATE = 0.05


def make(dtype: torch.dtype = torch.float64, **changes: Any) -> Arnas:
    config = ArnasConfig(**({"epsilon": EPSILON, "step_size": EPSILON / 4} | changes))
    return Arnas(config, TwoLayers(pixels=9), device=DEVICE, dtype=dtype, seed=3)


def batches(seed: int = 0) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return tuple((torch.rand(8, 1, 3, 3, generator=generator, dtype=torch.float64).to(DEVICE),  # type: ignore[return-value]
                  torch.randint(3, (8,), generator=generator).to(DEVICE)) for _ in range(2))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def propose(arnas: Arnas, seed: int = 0) -> Proposal:
    return arnas.propose(*batches(seed), learning_rate=RATE, generator=generator(seed))


class Counted(TwoLayers):
    """A network that counts forward passes and records which of the three arguments each differentiates."""

    def __init__(self) -> None:
        super().__init__(pixels=9)
        self.wanted: list[str] = []

    def logits(self, x: Tensor, weights: Tensor, alphas: Tensor, **options: Any) -> Tensor:
        flags = {"x": x.requires_grad, "w": weights.requires_grad, "a": alphas.requires_grad}
        self.wanted.append("".join(name for name, wanted in flags.items() if wanted))
        return super().logits(x, weights, alphas, **options)


@pytest.mark.parametrize(("unrolled", "expected"), [
    (True, ["x"] * 14 + ["w"] + ["wa", "a", "a"] * 2 + ["", "w"]),
    (False, ["x"] * 14 + ["a", "a", "", "w"]),
])
def test_passes_and_what_each_differentiates(unrolled: bool, expected: list[str]) -> None:
    network = Counted()
    arnas = Arnas(ArnasConfig(unrolled=unrolled), network, device=DEVICE, dtype=torch.float64, seed=3)
    report = arnas.step(*batches(), learning_rate=RATE, generator=generator())
    assert network.wanted == expected
    assert report.passes == arnas.passes_per_step == len(expected)


class Waits(TorchDispatchMode):
    """A mode that collects the operations for which the host would have to wait for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.name().split(".")[0] in ("aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::is_nonzero"):
            self.seen.append(func.name())
        return func(*args, **(kwargs or {}))


def test_nothing_waits_for_the_device_before_the_report() -> None:
    arnas = make(attack_steps=1)
    arnas = Arnas(arnas.config, Supernet(channels=2, layers=3, classes=3, image_shape=(1, 8, 8)), device=DEVICE, seed=3)
    images = torch.rand(4, 1, 8, 8).to(DEVICE), torch.arange(4).to(DEVICE) % 3
    with Waits() as waits:
        proposal = arnas.propose(images, images, learning_rate=RATE, generator=generator())
    assert waits.seen == []
    arnas.take(proposal)


def test_activity_tells_where_the_step_is() -> None:
    arnas, heard = make(attack_steps=2), []
    arnas.step(*batches(), learning_rate=RATE, generator=generator(), poll=lambda: heard.append(arnas.activity))
    assert heard[:4] == [f"PGD step {n} of 2, {split} batch" for split in ("weights", "alphas") for n in (1, 2)]
    assert heard[4:] == ["architecture gradients"] * 7 + ["natural weights batch", "weight step"]


def test_attack_starts_inside_the_ball_and_is_drawn_from_the_generator() -> None:
    arnas, (train, alpha) = make(attack_steps=1, step_size=0.0), batches()
    proposal = propose(arnas)
    starts = [proposal.x_adv - train[0], proposal.xs_adv - alpha[0]]
    for start in starts:
        assert 0.8 * EPSILON < start.abs().max() <= EPSILON + 1e-12
        assert start.min() < 0 < start.max()
    assert not torch.allclose(*starts)
    assert torch.equal(propose(arnas).x_adv, proposal.x_adv)
    given = arnas.propose(train, alpha, learning_rate=RATE, noise=(starts[0], starts[1]))
    assert torch.allclose(given.x_adv, proposal.x_adv)


def test_images_are_clipped_only_when_asked() -> None:
    free, kept = propose(make()), propose(make(clip_images=True))
    assert free.x_adv.min() < 0 and free.x_adv.max() > 1
    for images in (kept.x_adv, kept.xs_adv):
        assert images.min() >= 0 and images.max() <= 1


def test_combination_is_mgdas_and_descends_both_objectives() -> None:
    for seed in range(5):
        proposal = propose(make(adversarial_lambda=1.0), seed)
        found = proposal.architecture
        combined = found.weights @ found.gradients
        assert (found.gradients @ combined >= combined @ combined - 1e-12).all()


def test_report_norms_cosines_and_lambda() -> None:
    arnas = make(adversarial_lambda=0.3)
    proposal = propose(arnas)
    report = arnas.take(proposal)
    u1, u2 = proposal.architecture.gradients
    assert report.coefficients == (1.0, 0.3)
    assert report.norms == pytest.approx((u1.norm().item(), u2.norm().item()))
    assert report.raw_norms == pytest.approx((u1.norm().item(), u2.norm().item() / 0.3))
    cosine = torch.cosine_similarity(u1, u2, dim=0).item()
    assert report.cosines[0][1] == report.cosines[1][0] == pytest.approx(cosine)
    assert report.names == ("natural", "adversarial")


def test_small_lambda_ignores_the_natural_objective_exactly_by_the_vertex_rule() -> None:
    gammas = []
    for coefficient in (0.01, 0.1, 0.3, 1.0, 3.0):
        arnas = make(adversarial_lambda=coefficient)
        report = arnas.take(propose(arnas))
        rule = report.cosines[0][1] >= coefficient * report.raw_norms[1] / report.raw_norms[0]
        assert (report.weights[0] == 0) == rule
        gammas.append(report.weights[0])
    assert gammas[0] == 0 and gammas[-1] > 0
    assert gammas == sorted(gammas)


def test_losses_are_those_at_the_unrolled_weights() -> None:
    arnas, (train, alpha) = make(), batches()
    proposal = propose(arnas)
    weights, alphas = arnas.weights, arnas.alphas
    training = cross_entropy_of(arnas.supernet, proposal.x_adv, train[1])
    gradient, _ = Bilevel().weight_gradient(training, weights, alphas)
    unrolled = weights - RATE * (gradient + arnas.config.weight_decay * weights)
    report = arnas.take(proposal)
    for loss, images in zip(report.losses, (alpha[0], proposal.xs_adv), strict=True):
        expected = cross_entropy_of(arnas.supernet, images, alpha[1])(unrolled, alphas).loss.item()
        assert loss == pytest.approx(expected, rel=1e-12)


def test_weight_step_uses_the_new_alphas_and_the_adversarial_batch() -> None:
    arnas, (train, _) = make(alpha_learning_rate=1.0), batches()
    old_weights, proposal = arnas.weights, propose(arnas)
    arnas.take(proposal)
    training = cross_entropy_of(arnas.supernet, proposal.x_adv, train[1])
    gradient, value = Bilevel().weight_gradient(training, old_weights, arnas.alphas)
    expected = old_weights - RATE * (gradient + arnas.config.weight_decay * old_weights)
    assert torch.allclose(arnas.weights, expected, rtol=1e-12)
    assert value.loss.item() == pytest.approx(proposal.training.loss.item(), rel=1e-12)


def test_first_order_is_the_gradient_at_the_present_weights() -> None:
    arnas, (_, alpha) = make(unrolled=False), batches()
    proposal = propose(arnas)
    natural = cross_entropy_of(arnas.supernet, *alpha)
    expected, _ = Bilevel().alpha_gradient(natural, arnas.weights, arnas.alphas)
    assert torch.allclose(proposal.architecture.raw[0], expected)


@pytest.mark.parametrize("how", ["l2", "loss", "loss+"])
def test_normalisation_changes_the_weights_not_the_gradients(how: str) -> None:
    published, changed = propose(make()), propose(make(gradient_normalisation=how))
    assert torch.equal(published.architecture.gradients, changed.architecture.gradients)
    natural, adversarial = published.architecture.values
    losses = torch.stack([natural.loss, 0.1 * adversarial.loss])
    expected = normalised(gramian_of(published.architecture.gradients), losses, how)
    assert torch.allclose(changed.architecture.gramian, expected)
    assert torch.allclose(changed.architecture.weights, mgda(expected))


def test_equal_gradients_give_no_nan() -> None:
    """In a ball without another image and with lambda 1, both objectives are the same and gamma would be 0/0."""
    arnas = make(epsilon=1e-30, adversarial_lambda=1.0)
    report = arnas.step(*batches(), learning_rate=RATE, generator=generator())
    assert report.weights == (0.5, 0.5)
    assert arnas.alphas.isfinite().all()


def test_search_lowers_the_training_loss() -> None:
    arnas = make(alpha_learning_rate=0.02, epsilon=0.02)
    (x, _), alpha = batches()
    train = (x, (x[:, 0, 0, 0] > 0.5).long())  # a rule that can be learned
    losses = [arnas.step(train, alpha, learning_rate=0.3, generator=generator(t)).train_loss for t in range(60)]
    assert losses[-1] < 0.5 * losses[0]


def test_divergence_is_refused_and_the_state_kept() -> None:
    arnas = make()
    arnas.load_state_dict(arnas.state_dict() | {"weights": torch.full_like(arnas.weights, float("nan"))})
    before = arnas.alphas.clone()
    with pytest.raises(RunError, match="must give finite numbers.*learning_rate"):
        arnas.step(*batches(), learning_rate=RATE, generator=generator())
    assert torch.equal(arnas.alphas, before) and arnas.steps == 0


def test_noise_or_generator_but_one_of_them() -> None:
    arnas = make()
    with pytest.raises(ValueError, match="either"):
        arnas.step(*batches(), learning_rate=RATE)


def test_foreign_checkpoint_says_what_was_expected() -> None:
    arnas = make()
    with pytest.raises(CheckpointError, match=r"'alphas'.*shape \[15\].*got shape \[3\]"):
        arnas.load_state_dict(arnas.state_dict() | {"alphas": torch.zeros(3)})


def test_float32_is_kept_throughout() -> None:
    arnas = make(torch.float32)
    arnas.step(*batches(), learning_rate=RATE, generator=generator())
    for name, value in arnas.state_dict().items():
        assert name in ("layout", "steps") or value.dtype == torch.float32
