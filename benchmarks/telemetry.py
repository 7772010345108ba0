"""Measure what the telemetry and the stored images of a run cost, as a share of a search on handwritten digits.

    python -m benchmarks.telemetry

A search of the preset `quick` takes steps in this process. In turn with them, the command measures the load of the machine and
appends the events to a file, as a worker does every ten seconds. It prints medians of CPU times, which do not depend on what else
runs on the machine. A GPU is read as well if the option `--device` names one.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks.measurement import Spread, Table, add_output_options, cpu_seconds, publish
from engine.configuring import build
from engine.data.catalogue import DATASETS
from engine.data.loading import load_split
from engine.data.splits import splits_of
from engine.run.events import EventWriter
from engine.run.first_batch import FirstBatch
from engine.run.folder import RunFolder
from engine.run.session import Session
from engine.run.telemetry import EVERY_S, Telemeter
from engine.search.construction import method_class, supernet_of

ROUNDS = 15


def main(arguments: Sequence[str]) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.telemetry", description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cpu", help="cpu or cuda:N")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="measurements of each kind")
    add_output_options(parser)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        steps, measurements, images = measure(Path(folder), chosen.device, chosen.rounds)
    share = measurements.median / EVERY_S
    rows = (("a search step, CPU time", f"{1000 * steps.median:.1f} ms"),
            ("a measurement of the machine with its events, CPU time", f"{1000 * measurements.median:.2f} ms"),
            (f"one measurement every {EVERY_S:.0f} s, share of one core", f"{100 * share:.4f} %"),
            ("images of the first batch, written twice in a run, CPU time each", f"{1000 * images.median:.1f} ms"))
    publish(chosen, "telemetry", arguments, {"step_s": vars(steps), "measurement_s": vars(measurements), "share": share,
                                            "images_s": vars(images)},
            [Table("Telemetry beside a search on handwritten digits, preset quick, one thread", ("what", "cost"), rows)])


def measure(folder: Path, device: str, rounds: int) -> tuple[Spread, Spread, Spread]:
    """Return the CPU seconds of a search step, of a measurement with its events, and of the images of the first batch."""
    (step, draw), writer = prepared(folder, device), EventWriter(folder / "events.jsonl", "benchmark", 1)
    meter = Telemeter(folder, device, done=0.0, passes=0)

    def told() -> None:
        for event in meter.measure(done=1.0, passes=1, unit="steps"):
            writer.write(event, step=1, epoch=1)

    for function in (step, told, draw):
        function()
    taken = [tuple(map(cpu_seconds, (step, told, draw))) for _ in range(rounds)]
    writer.close()
    first, second, third = (Spread.of(column) for column in zip(*taken, strict=True))
    return first, second, third


def prepared(folder: Path, device: str) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return two functions of an ARNAS search of the preset `quick`: one takes a step, the other stores the first images."""
    config, dataset = build("search", "arnas", "digits", "quick"), DATASETS["digits"]
    splits = splits_of(dataset, 0, None)
    images, labels = load_split(dataset, splits, "weights", torch.device(device))
    supernet = supernet_of("arnas", config, classes=dataset.classes, image_shape=dataset.image_shape, statistics=None)
    method = method_class("arnas")(config, supernet, device=torch.device(device), dtype=torch.float32, seed=0)
    batch = images[torch.arange(config.batch_size)], labels[:config.batch_size]
    run = RunFolder(folder, "20260101-0000-arnas-digits-0000")
    run.results.mkdir(parents=True)
    session = Session(run, {"kind": "search"}, attempt=1, device=device, threads=1)
    first = FirstBatch(session, images, labels, splits.weights, torch.arange(config.batch_size))
    return (lambda: method.step(batch, batch, learning_rate=0.025, generator=torch.Generator().manual_seed(0)),
            lambda: first.of_search(method, 0))


if __name__ == "__main__":
    main(sys.argv[1:])
