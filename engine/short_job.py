"""Short jobs in a process of their own, so that a page's process never imports torch and is never slowed down.

A job reads a JSON object from stdin and prints JSON objects, one per line, each a better answer than the one before. So if the
process is killed at its time limit, the last line still counts. Imports no torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.errors import first_line

ROOT = Path(__file__).resolve().parents[1]


def answers_of(module: str, request: Mapping[str, Any], limit_s: float) -> tuple[list[dict[str, Any]], str]:
    """Run a job, and return the objects that it printed and, if it failed, the reason for its end.

    Args:
        module: full name of the module that does the job when it is run with `python -m`.
        request: what the job reads.
        limit_s: seconds after which the process is killed.
    """
    process = subprocess.Popen([sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, errors="replace", cwd=ROOT, start_new_session=True)
    try:
        output, errors = process.communicate(json.dumps(request), timeout=limit_s)
        problem = first_line(errors.strip().splitlines()[-1]) if errors.strip() else f"exit code {process.returncode}"
    except subprocess.TimeoutExpired:
        _kill(process)
        output, problem = process.communicate()[0], "it took too long"
    except BaseException:
        _kill(process)
        raise
    lines = output.splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n") and line.startswith("{")], problem


def _kill(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
