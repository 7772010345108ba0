"""Recorded passes: fixed memory in and out, one recording per kind and shapes, refusal. On a CPU a recording is a second
call of the function; on the device of RAMPART_TEST_DEVICE it is a CUDA graph."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from engine.errors import StopRequested
from engine.graphs import Function, Graphs, capture
from engine.search.methods.arnas.config import ArnasConfig
from engine.search.methods.arnas.method import Arnas
from engine.space.supernet import Supernet
from tests.engine.search.functional_networks import DEVICE, TwoLayers
from tests.engine.search.recordings import RECORDINGS, Counting, Rerun, on_gpu


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, device=DEVICE)


@pytest.mark.parametrize("record", RECORDINGS)
def test_outputs_are_the_functions_and_belong_to_the_caller(record: Any) -> None:
    graphs = Graphs(counting := Counting(record))

    def sum_and_product(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return x + y, x * y

    first = graphs.run("kind", sum_and_product, numbers(1, 2), numbers(3, 4))
    second = graphs.run("kind", sum_and_product, numbers(5, 6), numbers(7, 8))
    assert [output.tolist() for output in first + second] == [[4, 6], [3, 8], [12, 14], [35, 48]]
    assert len(counting.made) == 1


@pytest.mark.parametrize("record", RECORDINGS)
def test_inputs_are_left_alone_and_may_change_afterwards(record: Any) -> None:
    graphs, x = Graphs(Counting(record)), numbers(1, 2)
    (y,) = graphs.run("kind", lambda x: (x.mul_(2),), x)  # spoils its own copy
    assert (x.tolist(), y.tolist()) == ([1, 2], [2, 4])
    x.fill_(7)
    assert y.tolist() == [2, 4]


def test_each_kind_and_shape_and_dtype_has_its_own_recording() -> None:
    graphs = Graphs(counting := Counting(Rerun))
    for kind, x in [("a", numbers(1)), ("b", numbers(1)), ("a", numbers(1, 2)), ("a", numbers(1).double()), ("a", numbers(2))]:
        graphs.run(kind, lambda x: (x + 1,), x)
    assert len(counting.made) == 4


def test_a_capture_that_fails_leaves_eager_passes_and_one_sentence() -> None:
    def refuse(function: Function, inputs: tuple[Tensor, ...]) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing\nlong explanation")

    graphs = Graphs(refuse)
    assert graphs.record
    assert graphs.run("kind", lambda x: (x + 1,), numbers(1))[0].tolist() == [2]
    assert not graphs.record
    assert "without CUDA graphs" in graphs.refusal and "not permitted when stream is capturing)" in graphs.refusal
    assert "long" not in graphs.refusal


def test_out_of_memory_is_an_error_and_no_reason_to_run_eagerly() -> None:
    """Eager passes need as much memory and would take many times as long."""
    def refuse(function: Function, inputs: tuple[Tensor, ...]) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    graphs = Graphs(refuse)
    with pytest.raises(torch.OutOfMemoryError):
        graphs.run("kind", lambda x: (x + 1,), numbers(1))
    assert graphs.record and not graphs.refusal


class BrokenGraph:
    """A graph whose capture breaks if the captured function fails, as that of a CUDA graph does."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def capture_begin(self, pool: Any) -> None:
        self.calls.append(pool)

    def capture_end(self) -> None:
        self.calls.append("end")
        if "failed" in self.calls:
            raise RuntimeError("the capture was invalidated")

    def fail(self) -> tuple[Tensor, ...]:
        self.calls.append("failed")
        raise StopRequested


def test_a_failing_capture_is_ended_and_raises_its_own_error() -> None:
    graph = BrokenGraph()
    with pytest.raises(StopRequested):
        capture(graph, "pool", graph.fail)
    assert graph.calls == ["pool", "failed", "end"]


def test_a_capture_returns_the_outputs() -> None:
    graph = BrokenGraph()
    assert capture(graph, "pool", lambda: (numbers(1),))[0].tolist() == [1]
    assert graph.calls == ["pool", "end"]


def test_nothing_is_recorded_without_a_gpu() -> None:
    assert not Graphs.on(torch.device("cpu")).record


def make(record: Any = None, **changes: Any) -> Arnas:
    """Return a search on the smallest supernet that records its passes with `Counting`."""
    supernet = Supernet(channels=2, layers=3, classes=5, image_shape=(1, 8, 8), backend="dense")
    return Arnas(ArnasConfig(**({"attack_steps": 3} | changes)), supernet, device=DEVICE, dtype=torch.float32, seed=3,
                 graphs=Graphs(record))


def step(arnas: Arnas, number: int, poll: Any = lambda: None, images: int = 6) -> Any:
    generator = torch.Generator().manual_seed(number)
    batches = [(torch.rand(images, 1, 8, 8, generator=generator).to(DEVICE),
                torch.randint(5, (images,), generator=generator).to(DEVICE)) for _ in range(2)]
    return arnas.step(*batches, learning_rate=0.05, generator=generator, poll=poll)


def assert_equal(left: dict[str, Any], right: dict[str, Any]) -> None:
    """Assert bitwise equality."""
    for name, value in left.items():
        assert torch.equal(value, right[name]) if isinstance(value, Tensor) else value == right[name], name


@pytest.mark.parametrize("record", RECORDINGS)
@pytest.mark.parametrize(("unrolled", "recordings"), [(True, 5), (False, 4)])
def test_a_recorded_search_is_bit_equal_to_an_eager_one(record: Any, unrolled: bool, recordings: int) -> None:
    """Recordings: attack, weight gradient, alpha gradient, both (second order only), natural pass. A second batch size
    doubles them; momentum, new alphas and moved buffers reach every recording."""
    eager, recorded = make(unrolled=unrolled), make(counting := Counting(record), unrolled=unrolled)
    for number in range(3):
        assert step(eager, number) == step(recorded, number)
    assert_equal(eager.state_dict(), recorded.state_dict())
    assert len(counting.made) == recordings
    assert step(eager, 3, images=4) == step(recorded, 3, images=4)
    assert_equal(eager.state_dict(), recorded.state_dict())
    assert len(counting.made) == 2 * recordings
    assert recorded.notices == []


@pytest.mark.parametrize("record", RECORDINGS)
def test_every_pass_of_a_recorded_step_is_polled_for_and_can_be_stopped(record: Any) -> None:
    recorded, heard = make(Counting(record)), []
    report = step(recorded, 0, lambda: heard.append(recorded.activity))
    assert len(heard) == report.passes == recorded.passes_per_step
    assert heard[:6] == [f"PGD step {n} of 3, {split} batch" for split in ("weights", "alphas") for n in (1, 2, 3)]
    before = recorded.state_dict()
    for n in range(recorded.passes_per_step):
        left = iter(range(n))

        def poll() -> None:
            if next(left, None) is None:  # noqa: B023  (called in this round only)
                raise StopRequested

        with pytest.raises(StopRequested):
            step(recorded, 1, poll)
        assert_equal(recorded.state_dict(), before)


def test_a_refused_capture_does_not_change_the_search() -> None:
    def refuse(function: Function, inputs: tuple[Tensor, ...]) -> Any:
        raise RuntimeError("no graphs here")

    eager, refused = make(), make(refuse)
    assert step(eager, 0) == step(refused, 0)
    assert_equal(eager.state_dict(), refused.state_dict())
    assert len(refused.notices) == 1


@on_gpu
def test_a_search_on_a_gpu_records_and_differs_from_the_eager_one_in_nothing() -> None:
    eager = make()
    arnas = Arnas(eager.config, eager.supernet, device=DEVICE, dtype=torch.float32, seed=3)
    for number in range(2):
        assert step(eager, number) == step(arnas, number)
    assert arnas.notices == []


def attacked(precision: str) -> Tensor:
    network = TwoLayers(pixels=64)
    arnas = Arnas(ArnasConfig(attack_precision=precision), network, device=DEVICE, dtype=torch.float32, seed=3)
    generator = torch.Generator().manual_seed(0)
    batch = torch.rand(64, 1, 8, 8, generator=generator), torch.randint(3, (64,), generator=generator)
    return arnas.propose(batch, batch, learning_rate=0.05, generator=generator).x_adv


def test_attacks_with_shorter_numbers_are_nearly_the_same_and_not_the_same() -> None:
    exact, short = attacked("float32"), attacked("bf16")
    assert short.dtype == torch.float32
    assert 0 < ((exact - short).abs() > 1e-6).double().mean() < 0.1


def test_tf32_is_switched_on_for_the_attack_alone() -> None:
    attacked("tf32")
    assert not torch.backends.cuda.matmul.allow_tf32
    if DEVICE.type == "cpu":
        assert torch.equal(attacked("tf32"), attacked("float32"))
