"""Measurements of batches by a separate process, which is killed at a time limit. Results are kept in the runs folder.

Imports no torch.
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from pathlib import Path

from engine.errors import RunError
from engine.files import atomic_write_json
from engine.preflight.measurement import Measurement
from engine.preflight.shape import Shape
from engine.run.folder import read_json
from engine.short_job import answers_of

LIMIT_S = 60.0  # for one run, of which loading PyTorch takes a few seconds
LEEWAY_S = 30.0


def place_of(runs: Path, shape: Shape) -> Path:
    """Return the file that keeps the measurement of a shape."""
    return runs / "control" / "preflight" / f"{shape.key}.json"


def known(runs: Path, shape: Shape) -> Measurement | None:
    """Return the kept measurement of a shape, or None if there is none."""
    try:
        record = read_json(place_of(runs, shape))
        return None if record is None else Measurement(**record)
    except (RunError, TypeError):  # damaged, or of another version
        return None


def measured(runs: Path, shape: Shape, limit_s: float = LIMIT_S) -> Measurement:
    """Return the measurement of a shape. If none is kept, or an upper bound, measure it in a separate process, and keep it.

    Args:
        runs: folder of all runs.
        shape: the run whose batches are measured.
        limit_s: seconds that the measurement may take. It is killed after that time and some leeway, and its last result counts.

    Raises:
        RunError: the process gave no result, for example because memory ran out.
    """
    if (kept := known(runs, shape)) is not None and not kept.upper:
        return kept
    answers, problem = answers_of("engine.preflight.job", {
        "kind": shape.kind, "method": shape.method, "config": shape.config.model_dump(mode="json"),
        "network": shape.network and shape.network.model_dump(mode="json"), "device": shape.device, "threads": shape.threads,
        "limit_s": limit_s}, limit_s + LEEWAY_S)
    if not answers:
        raise RunError(f"A {shape.kind} run must compute a batch within {limit_s + LEEWAY_S:.0f} s to be estimated, and this one "
                       f"did not ({problem}); launch it without an estimate, or use smaller batches or fewer channels.")
    result = Measurement(**answers[-1])
    path = place_of(runs, shape)
    with contextlib.suppress(OSError):  # on a full disk, the result is not kept
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_json(path, asdict(result))
    return result
