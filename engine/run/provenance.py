"""Where a run comes from: version and uncommitted changes of the code, versions of the packages. Imports no torch."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "torchattacks", "numpy", "scipy", "torchjd", "scikit-learn", "pydantic", "pyarrow")
# A longer difference is cut: run.json stays a small file.
LONGEST_DIFF = 200_000


def code_version() -> dict[str, str | None]:
    """{"version": commit or None outside a checkout, "diff": uncommitted changes of tracked files, cut when long}."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return {"version": None, "diff": None}
    version, diff = _git(root, "rev-parse", "HEAD"), _git(root, "diff", "HEAD", "--", "engine")
    return {"version": version.strip() if version else None, "diff": diff[:LONGEST_DIFF] if diff is not None else None}


@cache
def package_versions() -> dict[str, str]:
    """Installed versions of Python and of what results depend on, read without importing the packages."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def describe() -> dict[str, Any]:
    """Both, as they are written into run.json."""
    return {"code": code_version(), "packages": dict(package_versions())}


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None  # no git, or a checkout that belongs to somebody else: the run goes on without a version
    return done.stdout.decode(errors="replace")
