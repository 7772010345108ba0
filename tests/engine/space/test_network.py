"""The derived network: names, shapes, normalisation, drop path, gradients, and state dicts of the DARTS family."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.architecture.catalogue import CATALOG, find_genotype
from engine.architecture.genotype import KINDS_OF_DARTS, OPERATIONS, Cell, Genotype
from engine.errors import CheckpointError, ConfigError, GenotypeError
from engine.space.network import Network, load_darts_state_dict
from engine.space.primitives import FactorizedReduce, drop_path, operation
from tests.engine.architectures import random_genotype

SIZES: dict[str, Any] = {"channels": 4, "layers": 5, "classes": 10, "image_shape": (1, 8, 8)}


def network(name: str = "ARNAS", seed: int = 0, **changes: Any) -> Network:
    torch.manual_seed(seed)
    return Network(find_genotype(name), **(SIZES | changes))


def images(count: int = 3, seed: int = 0, shape: tuple[int, ...] = (1, 8, 8)) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed))


def family_state(source: Network) -> dict[str, Tensor]:
    """Return the state dict of a DARTS-family file, which has no normalisation."""
    return {name: value.clone() for name, value in source.state_dict().items() if name not in ("mean", "std")}


@pytest.mark.parametrize("name", [name for name, entry in CATALOG.items() if entry.genotype])
def test_every_catalogue_genotype_gives_logits(name: str) -> None:
    assert network(name)(images()).shape == (3, 10)


def test_names_are_those_of_the_darts_family() -> None:
    built = Network(find_genotype("ARNAS"), channels=4, layers=20, classes=10, image_shape=(3, 32, 32), auxiliary=True)
    shapes = {name: tuple(value.shape) for name, value in built.state_dict().items()}
    assert shapes["stem.0.weight"] == (12, 3, 3, 3)
    assert shapes["stem.1.running_mean"] == (12,)
    assert shapes["cells.3.preprocess0.op.1.weight"] == (4, 16, 1, 1)
    assert shapes["cells.0.preprocess1.op.2.bias"] == (4,)
    assert shapes["cells.7.preprocess0.conv_1.weight"] == (4, 16, 1, 1)
    assert shapes["cells.7.preprocess0.bn.weight"] == (8,)
    assert shapes["cells.0._ops.2.op.1.weight"] == (4, 1, 5, 5)  # sep_conv_5x5: first depthwise
    assert shapes["cells.0._ops.2.op.6.weight"] == (4, 4, 1, 1)  # second pointwise
    assert shapes["cells.6._ops.2.op.1.weight"] == (8, 1, 5, 5)  # dil_conv_5x5
    assert shapes["auxiliary_head.features.2.weight"] == (128, 32, 1, 1)
    assert shapes["auxiliary_head.features.5.weight"] == (768, 128, 2, 2)
    assert shapes["auxiliary_head.features.6.weight"] == (768,)
    assert shapes["auxiliary_head.classifier.weight"] == (10, 768)
    assert shapes["classifier.weight"] == (10, 32)
    reducing = network("E2RNAS_V1_CIFAR10", image_shape=(3, 8, 8)).state_dict()
    assert reducing["cells.1._ops.0.conv_1.weight"].shape == (4, 8, 1, 1)  # skip_connect of stride 2
    assert "cells.1._ops.0.bn.running_var" in reducing
    assert network("AmoebaNet").state_dict()["cells.1._ops.8.1.weight"].shape == (8, 8, 1, 7)


def test_the_auxiliary_head_of_64_pixels_has_kernel_4() -> None:
    built = network(image_shape=(3, 64, 64), auxiliary=True, channels=2, layers=3)
    assert built.auxiliary_head.features[5].kernel_size == (4, 4)
    logits, auxiliary = built.forward_with_auxiliary(images(2, shape=(3, 64, 64)))
    assert logits.shape == auxiliary.shape == (2, 10)


def test_forward_is_the_same_with_and_without_the_auxiliary_head() -> None:
    x = images(2, shape=(3, 32, 32))
    built = network(image_shape=(3, 32, 32), auxiliary=True, layers=3).eval()
    logits, auxiliary = built.forward_with_auxiliary(x)
    assert torch.equal(built(x), logits)
    assert auxiliary is not None
    without = network().eval()
    logits, auxiliary = without.forward_with_auxiliary(images())
    assert auxiliary is None
    assert torch.equal(without(images()), logits)


def test_a_cell_sums_the_edges_of_the_genotype() -> None:
    """Compares with plain loops, for a genotype whose nodes feed each other."""
    genotype = find_genotype("DARTS_V2")
    built = Network(genotype, **SIZES).eval()
    cell, record = built.cells[0], genotype.cell("normal")
    x = torch.randn(2, 12, 8, 8)
    states = [cell.preprocess0(x), cell.preprocess1(x)]
    for node in range(4):
        (_, a), (_, b) = record.edges[2 * node:2 * node + 2]
        states.append(cell._ops[2 * node](states[a]) + cell._ops[2 * node + 1](states[b]))
    assert torch.equal(cell(x, x, 0.0, None), torch.cat(states[2:], dim=1))


def test_eval_is_deterministic_and_ignores_drop_path() -> None:
    built = network().eval()
    first = built(images())
    built.drop_path = 0.5
    assert torch.equal(built(images()), first)


def test_drop_path_keeps_the_expected_value() -> None:
    """Survivors are scaled by 1 / (1 - p), so the mean over images is the input for every probability p."""
    x = torch.ones(200_000, 1, 1, 1)
    for probability in (0.0, 0.2, 0.7):
        dropped = drop_path(x, probability, torch.Generator().manual_seed(1))
        values = dropped.unique()
        assert torch.allclose(values[values > 0], torch.tensor(1 / (1 - probability)))
        # Standard error of the mean is sqrt(p / (1 - p) / n) < 0.0035; five of them.
        assert abs(dropped.mean().item() - 1) < 0.0175


def test_drop_path_drops_whole_images_by_its_own_generator() -> None:
    x = torch.ones(64, 3, 4, 4)
    dropped = drop_path(x, 0.5, torch.Generator().manual_seed(0)).flatten(1)
    assert torch.equal(dropped.amin(1), dropped.amax(1))
    built = network().train()
    built.drop_path = 0.5
    outputs = []
    for _ in range(2):
        built.drop_path_generator = torch.Generator().manual_seed(5)
        outputs.append(built(images(8)))
    assert torch.equal(*outputs)
    assert not torch.equal(built(images(8)), outputs[0])


def test_plain_skip_connections_are_never_dropped() -> None:
    skip = Cell((("skip_connect", 0), ("skip_connect", 1)), (2,))
    pool = Cell((("max_pool_3x3", 0), ("max_pool_3x3", 1)), (2,))
    built = Network(Genotype((("normal", skip), ("reduce", pool))), **SIZES).train()
    x = torch.randn(16, 12, 8, 8)
    assert torch.equal(built.cells[0](x, x, 0.9, None), built.cells[0](x, x, 0.0, None))


def test_normalisation_is_inside() -> None:
    """A network with mean m and std s computes on x what the plain network computes on (x - m) / s."""
    plain, normalised = network().eval(), network(mean=[0.3], std=[0.5]).eval()
    x = images()
    assert torch.equal(normalised(x), plain((x - 0.3) / 0.5))
    identity = network(mean=[0.0], std=[1.0]).eval()
    assert torch.equal(identity(x), plain(x))
    assert not any(name in ("mean", "std") for name, _ in plain.named_parameters())


@pytest.mark.parametrize("changes", [{"mean": [0.1, 0.2]}, {"std": [0.0]}, {"std": [-1.0]}, {"mean": [float("nan")]}])
def test_a_normalisation_that_does_not_fit_is_refused(changes: dict[str, list[float]]) -> None:
    with pytest.raises(ConfigError, match="one per image channel"):
        network(**changes)


def test_sizes_that_no_network_has_are_refused() -> None:
    with pytest.raises(ConfigError, match="layers"):
        network(layers=2)
    with pytest.raises(ConfigError, match="auxiliary"):
        network(auxiliary=True)
    with pytest.raises(ConfigError, match="even"):
        FactorizedReduce(4, 3)
    with pytest.raises(GenotypeError, match="Did you mean"):
        operation("sep_conv_9x9", 4, 1)


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_halves_rounded_up_and_passes_gradients(name: str) -> None:
    for side in (1, 2, 5, 8):
        for stride in (1, 2):
            x = torch.randn(2, 4, side, side, requires_grad=True)
            y = operation(name, 4, stride)(x)
            assert y.shape == (2, 4, -(-side // stride), -(-side // stride))
            y.sum().backward()
            assert torch.isfinite(x.grad).all()


def test_the_gradient_is_that_of_finite_differences() -> None:
    """Along any direction, the gradient by the image is the limit of central differences of a logit."""
    built = Network(random_genotype(4, KINDS_OF_DARTS), **(SIZES | {"channels": 2, "layers": 3})).double().eval()
    x = images(1).double().requires_grad_()
    direction = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad(built(x)[0, 0], x)
    h = 1e-6
    with torch.no_grad():
        difference = (built(x + h * direction) - built(x - h * direction))[0, 0] / (2 * h)
    assert (gradient * direction).sum().item() == pytest.approx(difference.item(), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("wrap", ["plain", "module.", "module.module.", "state_dict", "alphas", "no counters", "normalisation"])
def test_files_of_the_darts_family_load(wrap: str) -> None:
    source, target = network(seed=1).eval(), network(seed=2).eval()
    state: dict[str, Any] = family_state(source)
    if wrap.startswith("module"):
        state = {wrap + name: value for name, value in state.items()}
    elif wrap == "state_dict":
        state = {"epoch": 3, "state_dict": {f"module.{name}": value for name, value in state.items()}}
    elif wrap == "alphas":
        state |= {"alphas_robust": torch.zeros(14, 7), "_arch_parameters.0": torch.zeros(14, 7)}
    elif wrap == "no counters":
        state = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    elif wrap == "normalisation":
        state |= {"mean": torch.zeros(1, 1, 1, 1), "std": torch.ones(1)}
    assert not torch.equal(target(images()), source(images()))
    load_darts_state_dict(target, state)
    assert torch.equal(target(images()), source(images()))


def test_our_own_state_dict_carries_the_normalisation() -> None:
    source, target = network(seed=1, mean=[0.3], std=[0.5]).eval(), network(seed=2).eval()
    load_darts_state_dict(target, source.state_dict())
    assert torch.equal(target(images()), source(images()))
    # A file without it leaves the network's own.
    other = network(seed=3, mean=[0.3], std=[0.5]).eval()
    load_darts_state_dict(other, family_state(source))
    assert torch.equal(other(images()), source(images()))


def broken(name: str) -> Any:
    state: dict[str, Any] = family_state(network(seed=1))
    if name == "missing":
        del state["cells.3.preprocess0.op.1.weight"]
    elif name == "unexpected":
        state["cells.9.preprocess0.op.1.weight"] = torch.zeros(1)
    elif name == "ill-shaped":
        state["classifier.weight"] = torch.zeros(100, 32)
    elif name == "not a tensor":
        state["classifier.weight"] = [1.0]
    elif name == "not finite":
        state["classifier.bias"] = torch.full((10,), float("nan"))
    elif name == "twice":
        state["module.classifier.bias"] = torch.zeros(10)
    elif name == "supernet":
        state["cells.3._ops.5._ops.4.op.1.weight"] = torch.zeros(1)
    elif name == "auxiliary":
        state["auxiliary_head.features.2.weight"] = torch.zeros(1)
    elif name == "bad std":
        state["std"] = torch.zeros(1)
    else:
        return {"list": [state], "none": None, "text": "state"}[name]
    return state


@pytest.mark.parametrize(("name", "part"), [
    ("missing", "1 missing (cells.3.preprocess0.op.1.weight)"),
    ("unexpected", "1 unexpected (cells.9.preprocess0.op.1.weight)"),
    ("ill-shaped", "classifier.weight (100, 32) instead of (10, 32)"),
    ("not a tensor", "classifier.weight"),
    ("not finite", "classifier.bias"),
    ("twice", "classifier.bias"),
    ("supernet", "load it into the supernet"),
    ("auxiliary", "with an auxiliary head"),
    ("bad std", "std"),
    ("list", "map names to tensors, got list"),
    ("none", "map names to tensors, got NoneType"),
    ("text", "map names to tensors, got str"),
])
def test_a_file_that_does_not_fit_is_refused_and_nothing_is_loaded(name: str, part: str) -> None:
    target = network(seed=2)
    before = copy.deepcopy(target.state_dict())
    with pytest.raises(CheckpointError) as refusal:
        load_darts_state_dict(target, broken(name))
    assert part in str(refusal.value)
    assert len(str(refusal.value)) < 400
    assert all(torch.equal(value, before[entry]) for entry, value in target.state_dict().items())


def test_a_refusal_names_only_the_first_few() -> None:
    with pytest.raises(CheckpointError, match=r"missing \(stem.0.weight, .* and \d+ more\)"):
        load_darts_state_dict(network(), {})
