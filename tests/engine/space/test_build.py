"""Compiling the kernels: success, failure, caching, damage and concurrency, each in a separate process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
COMPILER = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler")
NO_ZIG = "import sys; sys.modules['ziglang'] = None\n"
SAY = "from engine.space.compiled import build\nprint(build.unavailable())"


def environment(tmp_path: Path, **changes: str) -> dict[str, str]:
    """Return the environment of a process with caches and temporary folder in `tmp_path`, and no compiler set."""
    (tmp_path / "tmp").mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if name != "CC"}
    return kept | {"XDG_CACHE_HOME": str(tmp_path / "cache"), "TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": str(ROOT)} | changes


def start(code: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-W", "ignore", "-c", NO_ZIG + code], env=variables, cwd=ROOT, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def said(process: subprocess.Popen[str]) -> str:
    out, problems = process.communicate(timeout=120)
    assert process.returncode == 0, problems
    return out.strip()


def compiler(tmp_path: Path, body: str) -> str:
    """Return a compiler command that prints a version and runs `body` to compile."""
    path = tmp_path / "compiler"
    path.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "compiler 1.0" && exit 0\n{body}\n')
    path.chmod(0o700)
    return str(path)


def counting(tmp_path: Path) -> str:
    """Return the real compiler without its slow optimisations; each run adds a line to `tmp_path / "runs"`."""
    return compiler(tmp_path, f'echo run >> {tmp_path / "runs"}\n'
                    f'for a; do shift; case "$a" in -O3) set -- "$@" -O0;; *) set -- "$@" "$a";; esac; done\n'
                    f'exec {COMPILER} "$@"')


def runs(tmp_path: Path) -> int:
    return len((tmp_path / "runs").read_text().splitlines())


def compiled(folder: Path) -> list[Path]:
    return sorted(folder.rglob("cell-*"))


def test_without_a_compiler_the_plain_back_end_runs(tmp_path: Path) -> None:
    code = SAY + """
from engine.space.supernet import Supernet
import torch
supernet = Supernet(channels=2, layers=3, classes=3, image_shape=(1, 8, 8))
print(*supernet.backends("cpu"))
generator = torch.Generator().manual_seed(0)
print(supernet.logits(torch.rand(2, 1, 8, 8), supernet.initial_weights(generator), supernet.initial_alphas(generator)).shape)
"""
    sentence, backends, shape = said(start(code, **environment(tmp_path, PATH=""))).splitlines()
    assert "needs a C compiler and none was found; install" in sentence
    assert backends == "dense dense dense" and shape == "torch.Size([2, 3])"
    assert not compiled(tmp_path)


@pytest.mark.parametrize(("body", "sentence"), [
    ("echo 'cell.c:1: error: no such thing' >&2; exit 1", "failed on the kernels: cell.c:1: error: no such thing; set CC"),
    ("exit 3", "failed on the kernels"), ("exit 0", "could not be loaded"),
    ("kill -9 $$", "failed on the kernels")])
def test_a_compiler_that_fails_is_told_of(tmp_path: Path, body: str, sentence: str) -> None:
    found = said(start(SAY, **environment(tmp_path, CC=compiler(tmp_path, body))))
    assert sentence in found
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize(("command", "sentence"), [("false", "C compiler must run"), ("'gcc", "CC must be a command")])
def test_a_command_that_is_no_compiler_is_told_of(tmp_path: Path, command: str, sentence: str) -> None:
    assert sentence in said(start(SAY, **environment(tmp_path, CC=command)))


@needs_compiler
@pytest.mark.parametrize("command", ["", "  ", "no-such-compiler -v"])
def test_a_cc_that_is_not_there_is_passed_over(tmp_path: Path, command: str) -> None:
    found = said(start("from engine.space.compiled import build\nprint(*build.compiler())", **environment(tmp_path, CC=command)))
    assert found == COMPILER


@needs_compiler
def test_a_compiled_file_is_used_again_and_a_damaged_one_is_made_again(tmp_path: Path) -> None:
    variables = environment(tmp_path, CC=counting(tmp_path))
    assert said(start(SAY, **variables)) == "None" and runs(tmp_path) == 1
    (path,) = compiled(tmp_path / "cache")
    whole = path.read_bytes()
    assert said(start(SAY, **variables)) == "None" and runs(tmp_path) == 1
    for damaged in (b"", b"rubbish", whole[: len(whole) // 2], whole[:5000] + b"\0" * 100 + whole[5100:]):
        before = runs(tmp_path)
        path.write_bytes(damaged)
        assert said(start(SAY, **variables)) == "None"
        assert runs(tmp_path) == before + 1 and len(compiled(tmp_path / "cache")) == 1


@needs_compiler
def test_two_processes_and_two_threads_may_build_at_once(tmp_path: Path) -> None:
    code = """
from concurrent.futures import ThreadPoolExecutor
from engine.space.compiled import build
with ThreadPoolExecutor(2) as threads:
    print(*[library._name.endswith(".so") for library in threads.map(build.library.__wrapped__, ["float32", "float32"])])
"""
    variables = environment(tmp_path, CC=counting(tmp_path))
    assert [said(process) for process in [start(code, **variables), start(code, **variables)]] == ["True True"] * 2
    assert {path.suffix for path in compiled(tmp_path / "cache")} == {".so"}


@needs_compiler
def test_a_folder_that_cannot_be_used_is_not(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    variables = environment(tmp_path, CC=counting(tmp_path), XDG_CACHE_HOME=str(tmp_path / "file"))
    assert said(start(SAY, **variables)) == "None"
    assert [path.parent.name for path in compiled(tmp_path)] == [f"rampart-kernels-{os.getuid()}"]
    nowhere = f"import tempfile; tempfile.tempdir = {str(tmp_path / 'file')!r}\n"
    assert "need a folder that only this user can write to" in said(start(nowhere + SAY, **variables))


@needs_compiler
def test_a_folder_where_others_can_put_files_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "rampart" / "kernels"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    variables = environment(tmp_path, CC=counting(tmp_path))
    assert said(start(SAY, **variables)) == "None" and not compiled(folder)
    if os.getuid() == 0:
        folder.chmod(0o700)
        os.chown(folder, 12345, 12345)
        assert said(start(SAY, **variables)) == "None" and not compiled(folder)


def test_can_be_switched_off(tmp_path: Path) -> None:
    code = SAY + """
from engine.space.supernet import Supernet
print(*Supernet(channels=2, layers=3, classes=3, image_shape=(1, 8, 8)).backends("cpu"))
"""
    sentence, backends = said(start(code, **environment(tmp_path, RAMPART_KERNELS="off"))).splitlines()
    assert "switched off by RAMPART_KERNELS=off" in sentence and backends == "dense dense dense"
    assert not compiled(tmp_path)
