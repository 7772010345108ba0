"""PC-DARTS on its real supernet against the unmerged one, autograd and torch's own optimisers; and its warm-up."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.architecture.genotype import NONE
from engine.configuring import build
from engine.errors import CheckpointError, ConfigError
from engine.search.construction import supernet_of
from engine.search.methods.darts.config import DartsConfig
from engine.search.methods.darts.method import Darts
from engine.search.methods.pcdarts.config import PcDartsConfig
from engine.search.methods.pcdarts.method import PcDarts
from tests.darts_state import darts_state_dict
from tests.engine.search.functional_networks import DEVICE, TwoLayers
from tests.reference_supernet import ReferenceSupernet

RATE = 0.05
# Xu et al. 2020 and the released train_search.py and model_search.py (yuhuixu1993/PC-DARTS at b74702f); the learning rate's
# end is the paper's.
PUBLISHED = {"epochs": 50, "batch_size": 256, "channels": 16, "layers": 8, "partial": 4, "edge_weights": True,
             "warmup_epochs": 15, "weights_learning_rate": 0.1, "weights_learning_rate_min": 0.0, "momentum": 0.9,
             "weight_decay": 3e-4, "gradient_clip": 5.0, "alpha_learning_rate": 6e-4, "alpha_weight_decay": 1e-3,
             "unrolled": False, "crop_padding": 4, "flip": True, "cutout": 0, "normalise": True, "seed": 2}
SMALL = {"channels": 8, "layers": 4, "epochs": 4, "warmup_epochs": 1}


def batches(seed: int, shape: tuple[int, ...] = (1, 8, 8)) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return tuple((torch.rand(6, *shape, generator=generator, dtype=torch.float64).to(DEVICE),
                  torch.randint(3, (6,), generator=generator).to(DEVICE)) for _ in range(2))


def on_two_layers(cls: Any = PcDarts, config: Any = None, **changes: Any) -> Any:
    return cls(config or PcDartsConfig(**changes), TwoLayers(pixels=9), device=DEVICE, dtype=torch.float64, seed=3)


def test_defaults_are_the_published_settings() -> None:
    assert {name: PcDartsConfig.model_fields[name].default for name in PUBLISHED} == PUBLISHED
    assert PcDartsConfig.presets["paper"] == {} and PcDartsConfig().deviations() == []
    assert PcDarts.cell_kinds == ("normal", "reduce") and PcDarts.primitives[0] == NONE and len(PcDarts.primitives) == 8


def test_a_search_equals_its_transcription_on_the_unmerged_supernet() -> None:
    """One warm-up step and two after it with modules, autograd and torch.optim; Adam starts after the warm-up."""
    config = PcDartsConfig(**SMALL, alpha_learning_rate=0.05)
    supernet = supernet_of("pcdarts", config, classes=3, image_shape=(1, 8, 8))
    supernet.use_backends(supernet.backends(DEVICE.type, compiled=False))
    ours = PcDarts(config, supernet, device=DEVICE, dtype=torch.float64, seed=3)
    theirs = ReferenceSupernet(8, 4, 3, (1, 8, 8), ("normal", "reduce"), PcDarts.primitives, partial=4, edge_weights=True)
    theirs = theirs.to(DEVICE, torch.float64)
    with torch.no_grad():
        tensors = dict(theirs.named_parameters())
        for name, value in darts_state_dict(supernet, ours.weights, alphas=ours.alphas).items():
            tensors[name].copy_(value)
    weights = list(theirs.weight_parameters().values())
    architecture = [*theirs.alphas.values(), *theirs.betas.values()]
    sgd = torch.optim.SGD(weights, lr=RATE, momentum=config.momentum, weight_decay=config.weight_decay)
    adam = torch.optim.Adam(architecture, lr=config.alpha_learning_rate, betas=(0.5, 0.999),
                            weight_decay=config.alpha_weight_decay)
    for epoch in range(3):
        (x, y), (xs, ys) = batches(epoch)
        ours.begin_epoch(epoch)
        report = ours.step((x, y), (xs, ys), learning_rate=RATE)
        if epoch >= config.warmup_epochs:
            loss = F.cross_entropy(theirs(xs), ys)
            for parameter, gradient in zip(architecture, torch.autograd.grad(loss, architecture), strict=True):
                parameter.grad = gradient
            adam.step()
            assert report.losses == pytest.approx([loss.item()], rel=1e-9)
        loss = F.cross_entropy(theirs(x), y)
        for parameter, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
            parameter.grad = gradient
        torch.nn.utils.clip_grad_norm_(weights, config.gradient_clip)
        sgd.step()
        assert report.train_loss == pytest.approx(loss.item(), rel=1e-9)
        found = darts_state_dict(supernet, ours.weights, alphas=ours.alphas)
        for name, parameter in theirs.named_parameters():
            assert torch.allclose(found[name], parameter, rtol=0, atol=1e-8), (epoch, name)


def test_the_warm_up_is_plain_sgd_whatever_the_alphas_batch() -> None:
    method = on_two_layers(warmup_epochs=3)
    network, settings = TwoLayers(pixels=9), method.config
    alphas = method.alphas.clone()
    w = method.weights.clone().requires_grad_(True)
    sgd = torch.optim.SGD([w], lr=RATE, momentum=settings.momentum, weight_decay=settings.weight_decay)
    for t in range(4):
        (x, y), (xs, ys) = batches(t, (1, 3, 3))
        method.begin_epoch(2)
        report = method.step((x, y), (xs * float("nan"), ys), learning_rate=RATE)  # it is never looked at
        w.grad = torch.autograd.grad(F.cross_entropy(network.logits(x, w, alphas), y), w)[0]
        torch.nn.utils.clip_grad_norm_([w], settings.gradient_clip)
        sgd.step()
        assert torch.equal(method.alphas, alphas) and torch.allclose(method.weights, w, rtol=0, atol=1e-9)
        assert (report.names, report.losses, report.weights, report.cosines) == ((), (), (), ())
        assert report.natural_accuracy is None and report.passes == method.passes_per_step == 2


@pytest.mark.parametrize("unrolled", [False, True])
def test_behind_the_warm_up_it_is_darts_that_starts_there(unrolled: bool) -> None:
    """Bit for bit: Adam starts fresh after the warm-up, SGD keeps its momentum."""
    shared = {"unrolled": unrolled, "alpha_learning_rate": 0.01}
    method = on_two_layers(**shared, warmup_epochs=1)
    for t in range(2):
        method.step(*batches(t, (1, 3, 3)), learning_rate=RATE)
    darts = on_two_layers(Darts, DartsConfig(**shared))
    darts.load_state_dict({name: value for name, value in method.state_dict().items() if name != "warmup_steps"} | {"steps": 0})
    method.begin_epoch(1)
    for t in range(2, 5):
        one, two = (search.step(*batches(t, (1, 3, 3)), learning_rate=RATE) for search in (method, darts))
        assert {**vars(one), "stage": ""} == vars(two) and one.passes == (6 if unrolled else 3)
    for name, value in darts.state_dict().items():
        ours = method.state_dict()[name]
        assert torch.equal(ours, value) if isinstance(value, Tensor) else name in ("steps", "layout"), name
    assert (method.steps, darts.steps) == (5, 3)


def test_checkpoints_count_the_warm_up_only_where_there_was_one() -> None:
    method = on_two_layers(warmup_epochs=1)
    assert "warmup_steps" not in method.state_dict()
    method.step(*batches(0, (1, 3, 3)), learning_rate=RATE)
    state = method.state_dict()
    assert (state["steps"], state["warmup_steps"]) == (1, 1)
    for wrong in (-1, 2, 1.0, None, True):
        with pytest.raises(CheckpointError, match="warmup_steps"):
            on_two_layers().load_state_dict(state | {"warmup_steps": wrong})


def test_the_stage_says_when_the_warm_up_ends() -> None:
    method = on_two_layers()
    told: dict[str, list[int]] = {}
    for epoch in range(50):
        method.begin_epoch(epoch)
        told.setdefault(method.stage, []).append(epoch)
    assert told == {"Warm-up: weights only, until epoch 15": list(range(15)),
                    "Search: weights and architecture, since epoch 16": list(range(15, 50))}
    assert on_two_layers(warmup_epochs=0).stage == ""


@pytest.mark.parametrize(("changes", "sentence"), [
    ({"epochs": 10, "warmup_epochs": 10}, "warmup_epochs must be at most 9.*got 10; lower it"),
    ({"epochs": 10}, "warmup_epochs must be at most 9"),
    ({"channels": 12}, "channels must be a multiple of 8 .*got 12; use 16 or change partial"),
    ({"partial": 3}, "channels must be a multiple of 6 .*got 16; use 18"), ({"partial": 0}, "partial")])
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        build("search", "pcdarts", "digits", "paper", changes)


def test_the_supernet_is_the_configured_one() -> None:
    config = build("search", "pcdarts", "digits", "quick", {"partial": 2, "edge_weights": False})
    supernet = supernet_of("pcdarts", config, classes=10, image_shape=(1, 8, 8))
    assert {cell.partial for cell in supernet.cells} == {2} and not supernet.edge_weights
    assert supernet_of("pcdarts", PcDartsConfig(), classes=10, image_shape=(3, 32, 32)).alpha_size == 2 * 14 * 8 + 2 * 14
    plain = build("search", "pcdarts", "digits", "quick", {"partial": 1, "edge_weights": False})
    darts = build("search", "darts", "digits", "quick")
    one, two = (supernet_of(name, settings, classes=10, image_shape=(1, 8, 8)) for name, settings in
                (("pcdarts", plain), ("darts", darts)))
    assert one.layout.entries == two.layout.entries and one.alpha_size == two.alpha_size and one.cells == two.cells


def test_deviations_are_named() -> None:
    assert PcDartsConfig(unrolled=True, edge_weights=False).deviations() == ["second order", "no edge weights"]
    assert DartsConfig(unrolled=False).deviations() == ["first order"] and DartsConfig().deviations() == []
