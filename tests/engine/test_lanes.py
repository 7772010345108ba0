"""Two lanes: results as in sequence, a share of the threads for each, joint end, no lost work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.errors import RunError, StopRequested
from engine.lanes import Lanes
from engine.search.bilevel import Bilevel
from engine.search.method import StepReport
from engine.search.methods.arnas.config import ArnasConfig
from engine.search.methods.arnas.method import Arnas
from engine.space.state import BACKENDS
from engine.space.supernet import Supernet
from tests.engine.search.functional_networks import DEVICE

WAIT_S = 20.0
on_cpu = pytest.mark.skipif(DEVICE.type != "cpu", reason="lanes are for CPUs")


@pytest.fixture(autouse=True)
def threads_are_as_before() -> Iterator[None]:
    """Check that a test leaves no thread behind; restore torch's number of threads."""
    before, running = torch.get_num_threads(), threading.active_count()
    yield
    assert threading.active_count() == running
    torch.set_num_threads(before)


@pytest.fixture
def two() -> Iterator[Lanes]:
    with Lanes(2) as lanes:
        yield lanes


def returning(value: int) -> Callable[[], int]:
    return lambda: value


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("functions", [0, 1, 2, 3, 5])
def test_results_come_in_order(threads: int, functions: int) -> None:
    with Lanes(threads) as lanes:
        assert lanes.side_by_side(*map(returning, range(functions))) == list(range(functions))


def test_both_lanes_are_under_way_at_the_same_time(two: Lanes) -> None:
    meeting = threading.Barrier(2, timeout=WAIT_S)
    assert sorted(two.side_by_side(meeting.wait, meeting.wait)) == [0, 1]


@pytest.mark.parametrize(("threads", "share"), [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2)])
def test_each_lane_and_what_is_alone_has_its_share_of_the_threads(threads: int, share: int) -> None:
    torch.set_num_threads(threads)
    with Lanes(threads) as lanes:
        assert lanes.side_by_side(torch.get_num_threads, torch.get_num_threads) == [share, share]
        assert torch.get_num_threads() == share
    assert torch.get_num_threads() == threads


def test_backward_runs_in_the_lane(two: Lanes) -> None:
    """Autograd's own thread would use another number of threads than the lane."""
    def gradient_thread() -> bool:
        x = torch.ones(3, requires_grad=True)
        y = x * 2
        seen: list[int] = []
        y.register_hook(lambda g: seen.append(threading.get_ident()))
        torch.autograd.grad(y.sum(), x)
        return seen == [threading.get_ident()]

    assert two.side_by_side(gradient_thread, gradient_thread) == [True, True]


@pytest.mark.parametrize("failing", [0, 1])
def test_a_failure_in_one_lane_ends_the_other_at_its_next_turn(two: Lanes, failing: int) -> None:
    begun, turns = threading.Event(), 0

    def fails() -> None:
        assert begun.wait(WAIT_S)
        raise RunError("no such luck")

    def goes_on() -> None:
        nonlocal turns
        begun.set()
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            with two.turn():
                turns += 1

    functions = [goes_on, goes_on]
    functions[failing] = fails
    with pytest.raises(RunError, match="no such luck"):
        two.side_by_side(*functions)
    assert turns


def test_when_both_fail_no_exception_is_lost(two: Lanes) -> None:
    meeting = threading.Barrier(2, timeout=WAIT_S)

    def fail(problem: Exception) -> None:
        meeting.wait()
        raise problem

    with pytest.raises(RunError) as caught:
        two.side_by_side(lambda: fail(RunError("first")), lambda: fail(OSError("second")))
    assert isinstance(caught.value.__context__, OSError)


def test_poll_is_never_called_twice_at_a_time_nor_after_it_raised(two: Lanes) -> None:
    calls, inside = 0, threading.Lock()

    def poll() -> None:
        nonlocal calls
        assert inside.acquire(blocking=False)
        calls += 1
        time.sleep(0.001)
        inside.release()
        if calls == 20:
            raise StopRequested

    passes = Bilevel(poll, two)

    def many() -> None:
        for _ in range(15):
            passes.begin_pass()

    with pytest.raises(StopRequested):
        passes.side_by_side(many, many)
    assert (calls, passes.passes) == (20, 19)


SHAPE = (1, 8, 8)


def make(threads: int, backend: str = "dense", **changes: object) -> Arnas:
    """Return a fresh search on the smallest supernet, and the number of threads of its steps."""
    torch.set_num_threads(threads)
    supernet = Supernet(channels=2, layers=3, classes=5, image_shape=SHAPE, backend=backend)
    return Arnas(ArnasConfig(attack_steps=1, **changes), supernet, device="cpu", dtype=torch.float32, seed=3)


def step(arnas: Arnas, number: int, poll: Callable[[], None] = lambda: None) -> StepReport:
    """Take step `number`, the same in every call."""
    generator = torch.Generator().manual_seed(number)
    batches = [(torch.rand(6, *SHAPE, generator=generator), torch.randint(5, (6,), generator=generator)) for _ in range(2)]
    return arnas.step(*batches, learning_rate=0.05, generator=generator, poll=poll)


def assert_equal(left: Mapping[str, Any], right: Mapping[str, Any]) -> None:
    """Assert bitwise equality."""
    for name, value in left.items():
        assert torch.equal(value, right[name]) if isinstance(value, Tensor) else value == right[name], name


@on_cpu
@pytest.mark.parametrize(("backend", "unrolled"), [
    pytest.param(backend, unrolled, marks=[pytest.mark.slow] if unrolled and backend in ("merged", "channels_last") else [])
    for backend in BACKENDS for unrolled in (True, False)])
def test_a_search_with_two_threads_is_bit_equal_to_one_with_one(backend: str, unrolled: bool) -> None:
    used: set[int] = set()
    alone = make(1, backend, unrolled=unrolled)
    reports = [step(alone, number) for number in range(2)]
    beside = make(2, backend, unrolled=unrolled)
    assert [step(beside, number, lambda: used.add(threading.get_ident())) for number in range(2)] == reports
    assert_equal(alone.state_dict(), beside.state_dict())
    assert len(used) > 1, "the lanes were used"


@on_cpu
def test_a_stop_in_either_lane_leaves_the_state_and_the_number_of_threads() -> None:
    whole = make(1)
    step(whole, 0)
    arnas = make(2)
    before = arnas.state_dict()
    for n in range(1, arnas.passes_per_step + 1):
        polls = count(1)

        def poll() -> None:
            if next(polls) == n:  # noqa: B023  (called in this round only)
                raise StopRequested

        with pytest.raises(StopRequested):
            step(arnas, 0, poll)
        assert next(polls) == n + 1, "no call behind the one that raised"
        assert torch.get_num_threads() == 2
        assert_equal(arnas.state_dict(), before)
    step(arnas, 0)
    assert_equal(arnas.state_dict(), whole.state_dict())


@on_cpu
def test_passes_and_activity_with_two_threads() -> None:
    arnas, heard = make(2), []
    report = step(arnas, 0, lambda: heard.append(arnas.activity))
    assert len(heard) == report.passes == arnas.passes_per_step
    assert {words.partition(",")[0] for words in heard[:2]} == {"PGD step 1 of 1"}
    assert set(heard[2:9]) == {"architecture gradients"} and set(heard[9:]) <= {"natural weights batch", "weight step"}
