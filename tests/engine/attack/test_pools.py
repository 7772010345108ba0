"""Attacks in two lanes: the outcomes of one, stops in either lane, and checkpoints of another number of pools."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.architecture.catalogue import find_genotype
from engine.attack.evaluation import Evaluation
from engine.attack.guard import attacked, under_attack
from engine.attack.sweep import Sweep
from engine.config import AttackConfig
from engine.errors import StopRequested
from engine.space.compiled.build import unavailable
from engine.space.compiled.frozen import Frozen
from engine.space.network import Network
from tests.engine.attack.trained import trained

IMAGES = 36  # in more than one batch of each lane
needs_kernels = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))


@lru_cache
def derived() -> tuple[nn.Module, Tensor, Tensor]:
    """Return a derived network, which attacks call in its frozen form, with the images and labels of `trained`."""
    _, x, y = trained()
    torch.manual_seed(0)
    network = Network(find_genotype("ARNAS"), channels=4, layers=4, classes=10, image_shape=(1, 8, 8))
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(60):
        noisy = (x + 0.1 * (torch.rand_like(x) - 0.5).sign()).clamp(0, 1)
        optimiser.zero_grad()
        F.cross_entropy(network(noisy), y).backward()
        optimiser.step()
    return network.eval().requires_grad_(False), x, y


Made = Callable[[], tuple[nn.Module, Tensor, Tensor]]
NETWORKS = pytest.mark.parametrize("made", [trained, derived], ids=["plain", "derived"])


@pytest.fixture(autouse=True)
def threads_are_as_before() -> Iterator[None]:
    """Restore torch's number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def evaluation(threads: int, made: Made = trained, images: int = IMAGES, **changes: Any) -> Evaluation:
    """Return an evaluation of at most `images` images, whose steps have a number of threads."""
    network, x, y = made()
    x, y = x[:images], y[:images]
    torch.set_num_threads(threads)
    config = AttackConfig(**({"attacks": ("fgsm", "apgd-ce", "apgd-t"), "epsilon": 0.12, "step_size": 0.03, "batch_size": 16,
                              "sweep_radii": 4, "sweep_images": None} | changes))
    return Evaluation(config, network, x, y, classes=10, indices=range(len(y)), checkpoint="abc")


def run(it: Evaluation, poll: Callable[[], None] = lambda: None) -> int:
    """Run an evaluation to its end, and return the number of its steps."""
    steps = 0
    while not it.over:
        it.step(poll=poll)
        steps += 1
    return steps


def saved(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state that was written to disk and read again."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    read: dict[str, Any] = torch.load(buffer, weights_only=True)
    return read


def verdicts(it: Evaluation) -> dict[str, list[Any]]:
    """Return the columns of the outcomes that do not depend on rounding."""
    columns = it.outcome_columns()
    return {name: columns[name] for name in ("image", "attack", "correct", "prediction", "iterations")}


@NETWORKS
@pytest.mark.parametrize("threads", [2, 4])
def test_two_lanes_find_what_one_finds(made: Made, threads: int) -> None:
    alone, callers = evaluation(1, made, 87), set()
    steps = run(alone)
    beside = evaluation(threads, made, 87)
    assert run(beside, lambda: callers.add(threading.get_ident())) < steps
    assert len(callers) > 2, "the main thread and two lanes per step"
    assert torch.get_num_threads() == threads
    assert verdicts(beside) == verdicts(alone)
    fallen = [int((outcomes.correct == 0).sum()) for outcomes in beside.outcomes.values()]
    assert 0 < fallen[1] < fallen[3] < len(beside.y), "the attacks break some images and leave others"
    for name, outcomes in beside.outcomes.items():
        for column in ("margin", "linf", "l2", "confidence"):
            assert torch.allclose(outcomes.columns[column], alone.outcomes[name].columns[column], atol=1e-4), (name, column)
        assert torch.allclose(beside.adversarial[name], alone.adversarial[name], atol=1e-4)


@NETWORKS
@pytest.mark.parametrize("lane", ["lane_0", "lane_1"])
@pytest.mark.parametrize("asked", [1, 61])
def test_a_stop_in_either_lane_changes_nothing(made: Made, lane: str, asked: int) -> None:
    """The stop comes at a lane's poll number `asked`. Nothing that was computed is lost, and no step is counted twice."""
    polls = [0, 0, 0]  # of the whole evaluation, before the stop, after it

    def count(which: int) -> None:
        polls[which] += 1  # the lanes call it one at a time

    whole = evaluation(2, made)
    steps = run(whole, lambda: count(0))
    stopped, asked_so_far = evaluation(2, made), 0

    def poll() -> None:
        nonlocal asked_so_far
        asked_so_far += threading.current_thread().name == lane
        if asked_so_far == asked:
            raise StopRequested
        count(1)

    taken = 0
    with pytest.raises(StopRequested):
        while not stopped.over:
            taken += 1
            stopped.step(poll=poll)
    again = evaluation(2, made)
    again.load_state_dict(saved(stopped.state_dict()))
    assert again.progress == stopped.progress and again.stage == stopped.stage
    assert taken + run(again, lambda: count(2)) == steps + 1  # the step in which the stop came ends where it would have ended
    assert polls[1] + polls[2] == polls[0]
    run(stopped)
    for one in (stopped, again):
        assert one.outcome_columns() == whole.outcome_columns()


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_a_checkpoint_continues_with_another_number_of_threads(before: int, after: int) -> None:
    whole, first = evaluation(before), evaluation(before)
    run(whole)
    while first.stage != "apgd-t" or not first.keeps_iterations:
        first.step()
    second = evaluation(after)
    second.load_state_dict(saved(first.state_dict()))
    run(second)
    assert verdicts(second) == verdicts(whole)


def test_a_checkpoint_of_an_older_version_continues_as_one_pool() -> None:
    whole, first = evaluation(1), evaluation(1)
    run(whole)
    while not first.keeps_iterations:
        first.step()
    state = first.state_dict()
    (state["running"],) = state["running"]["pools"]
    second = evaluation(1)
    second.load_state_dict(saved(state | {"evaluations": 25}))
    run(second)
    assert second.outcome_columns() == whole.outcome_columns()


def test_progress_grows_while_the_lanes_attack() -> None:
    it, seen = evaluation(2), [0.0]
    run(it, lambda: seen.append(it.progress[0]))
    assert seen == sorted(seen) and len(set(seen)) > 0.5 * len(seen)
    assert seen[-1] < it.progress[0] == it.progress[1]


def test_images_outlast_a_failure_of_the_one_who_records_them(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, it = evaluation(2), evaluation(2)
    run(whole)
    keep, calls = it._keep, 0

    def fails_once(*given: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 12:
            raise MemoryError
        keep(*given)

    monkeypatch.setattr(it, "_keep", fails_once)
    with pytest.raises(MemoryError):
        run(it)
    run(it)
    assert it.outcome_columns() == whole.outcome_columns()


def test_a_sweep_in_two_lanes_measures_what_one_measures() -> None:
    columns = []
    for threads in (1, 2):
        it = evaluation(threads, attacks=("fgsm",))
        run(it)
        sweep, events = Sweep(it), []
        while not sweep.over:
            events += sweep.step()
        assert len(events) > 4
        columns.append(sweep.columns())
    one, two = columns
    assert one["steps"] == two["steps"] and one["label"] == two["label"]
    known = [(a, b) for a, b in zip(one["distance"], two["distance"], strict=True) if a is not None]
    assert known and all(b == pytest.approx(a, abs=1e-4) for a, b in known)


@needs_kernels
@pytest.mark.parametrize(("threads", "attacks"), [(2, ("pgd-3",)), (4, ("apgd-ce",))], ids=str)
def test_all_threads_compute_at_the_same_time(threads: int, attacks: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """An attack that cannot be divided uses all threads in each pass; two lanes share them."""
    it, inside, most = evaluation(threads, derived, attacks=attacks, batch_size=40), 0, 0
    counting = threading.Lock()
    with under_attack(it.network):
        assert isinstance(attacked(it.network), Frozen)
    original = Frozen._side_by_side

    def counted(frozen: Frozen, work: Callable[[int, int], None], images: int) -> None:
        def one(first: int, last: int) -> None:
            nonlocal inside, most
            with counting:
                inside += 1
                most = max(most, inside)
            time.sleep(0.002)
            work(first, last)
            with counting:
                inside -= 1

        original(frozen, one, images)

    monkeypatch.setattr(Frozen, "_side_by_side", counted)
    run(it)
    assert most == threads
