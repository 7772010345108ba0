"""Objectives that a configuration adds to a method's own: formulas, gradients, weights, passes and names."""

from __future__ import annotations

import itertools
from math import log
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from engine.architecture.cost import cost
from engine.architecture.genotype import EDGES, KINDS_OF_DARTS, NONE, PRIMITIVES, Cell, Genotype
from engine.configuring import build
from engine.errors import ConfigError
from engine.search.bilevel import Bilevel, sgd
from engine.search.curvature import curvature
from engine.search.methods.advrush.config import AdvRushConfig
from engine.search.methods.advrush.method import AdvRush
from engine.search.methods.arnas.config import ArnasConfig
from engine.search.methods.arnas.method import Arnas, Proposal
from engine.search.methods.darts.config import DartsConfig
from engine.search.methods.darts.method import Darts
from engine.search.methods.dsara.config import DsaraConfig
from engine.search.methods.dsara.method import Dsara
from engine.search.methods.pcdarts.config import PcDartsConfig
from engine.search.methods.pcdarts.method import PcDarts
from engine.search.methods.registry import METHODS
from engine.search.objectives import StepImages, bound
from engine.search.registries import OBJECTIVES, Objective
from engine.search.size import module_macs, shares
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
    """Return the unmerged reference supernet with weights and alphas."""
    network = FunctionalReference(channels=2, layers=4, classes=3, image_shape=SHAPE)
    generator = torch.Generator().manual_seed(seed)
    return (network, network.initial_weights(generator, torch.float64, DEVICE),
            200 * network.initial_alphas(generator, torch.float64, DEVICE))


def objective_of(name: str, network: Any, images: StepImages) -> Objective:
    return bound(OBJECTIVES[name], network, images, ArnasConfig())


def test_the_divergence_from_the_uniform_distribution_by_its_definition() -> None:
    """KL(u || p) = sum over classes of u log(u / p), averaged over the images; it is zero at equal logits."""
    network, weights, alphas = reference_point()
    x = arguments()["out_of_distribution"]
    p = network.logits(x, weights, alphas).softmax(dim=1)
    expected = sum(1 / 3 * log(1 / 3 / p[i, c].item()) for i in range(len(x)) for c in range(3)) / len(x)
    objective = objective_of("out_of_distribution", network, StepImages(x, torch.zeros(4), out_of_distribution=x))
    assert objective(weights, alphas).loss.item() == pytest.approx(expected, rel=1e-10)
    assert objective(torch.zeros_like(weights), alphas).loss.item() == pytest.approx(0, abs=1e-12)  # equal logits


def test_its_gradients_are_those_of_the_plain_formula() -> None:
    network, weights, alphas = reference_point()
    x = arguments()["out_of_distribution"]
    objective = objective_of("out_of_distribution", network, StepImages(x, torch.zeros(4), out_of_distribution=x))
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
    """Compares with d/d alpha of KL at w - rate (grad L_train(w, alpha) + ...), by autograd through the step."""
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


@pytest.mark.parametrize(("names", "more"), [
    (OOD, (3, 1)), (("one_step",), (4, 2)), (("parameter_share",), (0, 0)), (("mac_share", "parameter_share"), (0, 0)),
    (("one_step", "mac_share", "out_of_distribution"), (7, 3))])
def test_passes_of_a_step_second_and_first_order(names: tuple[str, ...], more: tuple[int, int]) -> None:
    for unrolled, passes in zip((True, False), more, strict=True):
        plain, added = make(unrolled=unrolled), make(unrolled=unrolled, added_objectives=names)
        report = added.step(**arguments())
        assert report.passes == added.passes_per_step == plain.passes_per_step + passes
        assert report.names == ("natural", "adversarial", *names)


def test_one_step_is_a_step_from_the_random_start_that_pgd_has_too() -> None:
    """The image is x + clip(u + l sign(grad CE(x + u)), +-epsilon), with PGD's random start u."""
    method = make(added_objectives=("one_step",), one_step_length=0.75, attack_steps=3)
    given = arguments()
    (xs, ys), network = given["alpha_batch"], method.supernet
    starts = [EPSILON * (2 * torch.rand(x.shape, generator=torch.Generator().manual_seed(i), dtype=x.dtype).to(DEVICE) - 1)
              for i, x in enumerate((given["train_batch"][0], xs))]
    proposal = method.propose(**given | {"generator": None, "noise": starts})
    x = (xs + starts[1]).requires_grad_(True)
    loss = torch.nn.functional.cross_entropy(network.logits(x, method.weights, method.alphas), ys)
    moved = starts[1] + 0.75 * EPSILON * torch.autograd.grad(loss, x)[0].sign()
    x_one_step = xs + moved.clamp(-EPSILON, EPSILON)
    made = method._made(Bilevel(), (given["train_batch"], given["alpha_batch"]), starts)
    assert torch.allclose(made["x_one_step"], x_one_step, rtol=0, atol=1e-15)
    assert torch.equal(made["x_adv"], proposal.xs_adv) and not torch.allclose(made["x_adv"], made["x_one_step"])
    unrolled, _ = sgd(method.weights, torch.zeros_like(method.weights), training_gradient(method, proposal, given),
                      learning_rate=RATE, momentum=0.9, weight_decay=method.config.weight_decay)
    logits = network.logits(x_one_step, unrolled, method.alphas)
    value = proposal.architecture.values[2]
    assert value.loss.item() == pytest.approx(torch.nn.functional.cross_entropy(logits, ys).item(), rel=1e-10)
    # What a report calls adversarial stays the accuracy under PGD.
    assert method.take(proposal).adversarial_accuracy == proposal.architecture.values[1].accuracy.item()


def training_gradient(method: Arnas, proposal: Proposal, given: dict[str, Any]) -> Tensor:
    weights = method.weights.clone().requires_grad_(True)
    logits = method.supernet.logits(proposal.x_adv, weights, method.alphas)
    return torch.autograd.grad(torch.nn.functional.cross_entropy(logits, given["train_batch"][1]), weights)[0]


@pytest.mark.parametrize(("name", "count"), [("parameter_share", "parameters"), ("mac_share", "macs")])
def test_shares_of_one_hot_alphas_are_counts_of_networks(name: str, count: str) -> None:
    """Compares with `cost` of the network that the one-hot alphas describe: two edges per node, all others "none"."""
    columns, sizes = (NONE, *PRIMITIVES), {"channels": 4, "layers": 5, "classes": 3, "image_shape": SHAPE}
    network = Supernet(kinds=KINDS_OF_DARTS, primitives=columns, **sizes)
    objective = objective_of(name, network, StepImages(torch.zeros(1, *SHAPE, dtype=torch.float64), torch.zeros(1)))

    def counted(operation: str) -> tuple[int, float]:
        """Return the count of the network with one operation everywhere, and the objective at its alphas."""
        cells = tuple((kind, Cell(tuple((operation, state) for _ in range(4) for state in (0, 1)), (2, 3, 4, 5)))
                      for kind in KINDS_OF_DARTS)
        alphas = torch.full((2, len(EDGES), len(columns)), -1e4, dtype=torch.float64)
        for e, (state, _) in enumerate(EDGES):
            alphas[:, e, columns.index(operation if state < 2 else NONE)] = 0
        return (getattr(cost(Genotype(cells), **sizes), count), objective(torch.zeros(1), alphas.flatten()).loss.item())

    (nothing, none), *others = (counted(operation) for operation in columns)
    shares = [share / (number - nothing) for number, share in others if number > nothing]
    assert none == 0 and len(shares) == 5
    assert shares == pytest.approx([shares[0]] * 5, rel=1e-12)  # one unit for all of them
    largest = torch.full((2, len(EDGES), len(columns)), -1e4, dtype=torch.float64)
    largest[..., columns.index("sep_conv_5x5")] = 0
    assert objective(torch.zeros(1), largest.flatten()).loss.item() == pytest.approx(1)


@pytest.mark.parametrize("name", ["parameter_share", "mac_share"])
def test_the_gradient_of_a_share_is_its_own_and_nothing_comes_through_the_weights(name: str) -> None:
    """A share depends on the alphas alone, so its unrolled gradient is its partial derivative by them."""
    method = make(added_objectives=(name,))
    proposal = method.propose(**arguments())
    alphas = method.alphas.clone().requires_grad_(True)
    value = objective_of(name, method.supernet, StepImages(arguments()["alpha_batch"][0], torch.zeros(1)))(method.weights, alphas)
    assert torch.allclose(proposal.architecture.raw[2], torch.autograd.grad(value.loss, alphas)[0], rtol=1e-12, atol=0)
    assert 0 < proposal.architecture.values[2].loss.item() == value.loss.item() < 1 and value.accuracy is None


def test_alone_a_share_makes_the_network_smaller() -> None:
    """With all weight on the share, its loss falls and the supernet's cells (no robust one) end without convolutions."""
    method = make(added_objectives=("parameter_share",), weighting="fixed", fixed_natural_weight=0.0, attack_steps=1,
                  adversarial_lambda=1e-9, unrolled=False, alpha_learning_rate=0.5, alpha_weight_decay=0.0)
    losses = [method.step(**arguments()).losses[2] for _ in range(12)]
    assert all(later < earlier for earlier, later in itertools.pairwise(losses))
    assert {cell.kind for cell in method.supernet.cells} == {"accurate", "reduce"}
    assert not any("conv" in operation for kind in ("accurate", "reduce") for operation, _ in method.genotype().cell(kind).edges)


def test_curvature_may_be_added() -> None:
    changes = {"added_objectives": ("curvature",), "curvature_factor": 0.5, "curvature_radius": 0.7}
    config = build("search", "arnas", preset="smoke", changes=changes)
    assert config.out_of_distribution is None and config.deviations()[-1] == "plus curvature times 0.5"
    method = make("merged", unrolled=False, **changes)
    proposal = method.propose(**arguments())
    xs, ys = arguments()["alpha_batch"]
    expected = curvature(method.supernet, method.weights, method.alphas, xs, ys, torch.tensor(0.7, dtype=torch.float64))
    assert method.objectives()[-1] == OBJECTIVES["curvature"].times(0.5) and proposal.passes == method.passes_per_step
    assert proposal.architecture.values[-1].loss.item() == pytest.approx(expected.loss.item(), rel=1e-12)


def test_the_coefficient_multiplies_the_gradient() -> None:
    method = make(added_objectives=OOD, out_of_distribution_factor=10.0)
    proposal = method.propose(**arguments())
    assert torch.allclose(proposal.architecture.gradients[2], 10 * proposal.architecture.raw[2])
    assert method.take(proposal).coefficients == (1.0, 0.1, 10.0)


def test_the_attack_of_one_step_is_told_apart() -> None:
    method, heard = make(added_objectives=("one_step",), unrolled=False), []
    method.step(**arguments(), poll=lambda: heard.append(method.activity))
    assert heard[:4] == ["PGD step 1 of 1, weights batch", "PGD step 1 of 1, alphas batch", "one-step attack, alphas batch",
                         "architecture gradients"]


def test_the_ball_of_one_step_may_be_another_than_that_of_pgd() -> None:
    """The start is uniform in the objective's own ball; a step of length 0 leaves it there."""
    given, made = arguments(), {}
    starts = [EPSILON * (2 * torch.rand(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype).to(DEVICE) - 1)
              for x in (given["train_batch"][0], given["alpha_batch"][0])]
    for radius in (1.0, 0.5):
        method = make(added_objectives=("one_step",), one_step_radius=radius, one_step_length=1e-12)
        assert method.config.one_step_epsilon == radius * EPSILON
        made[radius] = method._made(Bilevel(), (given["train_batch"], given["alpha_batch"]), starts)
    assert torch.equal(made[1.0]["x_adv"], made[0.5]["x_adv"])
    assert torch.allclose(made[0.5]["x_one_step"] - given["alpha_batch"][0], starts[1] / 2, atol=1e-11)


def natural(method: type, config: type, space: dict[str, Any] | None = None, **changes: Any) -> Any:
    network = Supernet(kinds=KINDS_OF_DARTS, primitives=(NONE, *PRIMITIVES), channels=changes.get("channels", 2), layers=3,
                       classes=3, image_shape=SHAPE, backend="merged", **space or {})
    return method(config(dataset="digits", **changes), network, device=DEVICE, dtype=torch.float64, seed=3)


def test_darts_descends_what_is_added_and_its_weights_stay_natural() -> None:
    names = ("one_step", "mac_share")
    plain = natural(Darts, DartsConfig)
    added = natural(Darts, DartsConfig, added_objectives=names, weighting="sum")
    assert added.passes_per_step == plain.passes_per_step + 1 + 3
    without, proposal = plain.propose(**arguments()), added.propose(**arguments())
    assert proposal.x_adv is None and without.x_adv is None
    assert torch.equal(proposal.architecture.raw[0], without.architecture.raw[0])
    assert torch.allclose(proposal.architecture.combined, proposal.architecture.raw.sum(dim=0), rtol=1e-12, atol=0)
    (images, _), reach = arguments()["alpha_batch"], 0.15  # what the dataset digits is usually attacked with
    made = added._made(Bilevel(), (arguments()["train_batch"], arguments()["alpha_batch"]), (None, torch.zeros_like(images)))
    assert (made["x_one_step"] - images).abs().max().item() == pytest.approx(reach)
    assert made["x_one_step"].min() >= 0 and made["x_one_step"].max() <= 1
    report = added.take(proposal)
    assert report.names == ("natural", *names) and report.adversarial_accuracy is not None
    assert report.train_adversarial_accuracy is None
    assert added.config.deviations() == ["plus one-step adversarial loss", "plus MAC count", "plain sum"]


def test_pc_darts_adds_behind_its_warm_up_and_edge_weights_count_for_nothing() -> None:
    method = natural(PcDarts, PcDartsConfig, {"partial": 2, "edge_weights": True}, added_objectives=("mac_share",), channels=4,
                     partial=2, epochs=2, warmup_epochs=1)
    assert method.step(**arguments()).names == ()
    method.begin_epoch(1)
    proposal = method.propose(**arguments())
    betas = method.alphas.numel() - 2 * len(EDGES) * (1 + len(PRIMITIVES))
    assert betas == 2 * len(EDGES) and proposal.architecture.raw[0, -betas:].norm() > 0
    assert proposal.architecture.raw[1, -betas:].norm() == 0 and proposal.architecture.raw[1].norm() > 0
    table = shares(module_macs(method.supernet.cells, method.supernet.kinds, method.supernet.primitives))
    by_hand = (table * method.alphas[:-betas].view(table.shape).softmax(dim=-1)).sum()
    assert proposal.architecture.values[1].loss.item() == pytest.approx(by_hand.item(), rel=1e-12)


def test_darts_needs_no_noise_where_nothing_is_attacked() -> None:
    method = natural(Darts, DartsConfig, added_objectives=("parameter_share",), unrolled=False)
    report = method.step(**arguments(generator=None))
    assert report.passes == 3 and report.adversarial_accuracy is None and sum(report.weights) == pytest.approx(1)


def test_what_is_added_to_advrush_comes_in_with_the_curvature() -> None:
    method = natural(AdvRush, AdvRushConfig, added_objectives=("parameter_share",), epochs=4, warmup_epochs=2)
    told = []
    for epoch in (0, 3):
        method.begin_epoch(epoch)
        report = method.step(**arguments())
        told.append((report.names, report.weights, "added" in report.stage))
    assert told == [(("natural",), (1.0,), False), (("natural", "curvature", "parameter_share"), (1.0, 1.0, 1.0), True)]
    with pytest.raises(ConfigError, match="added_objectives must be"):
        build("search", "advrush", changes={"added_objectives": ("curvature",)})


def test_searches_say_whether_they_weigh_anything() -> None:
    weighing = {name: METHODS[name].config.weighs({}) for name in ("arnas", "dsara", "e2rnas", "advrush", "darts", "pcdarts")}
    assert weighing == dict.fromkeys(weighing, True) | {"darts": False, "pcdarts": False}
    assert METHODS["darts"].config.weighs({"added_objectives": ["mac_share"]})


def test_images_that_an_objective_reads_must_come() -> None:
    with pytest.raises(ValueError, match="out-of-distribution images that its configuration needs"):
        make(added_objectives=OOD).step(**arguments(out_of_distribution=None))


def test_stage_one_of_dsara_is_as_published() -> None:
    config = DsaraConfig(epsilon=EPSILON, step_size=EPSILON / 4, attack_steps=1, added_objectives=OOD, epochs=4, switch_epoch=1)
    method = Dsara(config, supernet(), device=DEVICE, dtype=torch.float64, seed=3)
    names = []
    for epoch in (0, 2):
        method.begin_epoch(epoch)
        names.append((method.step(**arguments()).names, "added" in method.stage))
    assert names == [(("adversarial",), False), (("natural", "adversarial", "out_of_distribution"), True)]


@pytest.mark.parametrize("changes", [
    {"solver": "first_order_weights"}, {"robust_objective": "trades", "weighting": "upgrad", "gradient_normalisation": "loss+"}])
def test_everything_may_be_added_to_any_variant(changes: dict[str, Any]) -> None:
    names = get_args(get_args(DsaraConfig.model_fields["added_objectives"].annotation)[0])
    config = DsaraConfig(epsilon=EPSILON, step_size=EPSILON / 4, attack_steps=1, added_objectives=names, epochs=2,
                         switch_epoch=-1, **changes)
    method = Dsara(config, supernet("merged"), device=DEVICE, dtype=torch.float64, seed=3)
    report = method.step(**arguments())
    assert report.passes == method.passes_per_step and report.names[2:] == names and len(set(names)) == 5
    assert all(norm > 0 for norm in report.raw_norms)


def test_names_of_added_objectives() -> None:
    def named(**changes: Any) -> list[str]:
        return build("search", "arnas", "digits", "paper", {"added_objectives": OOD} | changes).deviations()

    assert named() == ["plus out-of-distribution KL on Photographs"]
    assert named(second_dataset="svhn", out_of_distribution_factor=10) == ["plus out-of-distribution KL on SVHN times 10"]
    assert named(added_objectives=("parameter_share", "one_step"), one_step_factor=0.5) == [
        "plus parameter count", "plus one-step adversarial loss times 0.5"]
    assert named(unrolled=False) == ["first order", "plus out-of-distribution KL on Photographs"]
    with pytest.raises(ConfigError, match="out_of_distribution_factor must be greater than 0"):
        named(out_of_distribution_factor=0)
