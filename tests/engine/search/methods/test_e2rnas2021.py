"""E2RNAS of 2021 against a plain transcription of the released step: leaves, torch's own optimisers, a solver of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.architecture.genotype import EDGES, NONE
from engine.configuring import build
from engine.graphs import Graphs
from engine.search.methods.e2rnas2021.config import E2rnas2021Config
from engine.search.methods.e2rnas2021.method import E2rnas2021
from engine.search.minimum_norm import minimum_norm_point, projected_gradient
from engine.search.size import module_macs, published_macs, range_of
from engine.space.supernet import Supernet
from tests.engine.search.functional_networks import DEVICE
from tests.engine.search.recordings import Rerun

RATE, EPSILON, EPOCHS, CLASSES = 0.05, 0.1, 4, 3
CHANNELS, WIDTHS = 2, (2, 4, 8, 8)  # four cells, the second and the third are reductions
# Released train_search.py and architect.py of March 2021, and the settings of the run abs40_gnl2.
PUBLISHED = {"epochs": 50, "batch_size": 64, "channels": 16, "layers": 8, "weights_learning_rate": 0.025,
             "weights_learning_rate_min": 0.001, "momentum": 0.9, "weight_decay": 3e-4, "gradient_clip": 5.0,
             "alpha_learning_rate": 3e-4, "alpha_weight_decay": 1e-3, "finite_difference": 0.01, "unrolled": True,
             "attack_epsilon": 2 / 255, "parameters_lower": 4e5, "macs_lower": 4e8, "size_bound": "abs",
             "gradient_normalisation": "l2", "weighting": "mgda", "solver": "projected_gradient", "mac_count": "published",
             "out_of_distribution_factor": 10.0, "training_out_of_distribution_weight": 1.0,
             "training_out_of_distribution_grows": True, "training_adversarial_weight": 0.0,
             "crop_padding": 4, "flip": True, "cutout": 16, "normalise": True, "seed": 2}
Batch = tuple[Tensor, Tensor]


class Recorded(Supernet):
    """A network that records which of images, weights and alphas each pass differentiates."""

    def __init__(self, backend: str | None = None) -> None:
        super().__init__(kinds=E2rnas2021.cell_kinds, primitives=E2rnas2021.primitives, channels=CHANNELS, layers=4,
                         classes=CLASSES, image_shape=(1, 8, 8), backend=backend)
        self.wanted: list[str] = []

    def logits(self, x: Tensor, weights: Tensor, alphas: Tensor, **options: Any) -> Tensor:
        wanted = {"x": x.requires_grad, "w": weights.requires_grad, "a": alphas.requires_grad}
        self.wanted.append("".join(name for name, asked in wanted.items() if asked))
        return super().logits(x, weights, alphas, **options)


def make(graphs: Graphs | None = None, backend: str | None = None, epoch: int = 0, **changes: Any) -> E2rnas2021:
    """Make a search. Its targets are just above this small network's counts, which are in the thousands."""
    settings = {"attack_epsilon": EPSILON, "epochs": EPOCHS, "parameters_lower": 6e3, "macs_lower": 5e6} | changes
    method = E2rnas2021(E2rnas2021Config(**settings), Recorded(backend), device=DEVICE, dtype=torch.float64, seed=3,
                        graphs=graphs)
    method.begin_epoch(epoch)
    return method


def images(generator: torch.Generator) -> Tensor:
    return torch.rand(6, 1, 8, 8, generator=generator, dtype=torch.float64).to(DEVICE)


def given(seed: int = 0) -> dict[str, Any]:
    """Return the arguments of a step."""
    generator = torch.Generator().manual_seed(seed)
    train, alpha = ((images(generator), torch.randint(CLASSES, (6,), generator=generator).to(DEVICE)) for _ in range(2))
    starts = tuple(EPSILON * (2 * images(generator) - 1) for _ in range(2))
    return {"train_batch": train, "alpha_batch": alpha, "learning_rate": RATE, "noise": starts,
            "out_of_distribution": images(generator)}


def counted(alphas: Tensor, costs: Any, of_skips: Any) -> Tensor:
    """Sum softmax(alpha) times costs over cells and edges. costs: C -> [8]; of_skips: C -> cost of skip on strided edges."""
    total = torch.zeros((), dtype=alphas.dtype, device=alphas.device)
    for c, reduces in zip(WIDTHS, (0, 1, 1, 0)):
        table = torch.tensor(costs(c), dtype=alphas.dtype).repeat(14, 1)
        for edge, (state, _) in enumerate(EDGES):
            if reduces and state < 2:
                table[edge, 3] = of_skips(c)
        total = total + (alphas.view(2, 14, 8)[reduces].softmax(dim=-1) * table.to(alphas)).sum()
    return total


def parameters(alphas: Tensor) -> Tensor:
    return counted(alphas, lambda c: (0, 0, 0, 0, 2 * (c**2 + 11 * c), 2 * (c**2 + 27 * c), c**2 + 11 * c, c**2 + 27 * c),
                   lambda c: c**2 + 2 * c)


def macs(alphas: Tensor) -> Tensor:
    return counted(alphas, lambda c: (0, 0, 1024 * c * c, 0, 26952 * c + 2048 * c * c, 69920 * c + 2048 * c * c,
                                      13476 * c + 1024 * c * c, 39172 * c + 1024 * c * c), lambda c: 256 * c * c + 2048 * c)


def pair(first: float, mixed: float, second: float) -> tuple[float, float]:
    """Return the share of the first of two vectors, and the squared length of the combination."""
    if mixed >= first:
        return 0.999, first
    if mixed >= second:
        return 0.001, second
    share = (second - mixed) / (first + second - 2 * mixed)
    return share, share**2 * first + 2 * share * (1 - share) * mixed + (1 - share) ** 2 * second


def nearest_on_simplex(point: np.ndarray) -> np.ndarray:
    """Project onto the simplex by bisection on the amount subtracted from every entry."""
    low, high = point.min() - 1, point.max()
    for _ in range(52):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(point - middle, 0).sum() > 1 else (low, middle)
    return np.maximum(point - low, 0)


def released_solver(m: np.ndarray, towards_vertex: bool) -> np.ndarray:
    """Solve with Sener and Koltun's two routines on a Gramian: best pair, then line searches until the weights stop changing."""
    size = len(m)
    pairs = {(i, j): pair(m[i, i], m[i, j], m[j, j]) for i in range(size) for j in range(i + 1, size)}
    (i, j), (share, _) = min(pairs.items(), key=lambda one: one[1][1])
    c = np.zeros(size)
    c[i], c[j] = share, 1 - share
    for _ in range(100_000):
        if towards_vertex:
            aim = np.eye(size)[np.argmin(m @ c)]
        else:
            way = -(m @ c) - np.mean(-(m @ c))
            steps = [*(-c[way < 0] / way[way < 0]), *((1 - c[way > 0]) / way[way > 0])]
            aim = nearest_on_simplex(c + way * min(step for step in steps if step > 1e-7))
        share, _ = pair(c @ m @ c, c @ m @ aim, aim @ m @ aim)
        moved = share * c + (1 - share) * aim
        if np.abs(moved - c).sum() < 1e-5:
            break
        c = moved
    return c


class Released:
    """The released step in its order. `adversarial`: weight of the adversarial loss in training; `grows`: of the divergence."""

    def __init__(self, twin: E2rnas2021, adversarial: float, towards_vertex: bool, grows: bool) -> None:
        self.network, self.adversarial, self.towards_vertex, self.grows = twin.supernet, adversarial, towards_vertex, grows
        self.w, self.a = (tensor.clone().requires_grad_(True) for tensor in (twin.weights, twin.alphas))
        self.sgd = torch.optim.SGD([self.w], lr=RATE, momentum=0.9, weight_decay=3e-4)
        self.adam = torch.optim.Adam([self.a], lr=twin.config.alpha_learning_rate, betas=(0.5, 0.999), weight_decay=1e-3)

    def loss(self, x: Tensor, y: Tensor, w: Tensor, a: Tensor) -> Tensor:
        return F.cross_entropy(self.network.logits(x, w, a), y)

    def divergence(self, x: Tensor, w: Tensor, a: Tensor) -> Tensor:
        """Return the divergence averaged over images and classes, as PyTorch does by default."""
        logits = self.network.logits(x, w, a)
        return F.kl_div(F.log_softmax(logits, dim=1), torch.full_like(logits, 1 / CLASSES), reduction="none").mean()

    def step(self, arguments: dict[str, Any], epoch: int) -> tuple[list[float], list[float]]:
        """Take one step; return the losses and the solver's weights."""
        (x, y), other, starts = arguments["train_batch"], arguments["out_of_distribution"], arguments["noise"]
        found = self.architecture(arguments, starts[1])
        self.adam.step()
        a = self.a.detach()
        loss = self.loss(x, y, self.w, a) + (epoch / EPOCHS if self.grows else 1) * self.divergence(other, self.w, a)
        if self.adversarial:
            begin = (x + starts[0]).clamp(0, 1).requires_grad_(True)
            (direction,) = torch.autograd.grad(self.loss(begin, y, self.w, a), begin)
            delta = (begin.detach() - x + 1.25 * EPSILON * direction.sign()).clamp(-EPSILON, EPSILON)
            loss = loss + self.adversarial * self.loss((x + delta).clamp(0, 1), y, self.w, a)
        self.sgd.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([self.w], 5.0)
        self.sgd.step()
        return found

    def architecture(self, arguments: dict[str, Any], start: Tensor) -> tuple[list[float], list[float]]:
        train, (xs, ys) = arguments["train_batch"], arguments["alpha_batch"]
        (dw,) = torch.autograd.grad(self.loss(*train, self.w, self.a), self.w)
        moment = 0.9 * self.sgd.state[self.w].get("momentum_buffer", torch.zeros_like(self.w))
        w = (self.w - RATE * (moment + dw + 3e-4 * self.w)).detach().requires_grad_(True)
        a = self.a.detach().clone().requires_grad_(True)
        xs = xs.clone().requires_grad_(True)
        natural = self.loss(xs, ys, w, a)
        (direction,) = torch.autograd.grad(natural, xs, retain_graph=True)
        delta = (start + 1.25 * EPSILON * direction.sign()).clamp(-EPSILON, EPSILON)
        losses = [natural, self.loss((xs.detach() + delta).clamp(0, 1), ys, w, a), (0.06 - parameters(a) / 1e5).abs(),
                  10 * self.divergence(arguments["out_of_distribution"], w, a), (0.05 - macs(a) / 1e8).abs()]
        rows = [torch.autograd.grad(loss, a, retain_graph=True)[0] for loss in losses]
        seen = torch.stack([row / (row.norm() + 1e-7) for row in rows])
        c = released_solver((seen @ seen.T).cpu().numpy(), self.towards_vertex) + 1e-7
        sum(float(weight) * loss for weight, loss in zip(c, losses)).backward()
        radius = 0.01 / w.grad.norm()
        with torch.no_grad():
            ends = [self.w + sign * radius * w.grad for sign in (1, -1)]
        plus, minus = (torch.autograd.grad(self.loss(*train, end, self.a), self.a)[0] for end in ends)
        self.a.grad = a.grad - RATE * (plus - minus) / (2 * radius)
        return [loss.item() for loss in losses], c.tolist()


def test_defaults_are_the_published_settings() -> None:
    fields = E2rnas2021Config.model_fields
    assert {name: fields[name].default for name in PUBLISHED} == PUBLISHED
    own = {name for name in E2rnas2021Config.__annotations__ if name in fields and fields[name].json_schema_extra["source"]}
    assert own <= PUBLISHED.keys(), "a default with a source is pinned here"
    assert E2rnas2021Config.presets["paper"] == {} and E2rnas2021Config().deviations() == []
    assert E2rnas2021.cell_kinds == ("normal", "reduce") and E2rnas2021.primitives[0] == NONE and len(E2rnas2021.primitives) == 8
    assert build("search", "e2rnas2021", "cifar10", "paper").out_of_distribution == "svhn"


@pytest.mark.parametrize(("second", "named"), [(None, []), ("svhn", []), ("photographs", ["Photographs as second dataset"]),
                                               ("digits", ["Digits 8x8 as second dataset"])])
def test_another_second_dataset_than_the_usual_one_shows_in_the_name(second: str | None, named: list[str]) -> None:
    assert build("search", "e2rnas2021", "cifar10", "paper", {"second_dataset": second}).deviations() == named


@pytest.mark.parametrize(("solver", "adversarial", "grows"), [
    ("projected_gradient", 0.0, True), ("frank_wolfe", 0.0, True), ("projected_gradient", 0.5, False)])
def test_three_steps_are_those_of_the_released_code(solver: str, adversarial: float, grows: bool) -> None:
    method = make(solver=solver, training_adversarial_weight=adversarial, training_out_of_distribution_grows=grows,
                  alpha_learning_rate=0.02)
    released = Released(method, adversarial, solver == "frank_wolfe", grows)
    for t in range(3):
        method.begin_epoch(t)
        report = method.step(**given(t))
        losses, weights = released.step(given(t), t)
        assert [c * loss for c, loss in zip(report.coefficients, report.losses)] == pytest.approx(losses, rel=1e-9)
        assert report.weights == pytest.approx(weights, rel=1e-6, abs=1e-9)
        assert torch.allclose(method.alphas, released.a, rtol=1e-9, atol=1e-11)
        assert torch.allclose(method.weights, released.w, rtol=1e-9, atol=1e-11)
    assert report.names == ("natural", "adversarial", "parameters", "out_of_distribution", "macs")


def test_the_sum_of_the_losses_is_differentiated_through_the_unrolled_step() -> None:
    """With a short displacement, the finite difference is autograd's gradient of sum c_i L_i(w'(alpha), alpha) for fixed c."""
    method, arguments = make(backend="dense", finite_difference=1e-5), given()
    proposal = method.propose(**arguments)
    network, (x, y), (_, ys) = method.supernet, arguments["train_batch"], arguments["alpha_batch"]
    a = method.alphas.clone().requires_grad_(True)
    w = method.weights.clone().requires_grad_(True)
    (dw,) = torch.autograd.grad(F.cross_entropy(network.logits(x, w, a), y), w, create_graph=True)
    unrolled = w - RATE * (dw + 3e-4 * w)
    p = F.log_softmax(network.logits(arguments["out_of_distribution"], unrolled, a), dim=1)
    losses = [F.cross_entropy(network.logits(seen, unrolled, a), ys)
              for seen in (arguments["alpha_batch"][0], proposal.xs_adv)]
    losses += [(0.06 - parameters(a) / 1e5).abs(), -10 / CLASSES * (p.mean() + np.log(CLASSES)), (0.05 - macs(a) / 1e8).abs()]
    (exact,) = torch.autograd.grad(sum(c * loss for c, loss in zip(proposal.architecture.weights, losses)), a)
    assert torch.allclose(proposal.architecture.combined, exact, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("changes", "epoch", "expected"), [
    ({}, 1, ["w", "xwa", "wa", "wa", "a", "a", "", "w", "w"]), ({}, 0, ["w", "xwa", "wa", "wa", "a", "a", "", "w"]),
    ({"unrolled": False}, 1, ["xwa", "wa", "wa", "", "w", "w"]),
    ({"training_out_of_distribution_grows": False}, 0, ["w", "xwa", "wa", "wa", "a", "a", "", "w", "w"]),
    ({"training_out_of_distribution_weight": 0.0}, 1, ["w", "xwa", "wa", "wa", "a", "a", "", "w"]),
    ({"training_adversarial_weight": 1.0}, 0, ["w", "xwa", "wa", "wa", "a", "a", "", "w", "x", "w"])])
def test_passes_and_what_each_differentiates(changes: dict[str, Any], epoch: int, expected: list[str]) -> None:
    method = make(epoch=epoch, **changes)
    report = method.step(**given())
    assert sorted(method.supernet.wanted) == sorted(expected)
    assert report.passes == method.passes_per_step == len(expected)


def test_sizes_at_equal_alphas_are_those_of_the_released_code() -> None:
    supernet = Supernet(kinds=E2rnas2021.cell_kinds, primitives=E2rnas2021.primitives, channels=16, layers=8, classes=10,
                        image_shape=(3, 32, 32))
    method = E2rnas2021(E2rnas2021Config(), supernet, device="cpu", dtype=torch.float64, seed=3)
    alphas = torch.zeros_like(method.alphas)
    losses = [size(method.weights, alphas).loss.item() for size in method.sizes]
    assert losses == pytest.approx([4 - 2.35808, 4 - 2.84336896])
    assert [objective.coefficient for objective in method.objectives()] == [1, 1, 1, 1, 1]  # 10 of an average over ten classes


@pytest.mark.parametrize(("how", "loss"), [
    ("abs", lambda n, low, high: abs(low - n)), ("min", lambda n, low, high: max(1, low - n)), ("none", lambda n, low, high: n),
    ("max", lambda n, low, high: max(1, n - high)), ("min_later", lambda n, low, high: max(low, n)),
    ("both", lambda n, low, high: n + max(1, n - high, low - n))])
def test_bounds_of_both_sizes(how: str, loss: Any) -> None:
    bounds = {"parameters_lower": 6e3, "parameters_upper": 7e3, "macs_lower": 5e6, "macs_upper": 6e6}
    method = make(size_bound=how, **bounds)
    counts = (parameters(method.alphas).item() / 1e5, macs(method.alphas).item() / 1e8)
    losses = method.step(**given()).losses
    assert losses[2] == pytest.approx(loss(counts[0], 0.06, 0.07)) and losses[4] == pytest.approx(loss(counts[1], 0.05, 0.06))


def test_repaired_macs_have_their_bounds_at_the_same_quantile() -> None:
    method = make(mac_count="modules", macs_upper=6e6)
    network = method.supernet
    published, modules = (range_of(table(network.cells, network.kinds, network.primitives))[1]
                          for table in (published_macs, module_macs))
    (table,), (_, lower, upper) = method.sizes[1].inputs, method.sizes[1].constants
    assert lower * 1e8 / modules == pytest.approx(5e6 / published)
    assert upper * 1e8 / modules == pytest.approx(6e6 / published)
    assert range_of(table.cpu())[1] * 1e8 == pytest.approx(modules)


@pytest.mark.parametrize("how", ["l2", "none", "loss", "loss+"])
def test_only_the_solver_sees_normalised_gradients(how: str) -> None:
    found = make(gradient_normalisation=how, unrolled=False).propose(**given()).architecture
    factors = torch.tensor([1, 1, 1, 10 / CLASSES, 1], dtype=torch.float64, device=DEVICE)
    losses = factors * torch.stack([value.loss for value in found.values])
    gradients = factors[:, None] * found.raw
    norms = gradients.norm(dim=1)
    divisors = {"l2": norms, "none": torch.ones_like(norms), "loss": losses, "loss+": losses * norms}[how] + 1e-7
    seen = gradients / divisors[:, None]
    assert torch.allclose(found.gramian, seen @ seen.T)
    expected = projected_gradient(found.gramian.cpu().numpy(), rounds=10_000).weights + 1e-7
    assert found.weights.tolist() == expected.tolist()
    assert torch.allclose(found.combined, found.weights @ gradients)
    assert torch.allclose(make(unrolled=False).propose(**given()).architecture.raw, found.raw)


def test_the_exact_solver_finds_the_smallest_combination() -> None:
    found = make(solver="exact").propose(**given()).architecture
    assert torch.allclose(found.weights.cpu(), torch.from_numpy(minimum_norm_point(found.gramian.cpu().numpy())))
    published = make().propose(**given()).architecture
    lengths = [(one.weights @ published.gramian @ one.weights).item() for one in (found, published)]
    assert lengths[0] <= lengths[1]


def test_a_plain_sum_descends_the_sum_of_all_losses() -> None:
    found = make(weighting="sum", unrolled=False).propose(**given()).architecture
    assert found.weights.tolist() == [1] * 5
    torch.testing.assert_close(found.combined, found.gradients.sum(dim=0))
    unrolled, equal = (make(weighting=how).propose(**given()).architecture for how in ("sum", "equal"))
    torch.testing.assert_close(unrolled.combined, 5 * equal.combined)  # the implicit term of the sum is that of its parts
    assert E2rnas2021Config(weighting="sum", solver="exact").deviations() == ["plain sum"]


def test_every_switch_shows_in_the_name() -> None:
    switches = {"size_bound": "both", "mac_count": "modules", "solver": "frank_wolfe", "gradient_normalisation": "none",
                "training_adversarial_weight": 0.5, "training_out_of_distribution_grows": False, "unrolled": False,
                "normalise": False}
    for name, value in switches.items():
        assert len(E2rnas2021Config(**{name: value}).deviations()) == 1, name
        assert str(E2rnas2021Config.model_fields[name].description).startswith("Differs")
    assert len(set(E2rnas2021Config(**switches).deviations())) == len(switches)


def test_bounds_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="macs_lower must be at most macs_upper with the bound both, got 5e\\+08 and 4e\\+08"):
        E2rnas2021Config(size_bound="both", macs_lower=5e8)
    assert E2rnas2021Config(macs_lower=5e8).macs_lower == 5e8


def test_whoever_watches_is_told_whereto_the_sizes_pull() -> None:
    method = make(parameters_lower=7e3, macs_lower=1e6)
    begin = f"{parameters(method.alphas).item():,.0f} parameters"
    assert method.notices == []
    for t in range(2):
        method.step(**given(t))
    of_parameters, of_macs = method.notices
    assert f"{begin} and has the target 7,000: this loss asks for a larger network" in of_parameters
    assert "MACs and has the target 1,000,000: this loss asks for a smaller network" in of_macs
    for how, told in (("none", []), ("max", ["parameters", "MACs"])):
        other = make(size_bound=how)
        other.step(**given())
        assert len(other.notices) == len(told)
        assert all(f"of the {name} is inert" in notice for name, notice in zip(told, other.notices))


def test_recorded_passes_give_the_same_steps() -> None:
    eager, recorded = (make(graphs, training_adversarial_weight=1.0, epoch=1) for graphs in (None, Graphs(Rerun)))
    for t in range(2):
        assert eager.step(**given(t)) == recorded.step(**given(t))
    assert torch.equal(eager.alphas, recorded.alphas) and torch.equal(eager.weights, recorded.weights)
    assert torch.equal(eager.buffers, recorded.buffers)


def test_a_step_without_images_of_the_second_dataset_is_refused() -> None:
    arguments = {name: value for name, value in given().items() if name != "out_of_distribution"}
    with pytest.raises(ValueError, match="out-of-distribution images"):
        make().step(**arguments)
