"""E2RNAS against a plain transcription of the released step: leaves whose gradients add up, torch's own optimisers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.architecture.genotype import EDGES, NONE
from engine.graphs import Graphs
from engine.search.methods.e2rnas.config import E2rnasConfig
from engine.search.methods.e2rnas.method import E2rnas
from engine.search.size import expected, module_parameters, published_parameters, range_of
from engine.search.weighting import gramian_of, mgda, normalised
from engine.space.supernet import Supernet
from tests.engine.search.functional_networks import DEVICE
from tests.engine.search.recordings import Rerun

RATE = 0.05
CHANNELS, WIDTHS = 2, (2, 4, 8, 8)  # four cells, the second and the third are reductions
INERT, AWAKE = 1.0, 1e5
# Released train_search.py and the scripts of the main runs, November 2020.
PUBLISHED = {"epochs": 50, "batch_size": 64, "channels": 16, "layers": 8, "weights_learning_rate": 0.025,
             "weights_learning_rate_min": 0.001, "momentum": 0.9, "weight_decay": 3e-4, "gradient_clip": 5.0,
             "alpha_learning_rate": 3e-4, "alpha_weight_decay": 1e-3, "finite_difference": 0.01, "unrolled": True,
             "training_epsilon": 2 / 255, "size_lower": 1e6, "size_bound": "min", "gradient_normalisation": "none",
             "crop_padding": 4, "flip": True, "seed": 2}
Batch = tuple[Tensor, Tensor]


class Recorded(Supernet):
    """A network that records which of images, weights and alphas each pass differentiates."""

    def __init__(self) -> None:
        super().__init__(kinds=E2rnas.cell_kinds, primitives=E2rnas.primitives, channels=CHANNELS, layers=4, classes=3,
                         image_shape=(1, 8, 8), backend=None)
        self.wanted: list[str] = []

    def logits(self, x: Tensor, weights: Tensor, alphas: Tensor, **options: Any) -> Tensor:
        wanted = {"x": x.requires_grad, "w": weights.requires_grad, "a": alphas.requires_grad}
        self.wanted.append("".join(name for name, asked in wanted.items() if asked))
        return super().logits(x, weights, alphas, **options)


def make(**changes: Any) -> E2rnas:
    config = E2rnasConfig(**({"size_lower": AWAKE, "training_epsilon": 0.1} | changes))
    return E2rnas(config, Recorded(), device=DEVICE, dtype=torch.float64, seed=3)


def batches(seed: int = 0) -> tuple[Batch, Batch]:
    generator = torch.Generator().manual_seed(seed)
    return tuple((torch.rand(6, 1, 8, 8, generator=generator, dtype=torch.float64).to(DEVICE),  # type: ignore[return-value]
                  torch.randint(3, (6,), generator=generator).to(DEVICE)) for _ in range(2))


def starts(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    start = 0.2 * torch.rand(6, 1, 8, 8, generator=generator, dtype=torch.float64).to(DEVICE) - 0.1
    return start, start


def published_sum(alphas: Tensor) -> Tensor:
    """Return N as the released code computes it: per cell softmax(alpha) [14, 8] times costs [8, 14], summed over columns."""
    total = torch.zeros((), dtype=alphas.dtype, device=alphas.device)
    indegrees = torch.tensor([node for _, node in EDGES]).to(alphas)
    for c, reduces in zip(WIDTHS, (0, 1, 1, 0)):
        costs = torch.zeros(8, 14).to(alphas)
        for row, value in zip((4, 5, 6, 7), (2 * (c**2 + 9 * c), 2 * (c**2 + 25 * c), c**2 + 9 * c, c**2 + 25 * c)):
            costs[row] = value
        if reduces:
            costs[3] = torch.tensor([c**2 if state < 2 else 0 for state, _ in EDGES]).to(alphas)
        total = total + (2 * (alphas.view(2, 14, 8)[reduces].softmax(dim=-1) @ costs).sum(dim=1) / indegrees).sum()
    return total


def released_solver(g1: Tensor, g2: Tensor) -> tuple[float, float]:
    first, mixed, second = (g1 @ g1).item(), (g1 @ g2).item(), (g2 @ g2).item()
    if mixed >= first:
        return 0.999, 0.001
    if mixed >= second:
        return 0.001, 0.999
    share = (second - mixed) / (first + second - 2 * mixed)
    return share, 1 - share


class Released:
    """The released step, line for line; with `added` False, it clears the gradients that the released code forgets to clear."""

    def __init__(self, twin: E2rnas, lower: float, added: bool,
                 solver: Callable[[Tensor, Tensor], tuple[float, float]] = released_solver) -> None:
        self.network, self.lower, self.added, self.solver = twin.supernet, lower, added, solver
        self.w, self.a = (tensor.clone().requires_grad_(True) for tensor in (twin.weights, twin.alphas))
        self.sgd = torch.optim.SGD([self.w], lr=RATE, momentum=0.9, weight_decay=3e-4)
        self.adam = torch.optim.Adam([self.a], lr=twin.config.alpha_learning_rate, betas=(0.5, 0.999), weight_decay=1e-3)

    def loss(self, x: Tensor, y: Tensor, w: Tensor, a: Tensor) -> Tensor:
        return F.cross_entropy(self.network.logits(x, w, a), y)

    def size(self, a: Tensor) -> Tensor:
        return torch.clamp(self.lower - published_sum(a), min=1.0)

    def step(self, train: Batch, alpha: Batch, start: Tensor) -> tuple[float, float]:
        solution = self.architecture(train, alpha)
        self.adam.step()
        x = train[0].clone().requires_grad_(True)
        (direction,) = torch.autograd.grad(self.loss(x, train[1], self.w, self.a.detach()), x)
        delta = (start + 1.25 * 0.1 * direction.sign()).clamp(-0.1, 0.1)
        delta = torch.max(torch.min(delta, 1 - train[0]), 0 - train[0])
        self.sgd.zero_grad()
        self.loss(train[0] + delta, train[1], self.w, self.a.detach()).backward()
        torch.nn.utils.clip_grad_norm_([self.w], 5.0)
        self.sgd.step()
        return solution

    def architecture(self, train: Batch, alpha: Batch) -> tuple[float, float]:
        (dw,) = torch.autograd.grad(self.loss(*train, self.w, self.a), self.w)
        moment = 0.9 * self.sgd.state[self.w].get("momentum_buffer", torch.zeros_like(self.w))
        w = (self.w - RATE * (moment + dw + 3e-4 * self.w)).detach().requires_grad_(True)
        a = self.a.detach().clone().requires_grad_(True)

        def clear() -> None:
            if not self.added:
                w.grad = a.grad = None

        self.loss(*alpha, w, a).backward()
        g1 = a.grad.clone()
        clear()
        self.size(a).backward()
        g2 = a.grad.clone()
        clear()
        c1, c2 = self.solver(g1, g2)
        (c1 * self.loss(*alpha, w, a) + c2 * self.size(a)).backward()
        radius = 0.01 / w.grad.norm()
        with torch.no_grad():
            ends = [self.w + sign * radius * w.grad for sign in (1, -1)]
        plus, minus = (torch.autograd.grad(self.loss(*train, end, self.a), self.a)[0] for end in ends)
        self.a.grad = a.grad - RATE * (plus - minus) / (2 * radius)
        return c1, c2


def test_defaults_are_the_published_settings() -> None:
    assert {name: E2rnasConfig.model_fields[name].default for name in PUBLISHED} == PUBLISHED
    assert E2rnasConfig.presets["paper"] == {} and E2rnasConfig().deviations() == []
    assert E2rnas.cell_kinds == ("normal", "reduce") and E2rnas.primitives[0] == NONE and len(E2rnas.primitives) == 8
    assert "inert at this default" in str(E2rnasConfig.model_fields["size_lower"].description)


def test_bounds_are_in_order_and_quick_scales_both() -> None:
    with pytest.raises(ValueError, match="size_lower must be at most size_upper with the bound both, got 2e\\+06 and 1e\\+06"):
        E2rnasConfig(size_bound="both", size_lower=2e6)
    assert E2rnasConfig(size_lower=2e6).size_upper == 1e6, "the bound min does not read U"
    quick = E2rnasConfig.presets["quick"]
    assert E2rnasConfig().size_lower == E2rnasConfig().size_upper and quick["size_lower"] == quick["size_upper"]


@pytest.mark.parametrize("lower", [INERT, AWAKE])
@pytest.mark.parametrize("added", [True, False])
def test_three_steps_are_those_of_the_released_code(added: bool, lower: float) -> None:
    method = make(size_lower=lower, gradient_sum="added" if added else "apart", alpha_learning_rate=0.02)
    released = Released(method, lower, added)
    for t in range(3):
        train, alpha = batches(t)
        report = method.step(train, alpha, learning_rate=RATE, noise=starts(t))
        assert (report.losses[1] == 1.0) == (lower == INERT)
        assert report.weights == pytest.approx(released.step(train, alpha, starts(t)[0]), rel=1e-9)
        assert torch.allclose(method.alphas, released.a, rtol=1e-9, atol=1e-11)
        assert torch.allclose(method.weights, released.w, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("unrolled", "expected"), [(True, ["w", "wa", "a", "a", "x", "w"]), (False, ["a", "x", "w"])])
def test_passes_and_what_each_differentiates(unrolled: bool, expected: list[str]) -> None:
    method = make(unrolled=unrolled)
    report = method.step(*batches(), learning_rate=RATE, noise=starts(0))
    assert method.supernet.wanted == expected
    assert report.passes == method.passes_per_step == len(expected)


def test_an_inert_size_objective_by_each_repair() -> None:
    """Accumulated, the solver sees one gradient twice; separate, it prefers the zero gradient; omitted, only accuracy counts."""
    cases = [({}, (0.999, 0.001)), ({"gradient_sum": "apart"}, (0.001, 0.999)),
             ({"gradient_sum": "apart", "solver": "exact"}, (0, 1)), ({"solver": "exact"}, (0.5, 0.5)),
             ({"without_inert": True}, (1, 0)), ({"gradient_sum": "apart", "without_inert": True}, (1, 0))]
    for changes, weights in cases:
        report = make(size_lower=INERT, **changes).step(*batches(), learning_rate=RATE, noise=starts(0))
        assert report.weights == pytest.approx(weights), changes
        assert report.losses[1] == 1.0 and report.raw_norms[1] == 0.0
        assert report.names == ("natural", "parameters") and report.adversarial_accuracy is None


def test_whoever_watches_is_told_of_an_inert_size_objective() -> None:
    for lower, told in ((INERT, 1), (AWAKE, 0)):
        method = make(size_lower=lower)
        assert method.notices == []
        for t in range(2):
            method.step(*batches(t), learning_rate=RATE, noise=starts(t))
        assert len(method.notices) == told and all("of the parameters is inert" in notice for notice in method.notices)


def test_a_plain_sum_descends_the_sum_of_both_losses() -> None:
    (_, (xs, ys)), proposed = batches(), []
    for gradient_sum in ("added", "apart"):
        method = make(weighting="plain_sum", unrolled=False, gradient_sum=gradient_sum)
        alphas = method.alphas.clone().requires_grad_(True)
        loss = F.cross_entropy(method.supernet.logits(xs, method.weights, alphas), ys)
        (expected,) = torch.autograd.grad(loss + (AWAKE - published_sum(alphas)).clamp(min=1), alphas)
        proposed.append(method.propose(*batches(), learning_rate=RATE, noise=starts(0)).architecture)
        assert proposed[-1].weights.tolist() == [1, 1]
        torch.testing.assert_close(proposed[-1].combined, expected)
    assert torch.equal(proposed[0].combined, proposed[1].combined)
    assert E2rnasConfig(weighting="plain_sum", gradient_sum="apart", solver="exact").deviations() == ["plain sum"]


@pytest.mark.parametrize("lower", [INERT, AWAKE])
def test_the_sum_is_the_released_ablation_whose_gradients_accumulate(lower: float) -> None:
    """Without MGDA, the released code adds the losses' gradients first and those of the plain sum a second time."""
    method = make(size_lower=lower, weighting="sum", alpha_learning_rate=0.02)
    released = Released(method, lower, added=True, solver=lambda g1, g2: (1.0, 1.0))
    for t in range(3):
        train, alpha = batches(t)
        proposal = method.propose(train, alpha, learning_rate=RATE, noise=starts(t))
        report = method.take(proposal)
        assert report.weights == released.step(train, alpha, starts(t)[0]) == (1.0, 1.0)
        torch.testing.assert_close(proposal.architecture.combined, released.a.grad, rtol=1e-9, atol=1e-12)
        assert torch.allclose(method.alphas, released.a, rtol=1e-9, atol=1e-11)
        assert torch.allclose(method.weights, released.w, rtol=1e-9, atol=1e-11)
    assert method.config.deviations() == ["sum of accumulated gradients"]


def test_the_sum_is_twice_the_plain_sum() -> None:
    literal, plain = (make(weighting=weighting).propose(*batches(), learning_rate=RATE, noise=starts(0)).architecture
                      for weighting in ("sum", "plain_sum"))
    torch.testing.assert_close(literal.combined, 2 * plain.combined, rtol=1e-9, atol=1e-12)


def test_another_weighting_sees_the_gradients_apart() -> None:
    found = make(weighting="imtl_g", unrolled=False).propose(*batches(), learning_rate=RATE, noise=starts(0)).architecture
    along = found.raw @ found.combined / found.raw.norm(dim=1)
    assert along[0].item() == pytest.approx(along[1].item()) and found.weights.sum().item() == pytest.approx(1)


def test_an_awake_size_objective_is_no_inert_one() -> None:
    with_switch, without = (make(without_inert=switch).step(*batches(), learning_rate=RATE, noise=starts(0)).weights
                            for switch in (True, False))
    assert with_switch == without


@pytest.mark.parametrize("how", ["none", "l2", "loss", "loss+"])
def test_only_the_solver_sees_normalised_gradients(how: str) -> None:
    method = make(gradient_normalisation=how, gradient_sum="apart", solver="exact")
    found = method.propose(*batches(), learning_rate=RATE, noise=starts(0)).architecture
    losses = torch.stack([value.loss for value in found.values])
    assert torch.allclose(found.weights, mgda(normalised(gramian_of(found.raw), losses, how)))
    again = make().propose(*batches(), learning_rate=RATE, noise=starts(0)).architecture
    assert torch.equal(found.raw, again.raw)


def test_the_repaired_count_is_that_of_real_modules_at_the_same_quantile() -> None:
    method = make(parameter_count="modules", size_lower=300.0)
    network = method.supernet
    published, modules = (table(network.cells, network.kinds, network.primitives)
                          for table in (published_parameters, module_parameters))
    _, lower, _ = method.size.constants
    quantile = lower / range_of(modules)[1]
    assert quantile == pytest.approx(300.0 / range_of(published)[1])
    loss = method.step(*batches(), learning_rate=RATE, noise=starts(0)).losses[1]
    start = make().alphas
    assert loss == pytest.approx(max(1.0, lower - expected(modules.to(start), start).item()))


def test_images_of_the_weight_step_are_in_the_ball_and_in_pixel_range() -> None:
    (x, _), _ = batches()
    x_adv = make().propose(*batches(), learning_rate=RATE, noise=starts(0)).x_adv
    assert x_adv is not None and 0.09 < (x_adv - x).abs().max() <= 0.1 + 1e-12
    assert x_adv.min() >= 0 and x_adv.max() <= 1


def test_buffers_follow_the_natural_images_at_the_new_alphas() -> None:
    method, (train, alpha) = make(alpha_learning_rate=0.1), batches()
    moved, weights = method.buffers.clone(), method.weights
    report = method.step(train, alpha, learning_rate=RATE, noise=starts(0))
    with torch.no_grad():
        logits = method.supernet.logits(train[0], weights, method.alphas, buffers=moved, update_buffers=True)
    assert torch.allclose(method.buffers, moved, rtol=1e-12)
    assert report.train_accuracy == pytest.approx((logits.argmax(dim=1) == train[1]).double().mean().item())


def test_recorded_passes_give_the_same_steps() -> None:
    eager, recorded = make(), make()
    recorded = E2rnas(recorded.config, recorded.supernet, device=DEVICE, dtype=torch.float64, seed=3, graphs=Graphs(Rerun))
    for t in range(2):
        one, two = (method.step(*batches(t), learning_rate=RATE, noise=starts(t)) for method in (eager, recorded))
        assert one == two
    assert torch.equal(eager.alphas, recorded.alphas) and torch.equal(eager.weights, recorded.weights)
    assert torch.equal(eager.buffers, recorded.buffers)
