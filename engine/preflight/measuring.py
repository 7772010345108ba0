"""Measurements of batches by a separate process, which is killed at a time limit. Results are kept in the runs folder.

Imports no torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from engine.errors import RunError, first_line
from engine.files import atomic_write_json
from engine.preflight.measurement import Measurement
from engine.preflight.shape import Shape
from engine.run.folder import read_json

ROOT = Path(__file__).resolve().parents[2]
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
    """Return the measurement of a shape. Measure in a separate process if no measurement, or only an upper bound, is kept.

    Args:
        runs: folder of all runs.
        shape: the run whose batches are measured.
        limit_s: seconds that the measurement may take. `LEEWAY_S` seconds later, the process is killed, and its last result
            counts.

    Raises:
        RunError: the process gave no result, for example because memory ran out.
    """
    if (kept := known(runs, shape)) is not None and not kept.upper:
        return kept
    lines, problem = _run(shape, limit_s)
    if not lines:
        raise RunError(f"A {shape.kind} run must compute a batch within {limit_s + LEEWAY_S:.0f} s to be estimated, and this one "
                       f"did not ({problem}); launch it without an estimate, or use smaller batches or fewer channels.")
    result = Measurement(**json.loads(lines[-1]))
    path = place_of(runs, shape)
    with contextlib.suppress(OSError):  # on a full disk, the result is not kept
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_json(path, asdict(result))
    return result


def _run(shape: Shape, limit_s: float) -> tuple[list[str], str]:
    """Run the process for a shape. Return the lines that it printed, and the reason for its end if it failed."""
    request = json.dumps({"kind": shape.kind, "method": shape.method, "config": shape.config.model_dump(mode="json"),
                          "network": shape.network and shape.network.model_dump(mode="json"), "device": shape.device,
                          "threads": shape.threads, "limit_s": limit_s})
    process = subprocess.Popen([sys.executable, "-m", "engine.preflight.job"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, errors="replace", cwd=ROOT, start_new_session=True)
    try:
        output, errors = process.communicate(request, timeout=limit_s + LEEWAY_S)
        problem = first_line(errors.strip().splitlines()[-1]) if errors.strip() else f"exit code {process.returncode}"
    except subprocess.TimeoutExpired:
        _kill(process)
        output, problem = process.communicate()[0], "it took too long"
    except BaseException:
        _kill(process)
        raise
    lines = output.splitlines(keepends=True)
    return [line for line in lines if line.endswith("\n") and line.startswith("{")], problem


def _kill(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
