"""AdvRush: both stages against a plain transcription on the unmerged supernet, with torch's own modes and optimisers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.configuring import build
from engine.errors import ConfigError
from engine.search.methods.advrush.config import AdvRushConfig
from engine.search.methods.advrush.method import AdvRush
from engine.search.methods.darts.config import DartsConfig
from engine.search.methods.darts.method import Darts
from engine.search.weighting import mgda
from engine.space.supernet import Supernet
from tests.darts_state import darts_state_dict
from tests.engine.search.functional_networks import DEVICE, TwoLayers
from tests.reference_supernet import ReferenceSupernet

RATE, SHAPE, CLASSES = 0.05, (1, 8, 8), 3
BATCH_STATISTICS = {"curvature_statistics": "batch", "weights_statistics": "batch"}
# The released code at a15b26a: defaults of train_search.py, batch size and epochs of the README's command.
PUBLISHED = {"epochs": 60, "warmup_epochs": 50, "batch_size": 32, "channels": 16, "layers": 8, "weights_learning_rate": 0.025,
             "weights_learning_rate_min": 0.001, "momentum": 0.9, "weight_decay": 3e-4, "gradient_clip": 5.0,
             "alpha_learning_rate": 3e-4, "alpha_weight_decay": 1e-3, "curvature_factor": 0.01, "curvature_radius": 1.5,
             "unrolled": False, "crop_padding": 4, "flip": True, "cutout": 0, "normalise": True, "seed": 2}


def supernet() -> Supernet:
    return Supernet(kinds=AdvRush.cell_kinds, primitives=AdvRush.primitives, channels=2, layers=3, classes=CLASSES,
                    image_shape=SHAPE, backend="dense")


def make(epoch: int, dtype: torch.dtype = torch.float64, network: Any = None, **changes: Any) -> AdvRush:
    method = AdvRush(AdvRushConfig(**changes), network or supernet(), device=DEVICE, dtype=dtype, seed=3)
    method.begin_epoch(epoch)
    return method


def batches(seed: int, dtype: torch.dtype = torch.float64, shape: tuple[int, ...] = SHAPE) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return tuple((torch.rand(6, *shape, generator=generator, dtype=dtype).to(DEVICE),
                  torch.randint(CLASSES, (6,), generator=generator).to(DEVICE)) for _ in range(2))


def test_defaults_are_the_published_settings() -> None:
    assert {name: AdvRushConfig.model_fields[name].default for name in PUBLISHED} == PUBLISHED
    assert AdvRushConfig.presets["paper"] == {} and AdvRushConfig().deviations() == []
    assert AdvRushConfig(unrolled=True, normalise=False).deviations() == ["images not normalised", "second order"]
    assert not {"epsilon", "attack_steps"} & AdvRushConfig.model_fields.keys()


class Transcription:
    """The released search step, with the network in the mode that the released code sets."""

    def __init__(self, method: AdvRush) -> None:
        self.settings = method.config
        self.network = ReferenceSupernet(2, 3, CLASSES, SHAPE, method.cell_kinds, method.primitives).double().to(DEVICE)
        state = darts_state_dict(method.supernet, method.weights, method.buffers, method.alphas)
        assert not self.network.load_state_dict(state, strict=False).unexpected_keys
        self.w, self.a = list(self.network.weight_parameters().values()), list(self.network.alphas.values())
        settings = method.config
        self.sgd = torch.optim.SGD(self.w, lr=RATE, momentum=settings.momentum, weight_decay=settings.weight_decay)
        self.adam = torch.optim.Adam(self.a, lr=settings.alpha_learning_rate, betas=(0.5, 0.999),
                                     weight_decay=settings.alpha_weight_decay)

    def loss(self, x: Tensor, y: Tensor, evaluation: bool = False) -> Tensor:
        """Return the cross-entropy; leave the running statistics unchanged."""
        before = {name: buffer.clone() for name, buffer in self.network.named_buffers()}
        self.network.train(not evaluation)
        found = F.cross_entropy(self.network(x), y)
        for name, buffer in self.network.named_buffers():
            buffer.data = before[name]
        return found

    def regulariser(self, x: Tensor, y: Tensor, h: float) -> Tensor:
        evaluation = self.settings.curvature_statistics == "running"

        def gradient(images: Tensor) -> Tensor:
            images = images.detach().requires_grad_()
            return torch.autograd.grad(len(y) * self.loss(images, y, evaluation), images, create_graph=True)[0]

        here = gradient(x)
        z = torch.sign(here.detach())
        z = h * z / z.flatten(1).norm(dim=1)[:, None, None, None]
        return (4 * (gradient(x + z) - here).flatten(1).norm(dim=1)).sum() / len(y)

    def step(self, train: Any, valid: Any, h: float | None) -> tuple[float, float]:
        """Take one step. h: None in stage 1."""
        loss, regulariser = self.loss(*valid), torch.zeros(())
        if h is not None:
            regulariser = self.regulariser(*valid, h)
        self.adam.zero_grad()
        (loss + self.settings.curvature_factor * regulariser).backward()
        self.adam.step()
        evaluation = h is not None and self.settings.weights_statistics == "running"
        self.sgd.zero_grad()
        self.loss(*train, evaluation).backward()
        self.network.train()
        with torch.no_grad():
            self.network(train[0])  # running statistics of the weights batch
        torch.nn.utils.clip_grad_norm_(self.w, self.settings.gradient_clip)
        self.sgd.step()
        return loss.item(), regulariser.item()


@pytest.mark.parametrize("changes", [{}, BATCH_STATISTICS])
def test_steps_of_both_stages_are_those_of_the_transcription(changes: dict[str, Any]) -> None:
    method = make(0, epochs=5, warmup_epochs=3, alpha_learning_rate=0.01, curvature_factor=0.5, **changes)
    plain = Transcription(method)
    for t, (epoch, h) in enumerate([(2, None), (4, 1.2)]):
        train, valid = batches(t)
        method.begin_epoch(epoch)
        report = method.step(train, valid, learning_rate=RATE)
        losses = plain.step(train, valid, h)
        assert report.losses == pytest.approx(losses[:len(report.losses)], rel=1e-9)
        assert report.losses[-1] > 1e-3, "there must be something to compare"
        state = darts_state_dict(method.supernet, method.weights, method.buffers, method.alphas)
        for name, value in plain.network.state_dict().items():
            if name in state:
                torch.testing.assert_close(state[name], value, rtol=1e-8, atol=1e-10, msg=f"{name} after step {t}")


def test_stage_one_is_darts_in_first_order_bit_for_bit() -> None:
    one = make(0, torch.float32, epochs=3, warmup_epochs=2)
    other = Darts(DartsConfig(unrolled=False), supernet(), device=DEVICE, dtype=torch.float32, seed=3)
    for t in range(4):
        one.begin_epoch(t // 2)
        ours, theirs = (method.step(*batches(t, torch.float32), learning_rate=RATE) for method in (one, other))
        assert ours.losses == theirs.losses and ours.names == ("natural",) and ours.passes == 3
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]) if isinstance(value, Tensor) else value == other.state_dict()[name]
    one.begin_epoch(2)
    for method in (one, other):
        method.step(*batches(4, torch.float32), learning_rate=RATE)
    assert not torch.equal(one.alphas, other.alphas)


def test_the_radius_grows_in_the_first_epochs_of_the_search_or_of_the_stage() -> None:
    config = AdvRushConfig(epochs=9, warmup_epochs=2)
    assert [config.radius(epoch) for epoch in range(9)] == pytest.approx([0, 0.3, 0.6, 0.9, 1.2, 1.5, 1.5, 1.5, 1.5])
    later = AdvRushConfig(epochs=9, warmup_epochs=2, radius_growth="stage")
    assert [later.radius(epoch) for epoch in range(2, 9)] == pytest.approx([0, 0.3, 0.6, 0.9, 1.2, 1.5, 1.5])
    assert AdvRushConfig().radius(50) == 1.5 and AdvRushConfig(curvature_radius=5).radius(1) == 1


def test_stages_in_words_and_in_passes() -> None:
    method = make(49)
    assert method.stage == "Stage 1 of 2: natural loss only, until epoch 50" and method.passes_per_step == 3
    method.begin_epoch(50)
    assert method.stage == "Stage 2 of 2: natural loss and curvature, since epoch 51" and method.passes_per_step == 5
    report = method.step(*batches(0), learning_rate=RATE)
    assert (report.names, report.weights, report.coefficients) == (("natural", "curvature"), (1.0, 1.0), (1.0, 0.01))
    assert report.passes == 5 and report.adversarial_accuracy is None and report.natural_accuracy is not None


def test_another_weighting_weighs_loss_and_curvature() -> None:
    method = make(50, weighting="mgda", curvature_factor=100)
    found = method.propose(*batches(0), learning_rate=RATE).architecture
    assert torch.equal(found.weights, mgda(found.gramian)) and 0 < found.weights[0] < 1
    assert torch.allclose(found.combined, found.weights @ found.gradients, rtol=1e-12)


def test_second_order_goes_through_the_unrolled_step() -> None:
    """Compares with autograd through the step, on a smooth network."""
    method = make(50, network=TwoLayers(pixels=9), unrolled=True, finite_difference=1e-4, **BATCH_STATISTICS)
    (x, y), (xs, ys) = batches(0, shape=(1, 3, 3))
    w, a, network = method.weights.clone().requires_grad_(), method.alphas.clone().requires_grad_(), method.supernet
    (gradient,) = torch.autograd.grad(F.cross_entropy(network.logits(x, w, a), y), w, create_graph=True)
    unrolled = w - RATE * (gradient + method.config.weight_decay * w)

    def of_images(images: Tensor) -> Tensor:
        images = images.detach().requires_grad_()
        loss = F.cross_entropy(network.logits(images, unrolled, a), ys, reduction="sum")
        return torch.autograd.grad(loss, images, create_graph=True)[0]

    here = of_images(xs)
    sign = here.detach().sign()
    ahead = of_images(xs + 1.5 * sign / sign.flatten(1).norm(dim=1)[:, None, None, None])
    expected = torch.autograd.grad(4 * (ahead - here).flatten(1).norm(dim=1).mean(), a)[0]
    proposal = method.propose((x, y), (xs, ys), learning_rate=RATE)
    assert proposal.passes == method.passes_per_step == 1 + (1 + 2) + 2 * 2 + 2
    assert torch.allclose(proposal.architecture.raw[1], expected, rtol=1e-5, atol=1e-8)


def test_a_search_without_stage_two_is_refused() -> None:
    with pytest.raises(ConfigError, match="warmup_epochs must be less than the 60 epochs"):
        build("search", "advrush", preset="paper", changes={"warmup_epochs": 60})
    assert make(0, warmup_epochs=0).stage.startswith("Stage 2")
