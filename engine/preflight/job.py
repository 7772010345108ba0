"""A process that measures a few batches of a run on random images, and prints what they cost.

    python -m engine.preflight.job < REQUEST

The request is a JSON object with the fields of a `Shape`. Each printed line is a JSON object with a better measurement than the
one before. So if the process is killed at its time limit, the last line still counts. The run's own loops do the work. Batches
that do not fit into the time are measured at smaller sizes, from which the cost of a full batch is extrapolated.
"""

from __future__ import annotations

import json
import math
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from engine.attack.guard import attacked, under_attack
from engine.config import AttackConfig, RetrainConfig, SearchConfig
from engine.configuring import config_class, validate
from engine.data.catalogue import DATASETS, image_source
from engine.data.dataset import Dataset
from engine.data.splits import Splits, splits_of
from engine.errors import StopRequested
from engine.files import atomic_write_json
from engine.graphs import Graphs
from engine.lanes import LANES, Lanes
from engine.preflight.measurement import Measurement
from engine.preflight.shape import Shape
from engine.run import device, environment
from engine.run.event import Event
from engine.run.event_kinds import Metric
from engine.run.folder import RunFolder
from engine.run.leftovers import scratch_folder
from engine.run.lineage import trained_network
from engine.run.loop_retrain import RetrainLoop
from engine.run.loop_search import SearchLoop
from engine.run.preparation import Prepared
from engine.run.session import Session

SMALL = 2  # images in the first batch that is measured
STEPS = 2  # measured steps of an epoch; on a GPU one more, because a retraining records its passes in the first two
RUN = "20260101-0000-measured-batches-0000"
SERIAL_SHARE = 1.25  # threads are assumed to be busy for at least 1 / 1.25 of the time


class Clock:
    """A clock that estimates how long work would take on a machine without other work."""

    def __init__(self, device: str, threads: int) -> None:
        self.device, self.threads = device, threads
        self.start()

    def start(self) -> None:
        """Start at zero."""
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def seconds(self) -> float:
        """Return the seconds since the start.

        On a CPU, other programs lengthen the wall-clock time. An estimate from CPU time is returned instead if it is smaller.
        """
        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)
            return time.perf_counter() - self._wall
        return min(time.perf_counter() - self._wall, SERIAL_SHARE * (time.process_time() - self._cpu) / self.threads)


class MeasuringSession(Session):
    """A session that times steps, jumps to the epochs to be measured, and then stops the loop.

    Attributes:
        epochs: numbers of the epochs that still have to be measured, from 0. The first entry is the epoch being measured.
        times: seconds of each measured step, by epoch.
        selection_s: seconds of a measurement on the select split (images for choosing a checkpoint); None if nothing was measured
            there.
        after_first_step: function that is called with the duration of the first step in seconds, before the second step begins.
    """

    def __init__(self, folder: RunFolder, run: dict[str, Any], shape: Shape, epochs: list[int]) -> None:
        super().__init__(folder, run, attempt=1, device=shape.device, threads=shape.threads)
        self.epochs = epochs
        self.times: dict[int, list[float]] = {epoch: [] for epoch in epochs}
        self.selection_s: float | None = None
        self.after_first_step: Callable[[float], None] = lambda seconds: None
        self._steps = steps_on(shape.device)
        self.step = epochs[0] * self._steps
        self._clock, self._between = Clock(shape.device, shape.threads), 0.0

    def begin_step(self, expected_passes: int, activity: str = "") -> None:
        """Start a step. If everything has been measured, raise StopRequested, which ends the loop."""
        if not self.epochs:
            raise StopRequested
        self._between = self._clock.seconds()
        self._clock.start()
        super().begin_step(expected_passes, activity)

    def end_step(self, *, epoch: int, passes: int | None = None) -> None:
        """Record the time of a step."""
        self.times[self.epochs[0]].append(self._clock.seconds())
        self.after_first_step(self.times[self.epochs[0]][0])
        self.after_first_step = lambda seconds: None
        super().end_step(epoch=epoch, passes=passes)

    def write(self, event: Event, *, step: int | None = None, epoch: int | None = None) -> None:
        """Write an event. If it reports a retraining's accuracy on the select split, record how long the measurement took.

        Nothing more has to be measured then, so the next step ends the loop.
        """
        if isinstance(event, Metric) and event.split == "select" and self.kind == "retrain":
            self.selection_s, self.epochs = self._between, []
        super().write(event, step=step, epoch=epoch)

    def progress(self, *, force: bool = False) -> None:
        """Write a progress event. In a search, jump to the next epoch to measure once enough steps of this epoch are measured."""
        super().progress(force=force)
        if self.kind == "search" and self.epochs and len(self.times[self.epochs[0]]) >= self._steps:
            del self.epochs[0]
            if self.epochs:
                self.step = self.epochs[0] * self._steps

    def checkpoint_due(self) -> bool:
        """Return False: a checkpoint is written only at the end."""
        return False

def read_request(record: dict[str, Any]) -> tuple[Shape, float]:
    """Return the run to measure and the seconds that the measurement may take, from a JSON object."""
    network = validate(RetrainConfig, record["network"]) if record["network"] else None
    assert network is None or isinstance(network, RetrainConfig)
    config = validate(config_class(record["kind"], record["method"]), record["config"])
    return Shape(record["kind"], record["method"], config, network, record["device"], record["threads"]), record["limit_s"]


def measure(shape: Shape, limit_s: float, report: Callable[[Measurement], None]) -> None:
    """Measure a small batch, then larger batches up to the full size, as far as the time allows, and report each result.

    A pass over a small batch takes nearly as long as a pass over a larger batch, so the cost is not proportional to the batch
    size. The cost of a full batch is extrapolated along the line through the two largest batches that were measured.
    """
    started = time.monotonic()
    full = int(getattr(shape.config, "batch_size", 64))
    small = min(full, SMALL)
    one = _measured(shape, small, thorough=False, early=lambda result: report(result.at(full, None)))
    report(one.at(full, None))
    if small == full:
        return
    # On a GPU, every batch size costs about as much once more, because its passes are recorded anew.
    recording_s = time.monotonic() - started if shape.device.startswith("cuda") else 0.0
    smaller, shortening = one, _shortening(shape.network if shape.kind == "retrain" else None)
    while smaller.batch < full:
        # The first batch loads code and compiles kernels, and a larger batch is at most proportionally slower.
        left = limit_s - (time.monotonic() - started) - recording_s
        affordable = smaller.batch * left / max(1e-6, 2.5 * steps_on(shape.device) * smaller.seconds_per_step)
        size = full if affordable >= full else min(full, int(affordable * shortening))
        if size < 2 * smaller.batch and size < full:
            break
        larger = _measured(shape, size, thorough=affordable >= full)
        report(larger.at(full, smaller))
        smaller = larger


def _measured(shape: Shape, size: int, thorough: bool,
              early: Callable[[Measurement], None] = lambda result: None) -> Measurement:
    """Measure batches of `size` images.

    Args:
        shape: the run.
        size: number of images in a batch.
        thorough: for a search with a supernet, True to measure its first, middle and last epoch, False to measure only the last.
            For a retraining, True to run all steps of the training attack, False to run a single step and extrapolate. Without
            effect on an attack.
        early: function that is called with a preliminary measurement after the first step of a search or retraining.
    """
    with scratch_folder("preflight") as place:
        folder = RunFolder(place, RUN)
        for path in (folder.results, folder.control, folder.checkpoint):
            path.mkdir(parents=True, exist_ok=True)
        # On a busy machine, threads that wait for each other take many times as long. `Clock` divides the time among them.
        busy = psutil.getloadavg()[0] > device.cores()
        environment.prepare(1 if busy else shape.threads, shape.device)
        if isinstance(shape.config, AttackConfig):
            made = _attack(shape, size)
        else:
            made = _training(shape, folder, size, thorough, lambda result: early(_with_memory(result, shape, size)))
        return _with_memory(made, shape, size)


def _shortening(config: RetrainConfig | None) -> float:
    """Return the factor by which a training step with all attack steps takes longer than one with a single attack step.

    The factor is 1 without a retraining and for a retraining without an iterated attack.
    """
    return (config.attack_steps + 1) / 2 if config is not None and config.training in ("pgd_at", "trades") else 1.0


def _with_memory(made: Measurement, shape: Shape, size: int) -> Measurement:
    """Return a copy of `made` with the batch size `size` and the largest memory that this process has used so far.

    On a GPU, this includes the free blocks of PyTorch's pools, which no other process can use.
    """
    device_bytes = torch.cuda.max_memory_reserved(shape.device) if shape.device.startswith("cuda") else 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return replace(made, batch=size, memory=peak, device_memory=device_bytes)


def _training(shape: Shape, folder: RunFolder, size: int, thorough: bool,
              early: Callable[[Measurement], None]) -> Measurement:
    """Measure a search or a retraining by running a few steps in the run's own loop, on random images.

    `folder` is the folder of the run that is made for this purpose. `_measured` describes the other arguments.
    """
    config = shape.config if shape.network is None else shape.network
    count = steps_on(shape.device)
    changes: dict[str, Any] = {"batch_size": size, "images": None, "steps_per_epoch": count}
    scale, passes = 1.0, 0.0
    if isinstance(config, RetrainConfig):
        changes["selection_every"] = 1
        # Until the select split has been measured, its images are taken to cost as much per attack step as those of the training.
        passes = (config.selection_steps + 1) / (config.attack_steps + 1)
        if not thorough and (scale := _shortening(config)) != 1.0:
            changes |= {"attack_steps": 1, "selection_steps": min(1, config.selection_steps)}
    changes |= {"inherit_from": ""} if "inherit_from" in type(config).model_fields else {}
    config = validate(type(config), config.model_dump() | changes)
    assert isinstance(config, (SearchConfig, RetrainConfig))
    data = imagined(DATASETS[config.dataset], size, count)
    shares = epochs_to_measure(config, thorough)
    run = {"id": RUN, "kind": shape.kind, "method": shape.method, "config": config.model_dump(mode="json")}
    atomic_write_json(folder.path / "run.json", run)
    session = MeasuringSession(folder, run, shape, list(shares))
    session.open_events()
    session.after_first_step = lambda seconds: early(Measurement(
        seconds_per_step=scale * seconds, selection_s=passes * scale * seconds / size, checkpoint=2**20))
    splits = splits_of(data, 0)
    environment.fix(folder, threads=shape.threads, device=shape.device, dataset=data, split_hash=splits.hash)
    others = [imagined(image_source(name), size, count) for name in config.datasets()[1:]]
    second: tuple[Dataset, Splits] | None = next(((other, splits_of(other, 0)) for other in others), None)
    prepared = Prepared(config, data, splits, second, None, torch.device(shape.device))
    loop = SearchLoop(session, prepared) if shape.kind == "search" else RetrainLoop(session, prepared)
    with suppress(StopRequested):
        loop.run()
    session.close()
    steps = sum(map(len, session.times.values()))
    seconds = sum(share * min(session.times[epoch]) for epoch, share in shares.items()) / sum(shares.values())
    files = sum(path.stat().st_size for path in folder.checkpoint.iterdir())
    selection_s = passes * scale * seconds / size if scale != 1.0 else (session.selection_s or 0.0) / len(splits.select)
    return Measurement(seconds_per_step=scale * seconds, selection_s=selection_s,
                       checkpoint=files, event_bytes=folder.events.stat().st_size / max(1, steps))


def epochs_to_measure(config: SearchConfig | RetrainConfig, thorough: bool) -> dict[int, float]:
    """Return {epoch to measure: share of the run's epochs that it represents}. Epochs can differ, for example in a warm-up."""
    if isinstance(config, RetrainConfig):
        return {0: 1.0}
    positions = [config.training_epoch(epoch) for epoch in range(config.epochs)]
    trains = [epoch for epoch, (position, epochs) in enumerate(positions) if position < epochs]
    rest = [epoch for epoch, (position, epochs) in enumerate(positions) if position == epochs][:1]
    chosen = sorted({trains[0], trains[len(trains) // 2], trains[-1]}) if thorough and not rest else trains[-1:]
    if rest:
        chosen = trains[:1]
    share = len(trains) / len(positions)
    return dict.fromkeys(chosen, share / len(chosen)) | dict.fromkeys(rest, 1 - share)


def _attack(shape: Shape, size: int) -> Measurement:
    """Measure a forward pass and a gradient of an attacked network, on a batch of `size` random images.

    On a CPU with two threads or more, two lanes (threads) compute a batch each, as in an attack run. The time of a pass is then
    the time of both, divided by two.
    """
    assert shape.network is not None
    data, place = DATASETS[shape.config.dataset], torch.device(shape.device)
    mean = (0.5,) * data.image_shape[0] if shape.network.normalise else None
    network = trained_network(Path(), shape.network, None).build(mean=mean, std=mean).to(place).eval()
    x = torch.rand(size, *data.image_shape, device=place)
    with under_attack(network):
        logits = attacked(network, graphs=Graphs.on(place))

        def gradient() -> None:
            images = x.clone().requires_grad_()
            torch.autograd.grad(logits(images).logsumexp(1).sum(), images)

        def forward() -> None:
            with torch.no_grad():
                logits(x)

        # Two lanes even if `prepare` has chosen one thread for a busy machine, because they need the memory of two batches.
        lanes = Lanes(max(torch.get_num_threads(), LANES) if place.type == "cpu" and shape.threads >= LANES else 1)
        with lanes:
            gradient_s, forward_s = (
                _quickest(partial(lanes.side_by_side, *[one] * lanes.count), Clock(shape.device, shape.threads)) / lanes.count
                for one in (gradient, forward))
    return Measurement(seconds_per_step=gradient_s * lanes.count, forward_s=forward_s / size,
                       backward_s=max(0.0, gradient_s - forward_s) / size, checkpoint=2**20, event_bytes=512)


def _quickest(work: Callable[[], object], clock: Clock) -> float:
    """Return the seconds of the quicker of two calls, after one warm-up call."""
    times = []
    for _ in range(STEPS + 1):
        clock.start()
        work()
        times.append(clock.seconds())
    return min(times[1:])


def steps_on(device: str) -> int:
    """Return how many steps of an epoch are measured on a device."""
    return STEPS + device.startswith("cuda")


def imagined(data: Dataset, size: int, steps: int) -> Dataset:
    """Return a small dataset of random images with the shape and classes of another dataset, enough for `steps` batches."""
    each = max(steps * size, math.ceil(data.classes / 4))
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (4 * each, *data.image_shape), dtype=np.uint8)
    labels = (np.arange(4 * each) % data.classes).astype(np.int64)
    return replace(data, images=4 * each, test_images=None, split_fractions=(0.25,) * 4, load=lambda: (images, labels))


@contextmanager
def quiet() -> Iterator[None]:
    """Redirect the output of the loops to stderr, because stdout carries the results."""
    kept, sys.stdout = sys.stdout, sys.stderr
    try:
        yield
    finally:
        sys.stdout = kept


def main() -> int:
    """Read a request from stdin, measure it, and print each result. Return the exit code."""
    shape, limit_s = read_request(json.load(sys.stdin))
    answers = sys.stdout

    def report(result: Measurement) -> None:
        print(json.dumps(asdict(result)), file=answers, flush=True)

    with quiet():
        measure(shape, limit_s, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
