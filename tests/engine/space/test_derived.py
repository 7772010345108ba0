"""The live and the frozen form of a derived network against its modules, in float64.

The frozen form is tested as attacks get it, which is compiled where the kernels serve the network, and as PyTorch computes it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from engine.architecture.catalogue import CATALOG, find_genotype
from engine.architecture.genotype import KINDS_OF_ARNAS, KINDS_OF_DARTS
from engine.architecture.placement import reductions
from engine.space.derived import fits_rows, frozen_by_layout
from engine.space.network import Network
from tests.engine.architectures import random_genotype

ROWS, ODD, LARGE = (1, 8, 8), (2, 9, 10), (3, 32, 32)
FORMS: dict[str, Callable[[Network], Callable[[Tensor], Tensor]]] = {
    "chosen": lambda built: built.frozen(), "by layout": lambda built: frozen_by_layout(built, built.image_shape[1:])}
GENOTYPES = [name for name, entry in CATALOG.items() if entry.genotype]


def network(genotype: object, shape: tuple[int, int, int], channels: int = 4, **changes: object) -> Network:
    """Return a network with statistics, scales and shifts like those of a trained one."""
    torch.manual_seed(0)
    sizes = {"channels": channels, "layers": 4, "classes": 10, "image_shape": shape}
    built = Network(genotype, **sizes, std=[0.5] * shape[0], **changes).double()
    for module in built.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias, -1, 1)
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return built


def images(shape: tuple[int, int, int], count: int = 3) -> Tensor:
    return torch.rand(count, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def by_modules(built: Network, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits and auxiliary logits, computed module by module in the network's current mode."""
    before_last = last = built.stem((x - built.mean[:, None, None]) / built.std[:, None, None])
    for i, cell in enumerate(built.cells):
        before_last, last = last, cell(before_last, last, built.drop_path, built.drop_path_generator)
        if i == reductions(built.layers)[1]:
            middle = last
    return built.classifier(last.mean(dim=(2, 3))), built.auxiliary_head(middle) if built.auxiliary else middle


def assert_close(one: Tensor, other: Tensor) -> None:
    scale = float(other.detach().abs().max()) or 1.0
    torch.testing.assert_close(one, other, rtol=0, atol=1e-12 * scale)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("name", "shape"), [(name, ROWS) for name in GENOTYPES]
                         + [(name, shape) for name in ("ARNAS", "AmoebaNet", "NASNet", "DARTS_V2") for shape in (ODD, LARGE)])
def test_the_frozen_form_is_the_network_in_evaluation_mode(name: str, shape: tuple[int, int, int], form: str) -> None:
    built = network(find_genotype(name), shape).eval()
    frozen, x = FORMS[form](built), images(shape).requires_grad_()
    logits, expected = frozen(x), built(x)
    assert_close(logits, expected)
    assert torch.equal(logits.argmax(1), expected.argmax(1))
    assert_close(torch.autograd.grad(logits.sin().sum(), x)[0], torch.autograd.grad(expected.sin().sum(), x)[0])


@pytest.mark.parametrize("form", FORMS)
def test_queries_give_the_same_and_their_answers_may_be_changed(form: str) -> None:
    built = network(find_genotype("ARNAS"), ROWS).eval()
    frozen, x = FORMS[form](built), images(ROWS)
    with torch.no_grad():
        queried = frozen(x)
    queried[0] = 0.0
    assert torch.equal(queried[1:], frozen(x)[1:])
    assert frozen(x.requires_grad_()).requires_grad  # nothing that a query computed is left behind


def test_many_channels_lie_last_in_memory_and_give_the_same() -> None:
    built = network(find_genotype("ARNAS"), (3, 12, 12), channels=16).eval()
    x = images((3, 12, 12)).requires_grad_()
    logits, expected = frozen_by_layout(built, (12, 12))(x), built(x)
    assert_close(logits, expected)
    assert_close(torch.autograd.grad(logits.sum(), x)[0], torch.autograd.grad(expected.sum(), x)[0])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [ROWS, ODD])
@pytest.mark.parametrize("kinds", [KINDS_OF_ARNAS, KINDS_OF_DARTS])
def test_the_frozen_form_of_random_networks(kinds: tuple[str, ...], shape: tuple[int, int, int], form: str) -> None:
    for seed in range(4):
        built = network(random_genotype(seed, kinds), shape).eval()
        assert_close(FORMS[form](built)(images(shape)), built(images(shape)))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [ROWS, LARGE])
def test_a_frozen_form_stays_what_it_was(shape: tuple[int, int, int], form: str) -> None:
    built = network(find_genotype("AmoebaNet" if shape == LARGE else "ARNAS"), shape).eval()
    frozen, x = FORMS[form](built), images(shape)
    before = frozen(x)
    with torch.no_grad():
        for value in [*built.parameters(), *built.buffers()]:
            value.mul_(2)
    assert torch.equal(frozen(x), before)
    assert not before.requires_grad


@pytest.mark.parametrize("drop_path", [0.0, 0.4])
@pytest.mark.parametrize(("name", "shape", "auxiliary"), [
    *[(name, ROWS, False) for name in ("ARNAS", "DARTS_V2", "E2RNAS_V1_CIFAR10", "AmoebaNet")],
    *[(name, ODD, False) for name in ("ARNAS", "AmoebaNet")], ("DARTS_V2", LARGE, True)])
def test_a_training_pass_is_that_of_the_modules(name: str, shape: tuple[int, int, int], auxiliary: bool,
                                                         drop_path: float) -> None:
    plain = network(find_genotype(name), shape, auxiliary=auxiliary).train()
    fast, found = copy.deepcopy(plain), []
    for built, run in ((plain, by_modules), (fast, lambda built, x: built.forward_with_auxiliary(x))):
        built.drop_path, built.drop_path_generator = drop_path, torch.Generator().manual_seed(1)
        logits, second = run(built, images(shape))
        (logits.sin().sum() + (second.sin().sum() if auxiliary else 0.0)).backward()
        found.append(logits)
    assert_close(*found)
    largest = max(float(p.grad.abs().max()) for p in plain.parameters() if p.grad is not None)
    for (where, expected), got in zip(plain.named_parameters(), fast.parameters(), strict=True):
        assert (expected.grad is None) == (got.grad is None), where
        if expected.grad is not None:
            torch.testing.assert_close(got.grad, expected.grad, rtol=0, atol=1e-12 * largest)
    for expected, got in zip(plain.buffers(), fast.buffers(), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def test_a_batch_norm_in_evaluation_mode_stays_so_in_a_training_pass() -> None:
    built = network(find_genotype("ARNAS"), ROWS).train()
    norm = built.cells[0].preprocess1.op[2].eval()
    before = norm.running_mean.clone()
    logits, _ = by_modules(copy.deepcopy(built), images(ROWS))
    assert_close(built(images(ROWS)), logits)
    assert torch.equal(norm.running_mean, before)


def test_which_networks_are_computed_as_rows() -> None:
    arnas, amoeba = (network(find_genotype(name), ROWS) for name in ("ARNAS", "AmoebaNet"))
    assert fits_rows(arnas, images(ROWS)) and not fits_rows(amoeba, images(ROWS))  # AmoebaNet has 7x1 convolutions
    assert not fits_rows(arnas, images(ODD)) and not fits_rows(arnas, images(LARGE))
