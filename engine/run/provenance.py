"""The provenance of a run: the version of the code, uncommitted changes to the code, and package versions. Imports no torch."""

from __future__ import annotations

import ast
import hashlib
import platform
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib import metadata
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

from engine.files import atomic_write_bytes

PACKAGES = ("torch", "torchattacks", "numpy", "scipy", "torchjd", "scikit-learn", "pydantic", "pyarrow")
ENGINE = Path(__file__).resolve().parents[1]
# A longer diff is cut, so that run.json stays small.
LONGEST_DIFF = 200_000
# Parts of the engine that determine the numbers in a result. The others launch, watch, list and draw runs.
NUMERICAL_PARTS = ("architecture", "attack", "data", "search", "space", "train", "run")
NOT_NUMERICAL = frozenset({"admission.py", "chain.py", "event_docs.py", "folder.py", "launcher.py", "lineage.py", "matching.py",
                           "provenance.py", "queue.py", "state.py", "stop.py", "supervisor.py", "telemetry.py", "waiting.py"})


def code_version() -> dict[str, str | None]:
    """Return the version of Rampart's code as {"version", "diff"}.

    "version" is the hash of the current commit. "diff" contains the uncommitted changes to tracked files in `engine`, cut at
    `LONGEST_DIFF` characters. Both are None outside a git checkout or if git fails.
    """
    root = ENGINE.parent
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


@cache
def numerics() -> str:
    """Return a hash of the code that determines the numbers in a result.

    Two versions of Rampart with equal hashes give equal results on the same machine. Comments and docstrings do not count.

    Computing the hash takes half a second of CPU time, which would delay a launch. Therefore it is cached in a file beside
    Python's compiled files. Like these, it is valid until the time or the size of a source file changes.
    """
    files = [path for part in NUMERICAL_PARTS for path in sorted((ENGINE / part).rglob("*"))
             if path.suffix in (".py", ".c", ".h", ".json") and path.name not in NOT_NUMERICAL]
    stamps = [(str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in files]
    state, kept = hashlib.sha256(repr(stamps).encode()).hexdigest(), Path(cache_from_source(__file__)).with_suffix(".numerics")
    with suppress(OSError, ValueError):
        known, found = kept.read_text().split()
        if known == state:
            return found
    found = _hash_of_code(files)
    with suppress(OSError):  # the installation may be read-only
        atomic_write_bytes(kept, f"{state} {found}".encode())
    return found


def _hash_of_code(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(ENGINE)}\0".encode())
        digest.update(_without_prose(path).encode() if path.suffix == ".py" else path.read_bytes())
    return digest.hexdigest()[:16]


def _without_prose(path: Path) -> str:
    """Return the code of a Python file in a form that comments and docstrings do not change."""
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            del body[0]
    return ast.dump(tree)


def describe() -> dict[str, Any]:
    """Return the code version and the package versions in the form in which run.json stores them."""
    return {"code": {**code_version(), "numerics": numerics()}, "packages": dict(package_versions())}


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None  # no git, or a checkout owned by another user: the run continues without a version
    return done.stdout.decode(errors="replace")
