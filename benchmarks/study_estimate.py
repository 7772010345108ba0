"""Replay the example studies, and compare the estimate of the time left with the time that they really took.

    python -m benchmarks.study_estimate

The example ships with the times at which its runs started and ended on two cores. For several moments, the runs folder is put
back into its state at that moment: finished runs stay, running ones lose their end, and later ones wait. The estimate then sees
what it would have seen. The command prints it beside the time that was really left.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from engine.files import atomic_write_json
from engine.run.folder import RunFolder, read_json, run_ids
from engine.run.state import identity
from engine.study.archive import EXAMPLE, read_archive
from engine.study.estimate import Durations, estimate
from engine.study.folder import StudyFolder, study_ids
from engine.study.identity import Runs
from engine.study.planning import plan_of

SHARES = (1 / 3, 0.5, 2 / 3, 0.8)  # of the duration of a study
SLOTS = 2  # runs side by side when the example was made


@dataclass(frozen=True)
class Moment:
    """The time left of a study at one moment of its replay.

    Attributes:
        study: id of the study.
        share: share of the study's duration that has passed.
        estimated: estimated time left in seconds; None if it was unknown.
        real: time that was really left, in seconds.
    """

    study: str
    share: float
    estimated: float | None
    real: float


def times_of(folder: RunFolder) -> tuple[float, float]:
    """Return the times at which a run started and ended, in unix seconds."""
    return float((read_json(folder.process_json) or {})["started"]), float((read_json(folder.exit_json) or {})["ended"])


def rewind(runs: Path, moment: float) -> None:
    """Put every run of a folder back into its state at one moment, in unix seconds."""
    for run_id in run_ids(runs):
        folder = RunFolder(runs, run_id)
        started, ended = times_of(folder)
        if ended <= moment:
            continue
        folder.exit_json.unlink()
        lines = folder.events.read_text(encoding="utf-8").splitlines(keepends=True)
        folder.events.write_text("".join(line for line in lines if json.loads(line).get("t", 0.0) <= moment), encoding="utf-8")
        if started > moment:
            folder.process_json.unlink()
            continue
        atomic_write_json(folder.process_json, (read_json(folder.process_json) or {}) | identity(os.getpid()))
        folder.heartbeat.touch()


def replay(archive: Path, study_id: str, share: float) -> Moment:
    """Return the estimated and the real time left of a study at a share of its duration."""
    with tempfile.TemporaryDirectory() as temporary:
        runs = Path(temporary) / "runs"
        shutil.copytree(archive, runs)
        times = [times_of(RunFolder(runs, known.id)) for known in Runs(runs).of_study(study_id)]
        begin, end = min(start for start, _ in times), max(end for _, end in times)
        moment = begin + share * (end - begin)
        rewind(runs, moment)
        study = StudyFolder(runs, study_id).read()
        left = estimate(study, Durations(runs), plan_of(runs, study).cells, runs, SLOTS)
        return Moment(study_id, share, left.seconds, end - moment)


def moments() -> list[Moment]:
    """Return the moments of all example studies."""
    with tempfile.TemporaryDirectory() as temporary:
        archive = Path(temporary) / "runs"
        read_archive(archive, EXAMPLE)
        return [replay(archive, study_id, share) for study_id in study_ids(archive) for share in SHARES]


def main() -> None:
    """Replay the example studies and print one line for each moment."""
    for one in moments():
        error = "unknown" if one.estimated is None else f"{100 * (one.estimated / one.real - 1):+.0f} %"
        estimated = "unknown" if one.estimated is None else f"{one.estimated:.0f} s"
        print(f"{one.study}  after {100 * one.share:.0f} %: {estimated} estimated, {one.real:.0f} s real, {error}")


if __name__ == "__main__":
    main()
