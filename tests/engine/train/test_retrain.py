"""Retraining: a step is atomic and depends only on seed, epoch and step; the best checkpoint is the most robust."""

from __future__ import annotations

import io

import pytest
import torch
from torch.nn import functional as F

from engine.config import RetrainConfig
from engine.data.augmentation import generator_for
from engine.data.loading import batches
from engine.errors import StopRequested
from engine.train import schedule
from engine.train.retrain import Probe, Retraining, Selection
from tests.engine.train.small_network import SmallNetwork, stripes

MODES = [{"training": "pgd_at"}, {"training": "natural"}, {"training": "trades"},
         {"training": "pgd_at", "auxiliary_input": "adversarial"}, {"training": "trades", "auxiliary_weight": 0.0},
         {"training": "pgd_at", "auxiliary_weight": 0.0},
         {"training": "fast_at"}, {"training": "fast_at", "auxiliary_weight": 0.0, "probe_every": 1},
         {"training": "fast_at", "auxiliary_input": "adversarial"},
         {"training": "pgd_at", "average_decay": 0.9}, {"training": "fast_at", "average_decay": 0.9, "schedule": "cyclic"},
         {"training": "pgd_at", "precision": "bf16"}, {"training": "trades", "precision": "bf16", "average_decay": 0.9}]


def config(**changes) -> RetrainConfig:
    # The tests' images are 6x6 and their network brings its own auxiliary head, whatever digits allow.
    values = {"epochs": 3, "batch_size": 8, "learning_rate": 0.05, "epsilon": 0.1, "step_size": 0.03, "attack_steps": 2,
              "probe_steps": 3, "crop_padding": 1, "flip": True, "cutout": 2, "drop_path": 0.2, "selection_steps": 3,
              "auxiliary_weight": 0.4}
    return RetrainConfig.model_construct(**(RetrainConfig(auxiliary_weight=0.0).model_dump() | values | changes))


def retraining(network: type[SmallNetwork] = SmallNetwork, **changes) -> Retraining:
    torch.manual_seed(1)
    return Retraining(config(**changes), network(), steps_per_epoch=4)


def epoch(training: Retraining, number: int, first: int = 0) -> None:
    x, y = stripes(32)
    for step, indices in enumerate(batches(32, 8, generator_for(2, "order", number))):
        if step >= first:
            training.step(x[indices], y[indices], epoch=number, step=step)


def flat(value: object) -> list[torch.Tensor]:
    """Return every tensor of a nested state, in order."""
    if isinstance(value, torch.Tensor):
        return [value.clone()]
    if isinstance(value, dict):
        return [tensor for key in value for tensor in flat(value[key])]
    return [tensor for item in value for tensor in flat(item)] if isinstance(value, list) else []


def same(one: Retraining, other: Retraining) -> bool:
    pairs = zip(flat(one.state_dict()), flat(other.state_dict()), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("mode", MODES)
def test_a_step_moves_the_weights_and_reports_what_it_did(mode: dict) -> None:
    training = retraining(**mode)
    before = flat(training.network.state_dict())
    polled: list[int] = []
    report = training.step(*stripes(8), epoch=0, step=0, poll=lambda: polled.append(1))
    assert any(not torch.equal(a, b) for a, b in zip(before, flat(training.network.state_dict()), strict=True))
    assert report.passes == len(polled)
    assert (report.adversarial_accuracy is None) == (mode["training"] == "natural")
    assert training.steps == 1 and all(parameter.grad is None for parameter in training.network.parameters())


@pytest.mark.parametrize("mode", MODES)
def test_a_stop_at_any_pass_leaves_everything_as_it_was(mode: dict) -> None:
    training = retraining(**mode)
    epoch(training, 0)
    training.network.stem[1].eval()
    modes = [module.training for module in training.network.modules()]
    state, random_state, dropped = flat(training.state_dict()), torch.get_rng_state(), training.network.drop_path
    passes = retraining(**mode).step(*stripes(8), epoch=0, step=0).passes
    for allowed in range(passes):
        left = [allowed]

        def poll(left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise StopRequested

        with pytest.raises(StopRequested):
            training.step(*stripes(8), epoch=1, step=0, poll=poll)
        assert all(torch.equal(a, b) for a, b in zip(state, flat(training.state_dict()), strict=True))
        assert [module.training for module in training.network.modules()] == modes
        assert torch.equal(torch.get_rng_state(), random_state) and training.network.drop_path == dropped
        assert all(p.requires_grad and p.grad is None for p in training.network.parameters())


@pytest.mark.parametrize("mode", [*MODES, {"warmup_epochs": 2}, {"training": "natural", "schedule": "cyclic"}])
def test_resumed_equals_uninterrupted_bit_for_bit(mode: dict) -> None:
    whole = retraining(**mode)
    epoch(whole, 0)
    epoch(whole, 1)
    first, buffer = retraining(**mode), io.BytesIO()
    epoch(first, 0)
    x, y = stripes(32)
    order = list(batches(32, 8, generator_for(2, "order", 1)))
    first.step(x[order[0]], y[order[0]], epoch=1, step=0)
    first.keep_best(first.select(*stripes(16, seed=1)), epoch=0)
    torch.save(first.state_dict(), buffer)
    buffer.seek(0)
    torch.rand(3)  # a new process has another global random state
    resumed = retraining(**mode)
    resumed.load_state_dict(torch.load(buffer, weights_only=True))
    assert same(resumed, first) and resumed.best["epoch"] == 0
    epoch(resumed, 1, first=1)
    resumed.best = None
    assert same(resumed, whole) and resumed.steps == whole.steps
    assert resumed.state_dict()["probe"] == whole.state_dict()["probe"]


def test_the_saved_state_does_not_move_with_the_network() -> None:
    training = retraining()
    epoch(training, 0)
    training.keep_best(training.select(*stripes(16, seed=1)), epoch=0)
    before = flat(training.best)
    epoch(training, 1)
    assert all(torch.equal(a, b) for a, b in zip(before, flat(training.best), strict=True))


def test_natural_training_and_trades_in_an_empty_ball_take_the_same_step() -> None:
    # Without BatchNorm's memory of the additional passes the two losses are one in a ball without another image.
    def after(**mode) -> list[torch.Tensor]:
        training = retraining(drop_path=0.0, epsilon=1e-30, **mode)
        training.step(*stripes(8), epoch=0, step=0)
        return [parameter.detach() for parameter in training.network.parameters()]

    for a, b in zip(after(training="natural"), after(training="trades"), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_the_published_auxiliary_loss_sees_the_clean_images() -> None:
    # With drop path, augmentation and the main loss's gradient equal, only the auxiliary head tells the two apart.
    heads = {}
    for choice in ("clean", "adversarial"):
        training = retraining(auxiliary_input=choice, drop_path=0.0, crop_padding=0, flip=False, cutout=0, weight_decay=0.0,
                              gradient_clip=1e9)
        x, y = stripes(8)
        before = training.network.auxiliary_head.weight.detach().clone()
        clean = 0.4 * F.cross_entropy(training.network.train().forward_with_auxiliary(x)[1], y)
        (expected,) = torch.autograd.grad(clean, training.network.auxiliary_head.weight)
        training.step(x, y, epoch=0, step=0)
        moved = before - training.network.auxiliary_head.weight.detach()
        heads[choice] = torch.allclose(moved, 0.05 * expected, atol=1e-6)
    assert heads == {"clean": True, "adversarial": False}


def test_selection_changes_nothing_and_is_the_same_twice() -> None:
    training = retraining()
    epoch(training, 0)
    state, random_state = flat(training.state_dict()), torch.get_rng_state()
    x, y = stripes(20, seed=1)
    first, again = training.select(x, y), training.select(x, y)
    assert first == again and first.images == 20
    assert all(torch.equal(a, b) for a, b in zip(state, flat(training.state_dict()), strict=True))
    assert torch.equal(torch.get_rng_state(), random_state) and training.network.training
    assert first.adversarial_loss >= first.natural_loss and first.adversarial_accuracy <= first.natural_accuracy


def test_selection_covers_every_image_in_blocks() -> None:
    training = retraining()
    x, y = stripes(21, seed=1)
    training.network.eval()
    with torch.no_grad():
        right = int((training.network(x).argmax(1) == y).sum())
    assert training.select(x, y, batch_size=8).natural_accuracy == pytest.approx(right / 21)


def test_the_best_is_the_most_robust_then_the_most_accurate_then_the_first() -> None:
    training = retraining()

    def offer(adversarial: float, natural: float, epoch: int) -> bool:
        return training.keep_best(Selection(0.0, natural, 0.0, adversarial, 10), epoch)

    assert offer(0.4, 0.9, 0)
    assert not offer(0.3, 1.0, 1)
    assert offer(0.4, 0.95, 2)
    assert not offer(0.4, 0.95, 3)
    assert offer(0.5, 0.5, 4)
    assert training.best["epoch"] == 4


@pytest.mark.parametrize("mode", [{}, {"training": "trades"}, {"training": "fast_at"}, {"average_decay": 0.9}])
def test_training_learns_and_becomes_robust(mode: dict) -> None:
    training = retraining(**mode, epochs=6, crop_padding=0, flip=False, cutout=0, drop_path=0.0, learning_rate=0.1)
    before = training.select(*stripes(32, seed=1))
    for number in range(6):
        epoch(training, number)
    after = training.select(*stripes(32, seed=1))
    assert after.natural_accuracy >= 0.9 and after.adversarial_accuracy > before.adversarial_accuracy + 0.2


def test_a_step_of_fast_at_descends_the_loss_of_its_images() -> None:
    """One whole step in float64 against the published loop written out: attack and loss in training mode, then SGD."""
    settings = {"training": "fast_at", "auxiliary_weight": 0.0, "drop_path": 0.0, "crop_padding": 0, "flip": False, "cutout": 0,
                "gradient_clip": 1e9, "probe_every": 1}
    training = retraining(**settings)
    training.network.double()
    theirs = SmallNetwork().double()
    theirs.load_state_dict(training.network.state_dict())
    x, y = stripes(8)
    x = x.double()
    training.step(x, y, epoch=0, step=2)

    unit = torch.rand(x.shape, generator=generator_for(training.config.seed, "attack", 0, 2), dtype=x.dtype)
    start = (x + 0.1 * (2 * unit - 1)).clamp(0, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(theirs(start), y), start)
    x_adv = (start.detach() + 0.125 * gradient.sign()).clamp(min=x - 0.1, max=x + 0.1).clamp(0, 1)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.05, momentum=0.9, weight_decay=training.config.weight_decay)
    F.cross_entropy(theirs(x_adv), y).backward()
    optimizer.step()
    for name, value in training.network.state_dict().items():
        assert torch.allclose(value.double(), theirs.state_dict()[name].double(), atol=1e-9), name


@pytest.mark.parametrize(("every", "expected"), [(None, [0, 4, 8]), (1, list(range(12))), (3, [0, 3, 6, 9])])
def test_probes_come_when_asked_and_change_nothing(every: int | None, expected: list[int]) -> None:
    probed, plain = (retraining(training="fast_at", probe_every=steps) for steps in (every, 100_000))
    seen = []
    for number in range(3):
        x, y = stripes(32)
        for step, indices in enumerate(batches(32, 8, generator_for(2, "order", number))):
            due = plain.steps in expected
            reports = [one.step(x[indices], y[indices], epoch=number, step=step) for one in (probed, plain)]
            assert (reports[0].probe is not None) == due
            seen += [probed.steps - 1] if due else []
    assert seen == expected
    pairs = zip(flat(probed.network.state_dict()), flat(plain.network.state_dict()), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


class Masking(SmallNetwork):
    """A network that is right at the images and the edge of the ball (0.1) but wrong half-way: robust to FGSM, not to PGD.

    Its logits depend only on the distance of an image's mean from 0.5. With `honest`, it is right everywhere.
    """

    honest = True

    def forward_with_auxiliary(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        logits, _ = super().forward_with_auxiliary(x)
        distance = (x - 0.5).mean((1, 2, 3)).abs()
        dip = torch.exp(-((distance - 0.05) / 0.02).square())
        margin = 1 - 0 * dip if self.honest else 1 - 3 * dip
        return 0 * logits + torch.stack([margin, -margin, -margin, -margin], 1), None


def test_catastrophic_overfitting_is_told_once_with_its_numbers() -> None:
    training = retraining(Masking, training="fast_at", auxiliary_weight=0.0, probe_every=1, probe_steps=8, crop_padding=0,
                          flip=False, cutout=0, drop_path=0.0)
    x, y = torch.full((8, 1, 6, 6), 0.5), torch.zeros(8, dtype=torch.int64)
    alerts = []
    for step, honest in enumerate([True, False, False, True, False]):
        training.network.honest = honest
        probe = training.step(x, y, epoch=0, step=step % 4).probe
        assert probe.fgsm_accuracy == 1 and (probe.pgd_accuracy == 1) == honest
        alerts.append(probe.alert)
    # Told at the collapse, not again while it lasts, and again at the next one.
    assert alerts == [False, True, False, False, True]
    assert probe.highest == 1 and probe.pgd_accuracy <= 0.5


@pytest.mark.parametrize(("fgsm", "pgd", "highest", "collapse"), [
    (0.9, 0.1, 0.5, True), (0.5, 0.29, 0.5, True), (0.5, 0.31, 0.5, False), (0.4, 0.1, 0.5, False),  # a hard batch
    (0.9, 0.6, 0.5, False), (0.3, 0.0, 0.1, False)])  # more robust than ever; never was robust
def test_a_collapse_is_of_pgd_alone(fgsm: float, pgd: float, highest: float, collapse: bool) -> None:
    assert retraining(training="fast_at").is_collapse(Probe(fgsm, pgd, highest, alert=False)) == collapse


def test_the_average_is_what_is_measured_and_kept() -> None:
    training, plain = retraining(average_decay=0.9), retraining()
    for one in (training, plain):
        epoch(one, 0)
    # The trained network does not notice that it is averaged.
    assert all(torch.equal(a, b) for a, b in zip(flat(training.network.state_dict()), flat(plain.network.state_dict()),
                                                 strict=True))
    x, y = stripes(16, seed=1)
    selection = training.select(x, y)
    training.keep_best(selection, 0)
    average = training.average.network
    assert all(torch.equal(value, average.state_dict()[name]) for name, value in training.best["network"].items())
    loss = F.cross_entropy(average(x), y)
    assert selection.natural_loss == pytest.approx(float(loss), rel=1e-5) and selection != plain.select(x, y)
    assert training.network.training and not average.training


@pytest.mark.parametrize("changes", [{"warmup_epochs": 1}, {"schedule": "cyclic"}])
def test_the_rate_of_a_step_is_the_schedules(changes: dict) -> None:
    training = retraining(training="natural", **changes)
    x, y = stripes(8)
    for number in range(2):
        for step in range(4):
            training.step(x, y, epoch=number, step=step)
            assert training.optimizer.param_groups[0]["lr"] == schedule.learning_rate(training.config, number, step, 4)
