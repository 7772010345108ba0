"""Measure what it costs to flush a run's events to disk before each of its checkpoints.

    python -m benchmarks.checkpoint_sync                   # a search with the preset `quick` on digits; a minute
    python -m benchmarks.checkpoint_sync --epochs 20 --runs DIR

A search runs in this process, in a runs folder on the disk of `--runs` (default: the temporary folder). The command prints how
long the flushes took, as wall-clock time and as CPU time, per checkpoint and as a share of the time of all steps.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from engine import requests
from engine.files import atomic_write_json
from engine.run import loop_search
from engine.run.events import Extent
from engine.run.folder import RunFolder
from engine.run.session import Session
from engine.run.state import identity


class TimedSession(Session):
    """A session that measures how long it takes to flush events and to do everything else.

    Attributes:
        flushes: (wall-clock seconds, CPU seconds) of each flush.
    """

    flushes: list[tuple[float, float]]

    def sync_events(self) -> Extent:
        """Flush events.jsonl to disk and note how long it took."""
        wall, cpu = time.perf_counter(), time.process_time()
        events = super().sync_events()
        self.flushes.append((time.perf_counter() - wall, time.process_time() - cpu))
        return events


def measure(place: Path, epochs: int, **changes: object) -> tuple[TimedSession, float, float]:
    """Run a search below the folder `place`. Return its session, and the wall-clock and CPU seconds of the search.

    `changes` are further settings of the search.
    """
    runs = place / "runs"
    (runs / "control").mkdir(parents=True)
    atomic_write_json(runs / "control" / "supervisor.json", identity(os.getpid()))  # so that no supervisor starts the run
    (run_id,) = requests.submit(runs, "search", {"epochs": epochs, "threads": 1, **changes}, method="arnas", preset="quick")
    folder = RunFolder(runs, run_id)
    folder.results.mkdir()
    session = TimedSession(folder, folder.read_run(), attempt=1, device="cpu", threads=1)
    session.flushes = []
    session.open_events()
    wall, cpu = time.perf_counter(), time.process_time()
    loop_search.run(session)
    session.close()
    return session, time.perf_counter() - wall, time.process_time() - cpu


def report(session: TimedSession, wall: float, cpu: float) -> str:
    """Return the result as text."""
    count, (flush_wall, flush_cpu) = len(session.flushes), map(sum, zip(*session.flushes, strict=True))
    size = session.folder.events.stat().st_size
    return (f"{session.step} steps, {count} checkpoints, events.jsonl {size / 1000:,.0f} kB\n"
            f"one flush: {1000 * flush_wall / count:.2f} ms wall-clock, {1000 * flush_cpu / count:.2f} ms CPU\n"
            f"share of the search: {100 * flush_wall / wall:.2f} % of {wall:.1f} s wall-clock, "
            f"{100 * flush_cpu / cpu:.2f} % of {cpu:.1f} s CPU")


def main() -> None:
    """Parse the command line, measure and print the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=8, help="epochs of the search; each ends with a checkpoint")
    parser.add_argument("--runs", type=Path, default=None, help="folder on the disk to measure")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.runs) as folder:
        print(report(*measure(Path(folder), options.epochs)))


if __name__ == "__main__":
    main()
