"""The data of a run for other experiment trackers: settings, scalars over steps, accuracies under attack, and facts as tags."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from engine.errors import ConfigError
from engine.log.runlog import RunLog

RESULT_PARTS = ("accuracy", "low", "high", "correct", "images")


@dataclass(frozen=True)
class TrackedRun:
    """One run in the form that other trackers expect.

    Attributes:
        id: id of the run.
        title: search method or name of the network.
        dataset: registry name of the dataset.
        status: for example "finished".
        start: Unix time of the launch, in seconds.
        end: Unix time of the last event, in seconds.
        settings: {name of the setting: value as text}; lists are JSON.
        scalars: table of all numbers recorded step by step, with the columns name, step, t (Unix time in seconds) and value.
        tags: further facts as {name: text}, among them the fingerprint of every accuracy under attack.
        genotype: the genotype of the run as JSON; "" if it has none.
    """

    id: str
    title: str
    dataset: str
    status: str
    start: float
    end: float
    settings: dict[str, str]
    scalars: pd.DataFrame
    tags: dict[str, str]
    genotype: str


def tracked_runs(root: Path, ids: Sequence[str]) -> Iterator[TrackedRun]:
    """Yield runs of a runs folder. Only the folders of these runs are read.

    Raises:
        RunError: an id is not a valid run id.
        RunLogError: a run does not exist.
    """
    log = RunLog.open(root, in_memory=True)
    try:
        chosen = list(dict.fromkeys(ids))
        log.ingest(chosen)  # all at once, because what the log keeps is out of date after each reading
        for run in chosen:
            yield _tracked(log, run)
    finally:
        log.close()


def _tracked(log: RunLog, run: str) -> TrackedRun:
    row = log.run(run)
    steps, results = log.scalars(run), _results(log, run)
    scalars = pd.concat([one for one in (steps, results) if len(one)] or [steps], ignore_index=True)
    genotype = log.genotype(run)
    return TrackedRun(
        run, str(row["title"]), str(row["dataset"]), str(row["status"]), float(row["created"]),
        float(row["last_event_t"] or row["created"]),
        {name: value if isinstance(value, str) else json.dumps(value) for name, value in row["config"].items()},
        scalars, _tags(log, run), json.dumps(genotype) if genotype else "")


def _results(log: RunLog, run: str) -> pd.DataFrame:
    """Return the accuracies of an attack run with their intervals as scalars at step 0, in the columns of `RunLog.scalars`."""
    rows = [{"name": "/".join(filter(None, ("attack", one.part_of, one.attack, part))), "step": 0, "t": one.t,
             "value": float(getattr(one, part))}
            for one in log.attacks(run).itertuples() if one.complete for part in RESULT_PARTS]
    return pd.DataFrame(rows, columns=["name", "step", "t", "value"])


def _tags(log: RunLog, run: str) -> dict[str, str]:
    row = log.run(run)
    facts = {"kind": row["kind"], "method": row["method"], "preset": row["preset"], "dataset": row["dataset"],
             "parent": row["parent"], "study": row["study"], "command": row["command"], "badge": row["badge"],
             "commit": row["code"].get("version")}
    prints = {f"fingerprint.{one.attack}": one.fingerprint for one in log.attacks(run).itertuples()
              if one.complete and not one.part_of}
    return {f"rampart.{name}": str(value) for name, value in (facts | prints).items() if value}


def written_folder(out: Path, fill: Callable[[Path], None]) -> list[Path]:
    """Create the folder `out` with all of its files, or nothing if writing fails. Return the paths of the files.

    Args:
        out: folder that does not exist yet.
        fill: function that takes a folder and writes the files into it.

    Raises:
        ConfigError: `out` exists or cannot be written.
    """
    if out.exists():
        raise ConfigError(f"--out must be a new folder, got {out}, which exists; choose another name or remove it.")
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as problem:
        raise ConfigError(f"The export could not be written to {out} ({problem.strerror or problem}); choose another --out."
                          ) from None
    try:
        fill(temporary)
        temporary.chmod(0o755)
        temporary.rename(out)
    except OSError as problem:
        raise ConfigError(f"The export could not be written to {out} ({problem.strerror or problem}); choose another --out."
                          ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return sorted(path for path in out.rglob("*") if path.is_file())
