"""Export of runs as TensorBoard's event files, one folder per run. View them with `tensorboard --logdir FOLDER`.

Every number that a run recorded step by step becomes a point of a scalar, with the time of its record. Accuracies under attack
and their intervals are points at step 0. The settings and tags become texts. Architecture weights are left out, because there are
too many of them for scalars.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine.exchange.tracked import TrackedRun, tracked_runs, written_folder


def write_tensorboard(root: Path, ids: Sequence[str], out: Path) -> list[Path]:
    """Write the event files of runs, and return their paths.

    Args:
        root: folder of all runs.
        ids: ids of the runs.
        out: folder to create.

    Raises:
        ConfigError: `out` exists or cannot be written.
        RunError, RunLogError: a run does not exist.
    """
    runs = list(tracked_runs(root, ids))

    def fill(folder: Path) -> None:
        for run in runs:
            _write(run, folder / run.id)

    return written_folder(out, fill)


def _write(run: TrackedRun, folder: Path) -> None:
    from tensorboardX import SummaryWriter  # imports torch where it is installed, which takes seconds

    with SummaryWriter(str(folder), filename_suffix=".rampart") as writer:
        for point in run.scalars.itertuples():
            writer.add_scalar(str(point.name), float(point.value), int(point.step), walltime=float(point.t))
        writer.add_text("settings", _table(run.settings), 0, walltime=run.start)
        writer.add_text("run", _table({"title": run.title, "status": run.status} | run.tags), 0, walltime=run.start)


def _table(values: dict[str, str]) -> str:
    """Format {name: value} as a Markdown table."""
    rows = [f"| {name} | {value.replace('|', chr(92) + '|')} |" for name, value in values.items()]
    return "\n".join(["| name | value |", "|---|---|", *rows])
