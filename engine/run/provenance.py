"""The provenance of a run: the version of the code, uncommitted changes to the code, and package versions. Imports no torch."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "torchattacks", "numpy", "scipy", "torchjd", "scikit-learn", "pydantic", "pyarrow")
# A longer diff is cut, so that run.json stays small.
LONGEST_DIFF = 200_000


def code_version() -> dict[str, str | None]:
    """Return the version of Rampart's code as {"version", "diff"}.

    "version" is the hash of the current commit. "diff" contains the uncommitted changes to tracked files in `engine`, cut at
    `LONGEST_DIFF` characters. Both are None outside a git checkout or if git fails.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return {"version": None, "diff": None}
    version, diff = _git(root, "rev-parse", "HEAD"), _git(root, "diff", "HEAD", "--", "engine")
    return {"version": version.strip() if version else None, "diff": diff[:LONGEST_DIFF] if diff is not None else None}


@cache
def package_versions() -> dict[str, str]:
    """Return the installed versions of Python and of the packages that results depend on, without importing them."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def describe() -> dict[str, Any]:
    """Return the code version and the package versions in the form in which run.json stores them."""
    return {"code": code_version(), "packages": dict(package_versions())}


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None  # no git, or a checkout owned by another user: the run continues without a version
    return done.stdout.decode(errors="replace")
