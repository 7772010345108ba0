"""requirements.lock holds what the requirements files name, each package once, with hashes."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = ("requirements.txt", "requirements-dev.txt", "requirements-onnx.txt", "requirements-slurm.txt", "requirements-store.txt")
NOT_LOCKED = {"torch"}  # its builds for the CPU and for CUDA have other hashes


def pinned(name: str) -> dict[str, str]:
    """Return {package: version} of the lines of a requirements file that pin one."""
    lines = re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;\\]+)", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
    return {package.lower().replace("_", "-"): version for package, version in lines}


def test_the_lock_holds_every_version_that_the_requirements_files_name() -> None:
    locked = pinned("requirements.lock")
    wanted = {package: version for name in FILES for package, version in pinned(name).items() if package not in NOT_LOCKED}
    assert {package: (version, locked.get(package)) for package, version in wanted.items()
            if locked.get(package) != version} == {}, "run `make lock`"
    assert not NOT_LOCKED & locked.keys()


def test_every_locked_package_has_hashes() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=[A-Za-z0-9])", text)[1:]
    assert len(entries) == len(pinned("requirements.lock")) > 80
    assert not [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry]
