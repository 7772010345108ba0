"""The shell command that starts this installation of Rampart, for command lines that a user copies into a shell."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAME = "rampart"


def program() -> str:
    """Return the command that starts Rampart, quoted for a shell whose working folder is the project's root.

    The command is `rampart` if PATH finds the script of this Python environment under that name. If not, it is the path of the
    script, such as `.venv/bin/rampart`. If the environment has no such script, it is `.venv/bin/python -m engine`.
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
