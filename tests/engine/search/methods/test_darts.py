"""DARTS against autograd through the unrolled step and torch's own optimisers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.architecture.genotype import NONE
from engine.search.methods.darts.config import DartsConfig
from engine.search.methods.darts.method import Darts
from engine.space.supernet import Supernet
from tests.engine.search.functional_networks import DEVICE, TwoLayers

RATE = 0.05
# Liu, Simonyan and Yang 2019, section A.1, and the released train_search.py (quark0/darts at f276dd3).
PUBLISHED = {"epochs": 50, "batch_size": 64, "channels": 16, "layers": 8, "weights_learning_rate": 0.025,
             "weights_learning_rate_min": 0.001, "momentum": 0.9, "weight_decay": 3e-4, "gradient_clip": 5.0,
             "alpha_learning_rate": 3e-4, "alpha_weight_decay": 1e-3, "finite_difference": 0.01, "unrolled": True,
             "crop_padding": 4, "flip": True, "seed": 2}


class Seen(TwoLayers):
    """A network that records the images of every forward pass."""

    def __init__(self) -> None:
        super().__init__(pixels=9)
        self.images: list[Tensor] = []

    def logits(self, x: Tensor, weights: Tensor, alphas: Tensor, **options: Any) -> Tensor:
        self.images.append(x)
        return super().logits(x, weights, alphas, **options)


def make(**changes: Any) -> Darts:
    return Darts(DartsConfig(**({"finite_difference": 1e-4} | changes)), Seen(), device=DEVICE, dtype=torch.float64, seed=3)


def batches(seed: int = 0) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return tuple((torch.rand(8, 1, 3, 3, generator=generator, dtype=torch.float64).to(DEVICE),  # type: ignore[return-value]
                  torch.randint(3, (8,), generator=generator).to(DEVICE)) for _ in range(2))


def test_defaults_are_the_published_settings() -> None:
    assert {name: DartsConfig.model_fields[name].default for name in PUBLISHED} == PUBLISHED
    assert DartsConfig.presets["paper"] == {} and DartsConfig().deviations() == []
    assert DartsConfig(unrolled=False).deviations() == ["first order"]
    assert not {"epsilon", "attack_steps", "adversarial_lambda"} & DartsConfig.model_fields.keys()
    assert Darts.cell_kinds == ("normal", "reduce") and Darts.primitives[0] == NONE and len(Darts.primitives) == 8


@pytest.mark.parametrize("unrolled", [True, False])
def test_three_steps_are_those_of_autograd_and_torchs_optimisers(unrolled: bool) -> None:
    darts = make(unrolled=unrolled, alpha_learning_rate=0.01)
    settings, network = darts.config, TwoLayers(pixels=9)
    w, a = (tensor.clone().requires_grad_(True) for tensor in (darts.weights, darts.alphas))
    sgd = torch.optim.SGD([w], lr=RATE, momentum=settings.momentum, weight_decay=settings.weight_decay)
    adam = torch.optim.Adam([a], lr=settings.alpha_learning_rate, betas=(0.5, 0.999), weight_decay=settings.alpha_weight_decay)
    for t in range(3):
        (x, y), (xs, ys) = batches(t)
        unrolled_weights = w
        if unrolled:
            (gradient,) = torch.autograd.grad(F.cross_entropy(network.logits(x, w, a), y), w, create_graph=True)
            velocity = sgd.state[w].get("momentum_buffer", torch.zeros_like(w))
            unrolled_weights = w - RATE * (settings.momentum * velocity + gradient + settings.weight_decay * w)
        loss = F.cross_entropy(network.logits(xs, unrolled_weights, a), ys)
        a.grad = torch.autograd.grad(loss, a)[0]
        adam.step()
        w.grad = torch.autograd.grad(F.cross_entropy(network.logits(x, w, a), y), w)[0]
        torch.nn.utils.clip_grad_norm_([w], settings.gradient_clip)
        sgd.step()
        report = darts.step((x, y), (xs, ys), learning_rate=RATE)
        assert report.losses == pytest.approx([loss.item()], rel=1e-6)
        assert torch.allclose(darts.alphas, a, rtol=0, atol=1e-7) and torch.allclose(darts.weights, w, rtol=0, atol=1e-7)


@pytest.mark.parametrize(("unrolled", "passes"), [(True, 6), (False, 3)])
def test_every_pass_is_on_natural_images_and_nothing_random_is_needed(unrolled: bool, passes: int) -> None:
    darts = make(unrolled=unrolled)
    (x, y), (xs, ys) = batches()
    report = darts.step((x, y), (xs, ys), learning_rate=RATE)
    assert report.passes == darts.passes_per_step == len(darts.supernet.images) == passes
    assert all(torch.equal(images, x) or torch.equal(images, xs) for images in darts.supernet.images)
    assert (report.names, report.weights, report.coefficients) == (("natural",), (1.0,), (1.0,))
    assert report.adversarial_accuracy is None and report.train_adversarial_accuracy is None
    assert report.natural_accuracy is not None and report.stage == ""


def test_none_takes_part_in_the_search_and_never_in_the_genotype() -> None:
    supernet = Supernet(kinds=Darts.cell_kinds, primitives=Darts.primitives, channels=2, layers=4, classes=3,
                        image_shape=(1, 8, 8))
    darts = Darts(DartsConfig(alpha_learning_rate=0.1), supernet, device=DEVICE, seed=3)
    before = {kind: view.clone() for kind, view in supernet.alpha_views(darts.alphas).items()}
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(8, 1, 8, 8, generator=generator).to(DEVICE), torch.arange(8).to(DEVICE) % 3
    darts.step(images, images, learning_rate=RATE)
    for kind, view in supernet.alpha_views(darts.alphas).items():
        assert view.shape == (14, 8) and (view[:, 0] != before[kind][:, 0]).all()
    winning = supernet.alpha_views(darts.alphas.clone())
    for view in winning.values():
        view[:, 0] = 10.0
    flat = torch.cat([view.flatten() for view in winning.values()])
    assert all(operation != NONE for _, cell in supernet.genotype(flat).cells for operation, _ in cell.edges)
