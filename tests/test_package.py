"""The package: what a wheel holds, which versions it accepts, and the command that it installs."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import engine
from engine import command, requests
from engine.run.folder import RunFolder, run_ids
from tests.engine.run.processes import without_supervisor

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# A shell of a user who has not activated any environment.
PLAIN_SHELL = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": os.environ.get("HOME", "/")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of this tree; built from a copy, since setuptools writes into the tree it builds from."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for name in ("engine", "app"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", "static"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    words = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir",
             str(out), str(tree)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(next(out.glob("rampart_nas-*.whl")))


def test_a_wheel_holds_every_file_of_engine_and_app(wheel: zipfile.ZipFile) -> None:
    ignored = {"__pycache__", "static"}
    sources = {path.relative_to(ROOT).as_posix() for folder in ("engine", "app") for path in (ROOT / folder).rglob("*")
               if path.is_file() and not ignored.intersection(path.parts)}
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed == sources
    assert {"engine/py.typed", "engine/architecture/catalogue.json", "app/assets/rampart.css"} <= packed


def test_a_wheel_names_version_licence_and_command(wheel: zipfile.ZipFile) -> None:
    folder = f"rampart_nas-{engine.__version__}.dist-info"
    fields = Parser().parsestr(wheel.read(f"{folder}/METADATA").decode())
    assert (fields["Name"], fields["Version"]) == ("rampart-nas", engine.__version__)
    assert fields["License-Expression"] == "Apache-2.0"
    assert wheel.read(f"{folder}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert "rampart = engine.__main__:main" in wheel.read(f"{folder}/entry_points.txt").decode()


def requirements_of(name: str) -> dict[str, Requirement]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return {one.name: one for one in map(Requirement, (line for line in lines if line and line[0] not in "#-"))}


@pytest.mark.parametrize(("ranges", "file"), [
    (PROJECT["dependencies"], "requirements.txt"),
    (PROJECT["optional-dependencies"]["onnx"], "requirements-onnx.txt"),
    (PROJECT["optional-dependencies"]["slurm"], "requirements-slurm.txt"),
    (PROJECT["optional-dependencies"]["ray"], "requirements-ray.txt"),
    (PROJECT["optional-dependencies"]["store"], "requirements-store.txt"),
    (PROJECT["optional-dependencies"]["dev"][1:], "requirements-dev.txt"),
])
def test_every_pin_is_in_the_range_that_the_package_accepts(ranges: list[str], file: str) -> None:
    accepted, pinned = {one.name: one for one in map(Requirement, ranges)}, requirements_of(file)
    assert set(accepted) == set(pinned)
    for name, pin in pinned.items():
        version = next(iter(pin.specifier)).version
        assert version in accepted[name].specifier, name


def test_torchattacks_cannot_be_an_extra() -> None:
    """Once it accepts the `requests` that Streamlit needs, pyproject.toml can have the extra `attacks`."""
    needs = next(one for one in map(Requirement, metadata.requires("torchattacks") or ()) if one.name == "requests")
    assert metadata.version("requests") not in needs.specifier
    assert "attacks" not in PROJECT["optional-dependencies"]


def in_a_shell(line: str, **environment: str) -> str:
    """Return what a shell at the project's root prints for a pasted line."""
    done = subprocess.run(["/bin/sh", "-c", line], cwd=ROOT, env=PLAIN_SHELL | environment, capture_output=True, text=True,
                          timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_version_is_said_by_the_command() -> None:
    assert in_a_shell(f"{command.program()} --version") == f"rampart {engine.__version__}\n"


def test_the_printed_command_launches_when_pasted(tmp_path: Path) -> None:
    """A user who has activated nothing pastes the command of a page at the project's root."""
    runs = without_supervisor(tmp_path / "runs of mine")
    line = requests.command_of("search", "arnas", "smoke", "digits", {"epsilon": 8 / 255}, runs=runs)
    shown = in_a_shell(line).strip()
    assert run_ids(runs) == [shown]
    assert RunFolder(runs, shown).read_run()["command"] == line


@pytest.mark.parametrize("place", ["installed", "on the path", "elsewhere", "not installed"])
def test_program_is_what_a_shell_at_the_root_finds(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "project"
    scripts = tmp_path / "other place" / "bin" if place == "elsewhere" else root / ".venv" / "bin"
    scripts.mkdir(parents=True)
    root.mkdir(exist_ok=True)
    monkeypatch.setattr(command, "ROOT", root)
    monkeypatch.setattr(sys, "executable", str(scripts / "python"))
    monkeypatch.setenv("PATH", str(scripts) if place == "on the path" else PLAIN_SHELL["PATH"])
    if place != "not installed":
        script = scripts / "rampart"
        script.write_text("#!/bin/sh\necho started\n", encoding="utf-8")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        assert subprocess.check_output(command.program(), shell=True, cwd=root, text=True) == "started\n"
    assert command.program() == {"installed": ".venv/bin/rampart", "on the path": "rampart", "elsewhere": f"'{scripts}/rampart'",
                                 "not installed": ".venv/bin/python -m engine"}[place]


def test_ui_is_a_verb_with_help_of_its_own() -> None:
    assert "  ui " in in_a_shell(f"{command.program()} --help")
    assert "--port" in in_a_shell(f"{command.program()} ui --help")


def test_ui_refuses_a_port_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        words = [sys.executable, "-m", "engine", "ui", "--port", str(port)]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and f"rampart ui --port {port + 1}" in done.stderr


@pytest.mark.parametrize("words", [("--port", "x"), ("--port", "99999999"), ("--runs", ""), ("--prot", "1")])
def test_ui_refuses_a_bad_option_with_one_sentence(words: tuple[str, str]) -> None:
    command_line = [sys.executable, "-m", "app", *words]
    done = subprocess.run(command_line, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.count("\n") == 1 and "see `rampart ui --help`" in done.stderr


@pytest.mark.parametrize(("words", "said"), [
    (("--no-token", "--address", "0.0.0.0"), "must be at a loopback address"),
    (("--allowed-host", "http://studio.example.org"), "without scheme"),
])
def test_ui_refuses_what_would_let_strangers_in(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    command_line = [sys.executable, "-m", "app", "--runs", str(tmp_path), *words]
    done = subprocess.run(command_line, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1
