"""Training by several processes is training by one: the same states and measurements, up to rounding, and few messages."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from engine.data.augmentation import augment, generator_for
from engine.data.loading import batches
from engine.space.part import part_of
from engine.train.distributed import ALONE
from tests.engine.train.pair import CASES, MORE_CASES, computed, training_of
from tests.engine.train.test_retrain import flat

TOLERANCE = 1e-10
SAME = [case for case, (_, _, changes) in CASES.items() if "batch_norm" not in changes]
OWN = "statistics of each process"


def several(folder: Path, count: int, epochs: int, cases: Iterable[str] = CASES) -> list[dict[str, Any]]:
    """Compute cases with `count` processes, and return what each process has found."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    processes = [subprocess.Popen([sys.executable, "-m", "tests.engine.train.pair", str(number), str(count), str(folder),
                                   str(epochs), *cases], env=environment) for number in range(count)]
    try:
        assert [process.wait(900) for process in processes] == [0] * count
    finally:
        for process in processes:
            process.kill()
    return [torch.load(folder / f"process-{number}.pt", weights_only=True) for number in range(count)]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return several(tmp_path_factory.mktemp("pair"), 2, epochs=1)


def difference(one: object, other: object) -> float:
    """Return the largest difference between the numbers of two nested states."""
    if isinstance(one, dict) and isinstance(other, dict):
        assert one.keys() == other.keys()
        return max((difference(one[key], other[key]) for key in one), default=0.0)
    if isinstance(one, list) and isinstance(other, list):
        return max((difference(a, b) for a, b in zip(one, other, strict=True)), default=0.0)
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return float((one.double() - other.double()).abs().max())
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other)
    assert one == other
    return 0.0


def check_equal(found: list[dict[str, Any]], case: str, epochs: int) -> None:
    alone = computed(case, epochs, ALONE)
    assert difference(alone["state"], found[0][case]["state"]) < TOLERANCE
    # Accuracies are means of float32.
    assert difference(alone["measured"], found[0][case]["measured"]) < 1e-7


@pytest.mark.parametrize("case", SAME)
def test_two_processes_compute_what_one_computes(two: list[dict[str, Any]], case: str) -> None:
    """Theorem: with equal batches, the weights of two processes after an epoch are those of one, up to rounding."""
    check_equal(two, case, epochs=1)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_several_processes_compute_what_one_computes_over_epochs(tmp_path: Path, count: int) -> None:
    cases = [*SAME, *MORE_CASES]
    found = several(tmp_path, count, 3, cases)
    for case in cases:
        check_equal(found, case, epochs=3)
        for other in found[1:]:
            assert difference(found[0][case]["state"], other[case]["state"]) == 0


@pytest.mark.parametrize("case", CASES)
def test_all_processes_have_the_same_state(two: list[dict[str, Any]], case: str) -> None:
    """Theorem: weights, momentum, running statistics and averages of all processes are equal, bit for bit, after an epoch."""
    assert difference(two[0][case]["state"], two[1][case]["state"]) == 0


def test_recorded_steps_with_statistics_of_each_process_are_bit_equal_to_eager_ones(two: list[dict[str, Any]]) -> None:
    for found in two:
        assert difference(found["recorded"]["state"], found["eager"]["state"]) == 0
        assert difference(found["recorded"]["measured"], found["eager"]["measured"]) == 0


def test_with_statistics_of_each_process_gradients_and_running_statistics_are_means(two: list[dict[str, Any]]) -> None:
    """Theorem: a step takes the mean of the gradients of the parts, each with BatchNorm of its own."""
    training, x, y = training_of(OWN, ALONE)
    (order,) = batches(8, 8, generator_for(2, "order", 0))
    settings, expected = training.config, training.network
    x = augment(x[order], generator_for(settings.seed, "augment", 0, 0), settings.crop_padding, settings.flip, settings.cutout)
    parts = [copy.deepcopy(expected).train() for _ in range(2)]
    for network, images, labels in zip(parts, x.chunk(2), y[order].chunk(2), strict=True):
        F.cross_entropy(network(images), labels).backward()
    for mean, one, other in zip(expected.parameters(), *(part.parameters() for part in parts), strict=True):
        mean.grad = (one.grad + other.grad) / 2
    for mean, one, other in zip(expected.buffers(), *(part.buffers() for part in parts), strict=True):
        mean.copy_((one + other) / 2)
    torch.nn.utils.clip_grad_norm_(expected.parameters(), settings.gradient_clip)
    training.optimizer.step()
    assert difference(dict(expected.state_dict()), two[0][OWN]["state"]["network"]) < TOLERANCE
    assert difference(computed(OWN, 1, ALONE)["state"], two[0][OWN]["state"]) > 1e-3  # it is other mathematics than one process's


# {case: passes in training mode whose BatchNorms synchronise: (forward, backward)}
PASSES = {"PGD-AT": (2, 1), "natural": (1, 1), "TRADES": (2, 2), "Fast-AT": (2, 2), "PGD-AT, residual network": (2, 1)}


@pytest.mark.parametrize("case", PASSES)
def test_a_step_sends_gradients_once_and_the_attack_sends_none(two: list[dict[str, Any]], case: str) -> None:
    """Theorem: a step makes one all-reduce of gradients, and one per BatchNorm in each forward or backward pass that trains.

    The attacks of PGD-AT and TRADES make none. The attack of Fast-AT is a forward and a backward pass in training mode.
    """
    found, (forward, backward) = two[0][case], PASSES[case]
    expected = {"gradients": 1, "statistics": (forward + backward) * found["norms"]}
    steps, (measurement,) = found["sent"][:-1], found["sent"][-1:]
    for number, sent in enumerate(steps):
        # Fast-AT counts what its check for overfitting finds on the batch.
        probes = {"sums": 1} if case == "Fast-AT" and number % 2 == 0 else {}
        assert sent == expected | probes
    assert measurement == {"sums": 1}


def test_with_statistics_of_each_process_a_step_sends_once(two: list[dict[str, Any]]) -> None:
    assert all(sent == {"gradients": 1} for sent in two[0][OWN]["sent"][:-1])


@pytest.mark.parametrize("case", ["TRADES", "Fast-AT"])
def test_one_process_goes_on_where_two_stopped(two: list[dict[str, Any]], case: str) -> None:
    """Theorem: a state of two processes, loaded by one, is the state of one. The reverse is test_processes.py's."""
    training, x, y = training_of(case, ALONE)
    training.load_state_dict(two[0][case]["state"])
    assert difference(training.state_dict(), two[0][case]["state"]) == 0
    training.step(x[:8], y[:8], epoch=1, step=0)
    assert all(torch.isfinite(tensor).all() for tensor in flat(training.state_dict()))


@pytest.mark.parametrize("images", range(1, 40))
@pytest.mark.parametrize("processes", [2, 3, 5])
def test_parts_are_a_batch(images: int, processes: int) -> None:
    """Theorem: shares add up to 1, and sums over parts, with their weights, are sums over the batch."""
    parts = [part_of(images, number, processes) for number in range(processes)]
    values = torch.rand(images, dtype=torch.float64)
    assert abs(sum(part.share for part in parts) - 1) < 1e-12
    assert abs(sum(part.share * values[part.rows].mean() for part in parts) - values.mean()) < 1e-12
    assert abs(sum(part.weight * values[part.rows].sum() for part in parts) - values.sum()) < 1e-10
    assert all(part.own > 1 or images == 1 for part in parts)
    assert max(part.own for part in parts) - min(part.own for part in parts) <= 1
