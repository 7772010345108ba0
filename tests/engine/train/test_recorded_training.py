"""Recorded training steps equal eager ones. On a CPU a recording is a second call of the function; on the device of
RAMPART_TEST_DEVICE it is a CUDA graph."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from engine.architecture.catalogue import CATALOG
from engine.config import RetrainConfig
from engine.errors import StopRequested
from engine.graphs import Function, Graphs
from engine.space.network import Network
from engine.space.part import whole
from engine.train.passes import TrainingPasses
from engine.train.retrain import Retraining
from tests.engine.search.functional_networks import DEVICE
from tests.engine.search.recordings import RECORDINGS, Counting, Rerun

CLASSES = 5
# Batches of two sizes, each of which is recorded with and without drop path.
BATCHES = (6, 4, 6, 4)
CONFIGS: list[dict[str, Any]] = [
    {}, {"training": "natural"}, {"training": "trades"}, {"training": "fast_at", "probe_every": 1},
    {"average_decay": 0.9}, {"precision": "bf16"}, {"precision": "bf16", "training": "trades"},
    *({"training": training, "auxiliary_weight": 0.4, "auxiliary_input": given}
      for training in ("pgd_at", "trades", "fast_at") for given in ("clean", "adversarial")),
]


def images(count: int, seed: int, size: int = 8) -> Tensor:
    return torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def labels(count: int) -> Tensor:
    return torch.arange(count, device=DEVICE) % CLASSES


def retraining(graphs: Graphs, network: nn.Module | None = None, **changes: Any) -> Retraining:
    config = RetrainConfig(**{
        "batch_size": 6, "epsilon": 0.1, "step_size": 0.03, "attack_steps": 2, "selection_steps": 2, "probe_steps": 2,
        "epochs": 2, "auxiliary_weight": 0.0, "drop_path": 0.3} | changes)
    torch.manual_seed(3)
    size = 32 if config.auxiliary_weight else 8  # the auxiliary head needs larger maps
    built = network or Network(CATALOG["ARNAS"].genotype, channels=4, layers=3, classes=CLASSES, image_shape=(1, size, size),
                               auxiliary=config.auxiliary_weight > 0)
    return Retraining(config, built.to(DEVICE), steps_per_epoch=len(BATCHES), graphs=graphs)


def train(training: Retraining, epochs: Sequence[int] = (0, 1)) -> list[Any]:
    """Train for the given epochs, select, and return everything that was measured."""
    found: list[Any] = []
    size = 32 if training.config.auxiliary_weight else 8
    for epoch in epochs:
        for step, count in enumerate(BATCHES):
            measured = training.step(images(count, step, size), labels(count), epoch=epoch, step=step)
            found += [*measured.means.values(), measured.probe]
    return [*found, training.select(images(9, 7, size), labels(9))]


def tensors(training: Retraining) -> list[Tensor]:
    """Return the parameters, buffers, velocities and averaged weights of a training."""
    state = training.state_dict()
    velocities = [entry["momentum_buffer"] for entry in state["optimizer"]["state"].values()]
    averaged = state["average"]["network"].values() if state["average"] else ()
    return [*state["network"].values(), *velocities, *averaged]


def check_equal(found: Sequence[Any], expected: Sequence[Any]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other) if isinstance(one, Tensor) else one == other


@pytest.mark.parametrize("record", RECORDINGS)
@pytest.mark.parametrize("changes", CONFIGS, ids=str)
def test_a_recorded_training_is_bit_equal_to_an_eager_one(record: Any, changes: dict[str, Any]) -> None:
    """Warm-up calls leave no trace in gradients, running statistics and random state, and replays read all that has changed."""
    eager, recorded = retraining(Graphs(), **changes), retraining(Graphs(counting := Counting(record)), **changes)
    expected, before = train(eager), torch.get_rng_state()
    check_equal(train(recorded), expected)
    check_equal(tensors(recorded), tensors(eager))
    assert torch.equal(torch.get_rng_state(), before)
    assert len(counting.made) >= 4 and not recorded.graphs.refusal


def test_steps_replay_what_was_recorded() -> None:
    training = retraining(Graphs(counting := Counting(Rerun)))
    train(training)
    made, replays = len(counting.made), training.graphs.replays
    train(training, [1])
    assert len(counting.made) == made
    # A step has a clean pass, two passes of the attack and an adversarial pass. Selection attacks 9 images in two passes.
    assert training.graphs.replays == replays + 4 * len(BATCHES) + 2


def test_a_resumed_training_is_bit_equal() -> None:
    expected, training = retraining(Graphs()), retraining(Graphs(Counting(Rerun)))
    train(expected)
    train(training, [0])
    state = deepcopy(training.state_dict())
    resumed = retraining(Graphs(Counting(Rerun)))
    resumed.load_state_dict(deepcopy(state))
    train(resumed, [1])
    check_equal(tensors(resumed), tensors(expected))
    train(training, [1])
    training.load_state_dict(state)  # the recordings read the loaded state
    train(training, [1])
    check_equal(tensors(training), tensors(expected))


@pytest.mark.parametrize("training", ["natural", "pgd_at", "trades", "fast_at"])
def test_a_stop_before_any_pass_leaves_no_trace_in_recorded_steps(training: str) -> None:
    """`poll` is called as often as without recordings, and a step that was stopped gives the same result when it is repeated."""
    calls = {"eager": 0, "recorded": 0}

    def count(kind: str) -> None:
        calls[kind] += 1

    trainings = {"eager": retraining(Graphs(), training=training), "recorded": retraining(Graphs(Rerun), training=training)}
    for kind, one in trainings.items():
        for step in range(3):
            one.step(images(6, step), labels(6), epoch=1, step=step, poll=lambda kind=kind: count(kind))  # type: ignore[misc]
    assert calls["eager"] == calls["recorded"]
    recorded = trainings["recorded"]
    for allowed in range(4):
        left = iter(range(allowed))

        def poll(left: Any = left) -> None:
            if next(left, None) is None:
                raise StopRequested

        try:
            recorded.step(images(6, 3), labels(6), epoch=1, step=3, poll=poll)
            break
        except StopRequested:
            check_equal(tensors(recorded), tensors(trainings["eager"]))
    else:
        recorded.step(images(6, 3), labels(6), epoch=1, step=3)
    trainings["eager"].step(images(6, 3), labels(6), epoch=1, step=3)
    check_equal(tensors(recorded), tensors(trainings["eager"]))


@pytest.mark.parametrize("problem", [RuntimeError, torch.OutOfMemoryError])
@pytest.mark.parametrize("allowed", [0, 2, 3, 4])
def test_a_refused_capture_leaves_eager_steps_with_the_same_numbers(problem: type[RuntimeError], allowed: int) -> None:
    """The first step records the attack alone. The capture that fails has already changed statistics and gradients."""
    made: list[Any] = []

    def refuse(function: Function, inputs: tuple[Tensor, ...]) -> Any:
        if len(made) == allowed:
            function(*inputs)
            raise problem("no graphs here")
        made.append(Rerun(function, inputs))
        return made[-1]

    eager, refused = retraining(Graphs()), retraining(Graphs(refuse))
    check_equal(train(refused), train(eager))
    check_equal(tensors(refused), tensors(eager))
    assert "no graphs here" in refused.graphs.refusal and not refused.graphs.record


class WithUnused(nn.Module):
    """A network with a parameter that no pass uses. Weight decay must not change it."""

    def __init__(self) -> None:
        super().__init__()
        self.drop_path = 0.0
        self.layer, self.unused = nn.Linear(64, CLASSES), nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(1))


def test_a_parameter_without_gradient_stays_as_it_is() -> None:
    eager = retraining(Graphs(), WithUnused())
    torch.manual_seed(3)
    recorded = retraining(Graphs(Rerun), WithUnused())
    recorded.network.load_state_dict(eager.network.state_dict())
    check_equal(train(recorded), train(eager))
    check_equal(tensors(recorded), tensors(eager))
    assert torch.equal(recorded.network.get_parameter("unused"), torch.ones(3, device=DEVICE))


@pytest.mark.parametrize("communicates", [False, True])
def test_passes_that_send_statistics_are_not_recorded(communicates: bool) -> None:
    network = WithUnused().to(DEVICE)
    passes = TrainingPasses(network, Graphs(counting := Counting(Rerun)), communicates)

    def loss(poll: Any, x: Tensor) -> tuple[Tensor]:
        return (network(x).square().sum(),)

    for seed in range(2):
        passes.begin_step(0.0, whole(6), lambda: None)
        passes.add_gradients("one", loss, images(6, seed))
        passes.end_step()
    assert len(counting.made) == (0 if communicates else 1)


@pytest.mark.skipif(DEVICE.type != "cuda", reason="needs a GPU: RAMPART_TEST_DEVICE=cuda")
def test_trainings_on_a_gpu_record_by_themselves() -> None:
    built = Network(CATALOG["ARNAS"].genotype, channels=4, layers=3, classes=CLASSES, image_shape=(1, 8, 8))
    training = Retraining(RetrainConfig(batch_size=6, auxiliary_weight=0.0), built.to(DEVICE))
    for step in range(3):
        training.step(images(6, step), labels(6), epoch=0, step=step)
    assert training.graphs.replays and not training.graphs.refusal
