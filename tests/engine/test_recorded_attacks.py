"""Recorded forward and backward passes of attacks equal eager ones. On a CPU a recording is a second call of the function; on the
device of RAMPART_TEST_DEVICE it is a CUDA graph."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from engine.architecture.catalogue import CATALOG
from engine.attack.catalogue import ATTACKS
from engine.attack.evaluation import Evaluation
from engine.attack.guard import attacked as differentiated
from engine.attack.guard import under_attack
from engine.attack.inspection import Inspection
from engine.config import AttackConfig
from engine.graphs import Function, Graphs
from engine.space.network import Network
from tests.engine.search.functional_networks import DEVICE
from tests.engine.search.recordings import RECORDINGS, Counting, Rerun, on_gpu

SHAPE, CLASSES = (1, 8, 8), 5


def cubed(x: Tensor) -> Tensor:
    return (x**3).flatten(1)


def gradient_of(function: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    point = x.clone().requires_grad_()
    result = function(point)
    (gradient,) = torch.autograd.grad((result * torch.arange(result.numel(), device=DEVICE).view_as(result)).sum(), point)
    return result.detach(), gradient


def images(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


@pytest.mark.parametrize("record", RECORDINGS)
def test_results_and_gradients_are_the_functions_and_belong_to_the_caller(record: Any) -> None:
    recorded = Graphs(counting := Counting(record)).differentiable("kind", cubed)
    found = [gradient_of(recorded, images(4, seed)) for seed in range(3)]
    for seed, pair in enumerate(found):
        for one, other in zip(pair, gradient_of(cubed, images(4, seed)), strict=True):
            assert torch.equal(one, other)
    assert len(counting.made) == 2, "one recording of each pass"


@pytest.mark.parametrize("record", RECORDINGS)
def test_a_smaller_batch_is_filled_up_and_a_much_smaller_or_larger_one_runs_eagerly(record: Any) -> None:
    recorded = Graphs(counting := Counting(record)).differentiable("kind", cubed, batch=8)
    for count, recordings in ((4, 0), (9, 0), (0, 0), (5, 2), (8, 2), (7, 2)):
        result, gradient = gradient_of(recorded, images(count))
        expected = gradient_of(cubed, images(count))
        assert torch.equal(result, expected[0]) and torch.equal(gradient, expected[1])
        assert len(counting.made) == recordings


@pytest.mark.parametrize("record", RECORDINGS)
def test_a_gradient_is_refused_after_another_pass(record: Any) -> None:
    graphs = Graphs(Counting(record))
    recorded, x = graphs.differentiable("kind", cubed), images(2).requires_grad_()
    first = recorded(x).sum()
    torch.autograd.grad(first, x, retain_graph=True)
    torch.autograd.grad(first, x, retain_graph=True)
    graphs.run("other", lambda x: (x + 1,), images(2))
    with pytest.raises(RuntimeError, match="must follow its own forward pass"):
        torch.autograd.grad(first, x)


def test_without_gradients_there_is_no_graph_of_autograd() -> None:
    recorded = Graphs(Counting(Rerun)).differentiable("kind", cubed)
    with torch.no_grad():
        assert not recorded(images(2)).requires_grad


def test_a_refused_capture_leaves_eager_passes() -> None:
    def refuse(function: Function, inputs: tuple[Tensor, ...]) -> Any:
        raise RuntimeError("no graphs here")

    graphs = Graphs(refuse)
    recorded = graphs.differentiable("kind", cubed)
    for one, other in zip(gradient_of(recorded, images(2)), gradient_of(cubed, images(2)), strict=True):
        assert torch.equal(one, other)
    assert "no graphs here" in graphs.refusal


def test_a_training_that_lacks_the_memory_for_recordings_goes_on_eagerly() -> None:
    """Its eager passes need less, because they share their memory with the rest of the training."""
    def refuse(function: Function, inputs: tuple[Tensor, ...]) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    graphs = Graphs(refuse)
    assert torch.equal(graphs.differentiable("kind", cubed)(images(2)), cubed(images(2)))
    assert "CUDA out of memory" in graphs.refusal and not graphs.record


@on_gpu
def test_after_a_broken_capture_the_device_draws_random_numbers() -> None:
    graphs = Graphs.on(DEVICE)
    function = graphs.differentiable("kind", lambda x: x * float(x.sum()))  # waits for the device, which no capture allows
    function(images(2))
    assert graphs.refusal and not graphs.record
    assert torch.rand(3, device=DEVICE).shape == (3,)


def network(seed: int = 3) -> Network:
    torch.manual_seed(seed)
    return Network(CATALOG["ARNAS"].genotype, channels=4, layers=3, classes=CLASSES, image_shape=SHAPE).to(DEVICE)


def attacked(graphs: Graphs | None, batch: int) -> Evaluation:
    config = AttackConfig(attacks=("fgsm", "pgd-3", "mi-fgsm", "apgd-ce", "apgd-t", "fab-t", "fmn"), epsilon=0.02, step_size=0.01,
                          batch_size=batch)
    y = network().eval().requires_grad_(False)(images(20)).argmax(1)
    evaluation = Evaluation(config, network().eval().requires_grad_(False), images(20), y, classes=CLASSES, indices=range(20))
    evaluation.graphs = graphs or evaluation.graphs
    while not evaluation.over:
        evaluation.step()
    return evaluation


@pytest.mark.parametrize("record", RECORDINGS)
def test_a_recorded_evaluation_finds_what_an_eager_one_finds(record: Any) -> None:
    eager, recorded = attacked(Graphs(), 8), attacked(Graphs(counting := Counting(record)), 8)
    assert len(counting.made) == 2 and recorded.graphs.replays > 50
    for name, outcomes in recorded.outcomes.items():
        assert torch.equal(outcomes.correct, eager.outcomes[name].correct), name
        torch.testing.assert_close(recorded.adversarial[name], eager.adversarial[name], atol=1e-4, rtol=0)


def transferred(graphs: Graphs, maker: str) -> Evaluation:
    """Return a finished evaluation whose only attack makes its images on another network."""
    victim, other = (network(seed).eval().requires_grad_(False) for seed in (3, 4))
    config = AttackConfig(attacks=(), transfer_attack=maker, epsilon=0.05, step_size=0.02, batch_size=8)
    evaluation = Evaluation(config, victim, images(20), victim(images(20)).argmax(1), classes=CLASSES, indices=range(20),
                            sources={"ba9876543210": other})
    evaluation.graphs = graphs
    while not evaluation.over:
        evaluation.step()
    return evaluation


@pytest.mark.parametrize("maker", ["mi-fgsm", "apgd-ce"])
@pytest.mark.parametrize("record", RECORDINGS)
def test_a_transfer_attack_records_the_passes_of_the_other_network(record: Any, maker: str) -> None:
    """Find the same images as eager passes. Of 20 images in batches of 8, the last four are too few for the recording."""
    eager, recorded = transferred(Graphs(), maker), transferred(Graphs(counting := Counting(record)), maker)
    (name,) = set(eager.stages) - {"natural"}
    assert len(counting.made) == 2 and recorded.graphs.replays >= 2 * ATTACKS[maker].steps
    torch.testing.assert_close(recorded.adversarial[name], eager.adversarial[name], atol=1e-4, rtol=0)
    moved = (recorded.adversarial[name] - images(20)[recorded.sample].cpu()).abs().flatten(1).amax(1)
    assert bool((moved > 0.04).all()), "the images were attacked"


@pytest.mark.parametrize("record", RECORDINGS)
def test_two_networks_have_recordings_of_their_own(record: Any) -> None:
    graphs = Graphs(counting := Counting(record))
    for one in (network(3), network(4)):
        with under_attack(one):
            recorded, eager = differentiated(one, graphs=graphs), differentiated(one)
            for value, expected in zip(gradient_of(recorded, images(4)), gradient_of(eager, images(4)), strict=True):
                torch.testing.assert_close(value, expected, atol=1e-5, rtol=0)
    assert len(counting.made) == 4


@pytest.mark.parametrize("record", RECORDINGS)
def test_reliability_checks_record_their_attacks(record: Any) -> None:
    counting = Counting(record)
    eager, recorded = (Inspection(attacked(graphs, 8), {}) for graphs in (Graphs(), Graphs(counting)))
    before = len(counting.made)
    for epsilon in (0.02, 0.0):
        with under_attack(eager.network), under_attack(recorded.network):
            made = [one.attack(ATTACKS["pgd-20"], replace(one.settings, epsilon=epsilon)) for one in (eager, recorded)]
        torch.testing.assert_close(*made, atol=1e-4, rtol=0)
    assert len(counting.made) == before + 2, "one recording of each pass, for all checks"


class Foreign(nn.Module):
    """A network of unknown kind, whose forward pass reads a number from the device."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(1)) * (2 if float(x.sum()) > 0 else 1)


def test_a_network_of_unknown_kind_is_not_recorded() -> None:
    foreign = Foreign().to(DEVICE)
    assert differentiated(foreign, graphs=Graphs(Counting(Rerun))) is foreign


@pytest.mark.skipif(DEVICE.type != "cuda", reason="needs a GPU: RAMPART_TEST_DEVICE=cuda")
def test_evaluations_on_a_gpu_record_by_themselves() -> None:
    assert (evaluation := attacked(None, 8)).graphs.replays and not evaluation.graphs.refusal
