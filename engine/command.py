"""The command that starts this installation, for lines that a reader pastes into a shell."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAME = "rampart"


def program() -> str:
    """Return the command, quoted for a shell at the project's root.

    It is `rampart` where PATH leads to the script of this interpreter, else the path of that script (`.venv/bin/rampart`). In
    an environment without the package it is `.venv/bin/python -m engine`.
    """
    script = Path(sys.executable).with_name(NAME)
    if not script.exists():
        return f"{_from_root(Path(sys.executable))} -m engine"
    on_path = shutil.which(NAME)
    if on_path and Path(on_path).samefile(script):
        return NAME
    return _from_root(script)


def _from_root(path: Path) -> str:
    return shlex.quote(str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path))
