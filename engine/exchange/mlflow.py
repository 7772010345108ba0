"""Export of runs in the layout of MLflow's file store. Start `mlflow ui` in the folder that contains `mlruns`.

The layout is `mlruns/EXPERIMENT/RUN/` with `meta.yaml` and one file per parameter, tag and metric. Each dataset is an experiment.
Every line of a metric's file is one point: time in milliseconds, value, step. MLflow need not be installed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from engine.exchange.tracked import TrackedRun, tracked_runs, written_folder

STATUSES = {"queued": 2, "finished": 3, "failed": 4, "stopped": 5}  # numbers of MLflow's RunStatus; 1 is RUNNING
LONGEST = 6000  # characters of a parameter's value that MLflow accepts


def write_mlflow(root: Path, ids: Sequence[str], out: Path) -> list[Path]:
    """Write runs as a file store, and return the paths of its files.

    Args:
        root: folder of all runs.
        ids: ids of the runs.
        out: folder to create. `mlruns` is created inside it.

    Raises:
        ConfigError: `out` exists or cannot be written.
        RunError, RunLogError: a run does not exist.
    """
    runs = list(tracked_runs(root, ids))

    def fill(folder: Path) -> None:
        for dataset in dict.fromkeys(run.dataset for run in runs):
            members = [run for run in runs if run.dataset == dataset]
            _experiment(folder / "mlruns" / _number(dataset), dataset, members)

    return written_folder(out, fill)


def _number(dataset: str) -> str:
    """Return the id of a dataset's experiment: 18 digits, which are the same in every export."""
    return str(10**17 + int.from_bytes(hashlib.sha256(dataset.encode()).digest()[:7], "big") % (9 * 10**17))


def _experiment(folder: Path, dataset: str, runs: Sequence[TrackedRun]) -> None:
    _yaml(folder / "meta.yaml", {
        "artifact_location": f"mlruns/{folder.name}", "creation_time": _ms(min(run.start for run in runs)),
        "experiment_id": folder.name, "last_update_time": _ms(max(run.end for run in runs)), "lifecycle_stage": "active",
        "name": f"rampart {dataset}"})
    for run in runs:
        _run(folder / run.id, folder.name, run)


def _run(folder: Path, experiment: str, run: TrackedRun) -> None:
    _yaml(folder / "meta.yaml", {
        "artifact_uri": f"mlruns/{experiment}/{run.id}/artifacts", "end_time": _ms(run.end), "entry_point_name": "",
        "experiment_id": experiment, "lifecycle_stage": "active", "run_id": run.id, "run_name": f"{run.title} {run.id[-4:]}",
        "run_uuid": run.id, "source_name": "rampart", "source_type": 4, "source_version": run.tags.get("rampart.commit", ""),
        "start_time": _ms(run.start), "status": STATUSES.get(run.status, 1), "tags": [], "user_id": ""})
    for name, value in run.settings.items():
        _text(folder / "params" / name, value[:LONGEST])
    for name, value in ({"mlflow.runName": f"{run.title} {run.id[-4:]}"} | run.tags).items():
        _text(folder / "tags" / name, value)
    for name, points in run.scalars.groupby("name", sort=False):
        lines = [f"{_ms(one.t)} {one.value!r} {one.step}\n" for one in points.itertuples()]
        _text(folder / "metrics" / str(name), "".join(lines))
    (folder / "artifacts").mkdir()
    if run.genotype:
        _text(folder / "artifacts" / "genotype.json", f"{run.genotype}\n")


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _yaml(path: Path, content: dict[str, Any]) -> None:
    _text(path, yaml.safe_dump(content, sort_keys=True, allow_unicode=True))


def _text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
