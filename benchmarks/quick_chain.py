"""Time a search, retraining and attack with the preset `quick` on this machine, and measure how far the alphas move.

    python -m benchmarks.quick_chain                        # with the default back end
    RAMPART_KERNELS=off python -m benchmarks.quick_chain    # with the plain back end

The runs are started through the queue as real processes, as after a click on the page. Durations are wall-clock times, and the
first one includes the time in the queue. The margin of an edge is the difference between its two largest softmaxed alphas. At the
start of a search, the margins are noise.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.measurement import Table, machine_line
from engine import api
from engine.log import RunLog
from engine.report.robustness import robustness_tables
from engine.space.compiled import build


def durations(runs: Path, preset: str, method: str = "arnas") -> tuple[list[str], list[float]]:
    """Run a search, then the retraining of its genotype and the attack on the retrained network.

    Returns:
        Ids of the three runs.
        Durations of the three runs in seconds. The first includes the time in the queue.

    Raises:
        RuntimeError: a run did not finish.
    """
    start, ids = time.monotonic(), api.launch("search", method=method, preset=preset, runs=runs, then=("retrain", "attack"))
    ends = []
    for run_id in ids:
        state = api.wait([run_id], runs=runs)[run_id]
        if state.status != "finished":
            raise RuntimeError(f"run {run_id} must finish, got status {state.status}: {state.cause}")
        ends.append(time.monotonic() - start)
    return ids, [end - before for end, before in zip(ends, [0.0, *ends])]


def margins(log: RunLog, run: str, cell: str, epoch: int | None) -> list[float]:
    """Return the margin of each edge of a cell: the difference between its two largest softmaxed alphas.

    Args:
        log: the run log.
        run: id of the search.
        cell: kind of the cell.
        epoch: epoch of the alphas; None for the last.
    """
    differences = []
    for _, edge in log.alpha_matrix(run, cell, epoch).groupby("edge"):
        largest, second = sorted(edge["weight"], reverse=True)[:2]
        differences.append(largest - second)
    return differences


def margin_table(log: RunLog, run: str) -> Table:
    """Return a table of the margins at the start and at the end of a search, with one row per edge and cell kind."""
    rows = []
    for cell in log.alpha_cells(run):
        first, last = margins(log, run, cell, log.alpha_epochs(run, cell)[0]), margins(log, run, cell, None)
        rows += [(cell, str(edge), f"{a:.5f}", f"{b:.5f}", f"{b / a:.0f}") for edge, (a, b) in enumerate(zip(first, last))]
        rows.append((cell, "median", f"{median(first):.5f}", f"{median(last):.5f}", f"{median(last) / median(first):.0f}"))
    return Table("Margin of the largest over the second softmaxed alpha", ("cell", "edge", "at the start", "at the end", "ratio"),
                 rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a search, a retraining and an attack in a temporary folder, and print margins, durations and accuracies."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--preset", default="quick", help="preset to run (default: quick)")
    preset = parser.parse_args(sys.argv[1:] if arguments is None else arguments).preset
    # The worker of the last run may still be writing when its run has already finished.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        ids, seconds = durations(Path(folder), preset)
        log = RunLog.open(Path(folder), in_memory=True)
        log.ingest()
        (table,) = robustness_tables(log)
        result = table.rows[0].results
        print(margin_table(log, ids[0]).text())
        log.close()
    backend = "the plain back end" if build.unavailable() else "the compiled back end"
    print(f"\n{preset}: {sum(seconds) / 60:.2f} min with {backend} (" + ", ".join(
        f"{kind} {each:.0f} s" for kind, each in zip(("search", "retraining", "attack"), seconds)) + ")")
    print(f"natural accuracy {result['natural'].accuracy:.3f}, worst case over all attacks "
          f"{result['worst-case'].accuracy:.3f} of {result['worst-case'].images} images")
    print(machine_line())


if __name__ == "__main__":
    main()
