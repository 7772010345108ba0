"""Compiles the kernels on first use, with whatever C compiler is at hand, and keeps the result for later processes.

Plain C and two functions: no headers but the C library's, no Python and no PyTorch in it, so that a compiler is all it
takes and building costs seconds. Compilers are looked for in this order: the environment variable CC, cc, gcc, clang, and
the one in the pip package `ziglang`, which needs nothing installed on the machine. Imports no torch.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

KERNELS = Path(__file__).parent / "kernels"
# Same numbers as the C standard's but for fused multiply-adds; NaN and infinity keep their meaning.
FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared")
ELEMENTS = {"float32": ("float", "int32_t"), "float64": ("double", "int64_t")}
SECONDS = 180  # that a compiler may take


class BuildError(Exception):
    """The kernels cannot be had here; the message is one sentence that says why and what to do."""


@cache
def library(dtype: str) -> ctypes.CDLL:
    """The compiled kernels for "float32" or "float64"; built, or found in the cache.

    Raises:
        BuildError: no compiler, or one that fails.
    """
    if os.name != "posix":
        raise BuildError(f"The compiled back end needs Linux or macOS, got {platform.system()}; the plain one runs.")
    command = compiler()
    path = cache_folder() / f"cell-{fingerprint(command, dtype)}.so"
    if not path.exists():
        compile_to(path, command, dtype)
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise BuildError(f"The compiled kernels in {path} must load, got '{error}'; delete the file and try again.") from error


@cache
def unavailable() -> str | None:
    """Why the kernels cannot be used on this machine, in a sentence; None when they can."""
    try:
        library("float32")
    except BuildError as error:
        return str(error)
    return None


def compiler() -> tuple[str, ...]:
    """The compiler's command.

    Raises:
        BuildError: none was found.
    """
    chosen = os.environ.get("CC")
    if chosen and shutil.which(shlex.split(chosen)[0]):
        return tuple(shlex.split(chosen))
    for name in ("cc", "gcc", "clang"):
        if found := shutil.which(name):
            return (found,)
    if importlib.util.find_spec("ziglang"):
        return (sys.executable, "-m", "ziglang", "cc")
    raise BuildError("The compiled back end needs a C compiler and none was found; install gcc or clang, or "
                     "`pip install ziglang`.")


def fingerprint(command: tuple[str, ...], dtype: str) -> str:
    """Of everything the compiled file depends on: sources, flags, compiler and this processor's instructions."""
    digest = hashlib.sha256()
    for part in (*FLAGS, *command, compiler_version(command), dtype, instructions()):
        digest.update(part.encode() + b"\0")
    for source in sorted(KERNELS.iterdir()):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


@cache
def compiler_version(command: tuple[str, ...]) -> str:
    """First line of what the compiler says about itself.

    Raises:
        BuildError: it cannot be run.
    """
    try:
        answer = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise BuildError(f"The C compiler must run, got '{error}' from `{shlex.join(command)} --version`; repair it or set CC "
                         "to another.") from error
    return answer.stdout.partition("\n")[0]


def instructions() -> str:
    """What `-march=native` depends on, so that a home folder shared by unlike machines holds one file for each."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.machine() + platform.processor()
    return "\n".join(sorted({line for line in lines if line.startswith(("flags", "model name", "Features", "CPU part"))}))


def cache_folder() -> Path:
    """Where compiled files are kept: ~/.cache/rampart/kernels, or a temporary folder of this user where that is not writable."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    for folder in (home / "rampart" / "kernels", Path(tempfile.gettempdir()) / f"rampart-kernels-{os.getuid()}"):
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError:
            continue
        # A file that is loaded and run must lie where nobody else can put one.
        if os.access(folder, os.W_OK) and folder.stat().st_uid == os.getuid():
            return folder
    raise BuildError("The compiled kernels need a folder to be kept in, and neither ~/.cache nor the temporary folder can be "
                     "written; set XDG_CACHE_HOME to one that can.")


def compile_to(path: Path, command: tuple[str, ...], dtype: str) -> None:
    """Compiles the kernels to `path`; whole or not at all, also with several processes at it.

    Raises:
        BuildError: the compiler failed; the message holds its first error.
    """
    real, integer = ELEMENTS[dtype]
    partial = path.with_suffix(f".{os.getpid()}.part")
    arguments = [*command, *FLAGS, f"-DREAL={real}", f"-DINTEGER={integer}", str(KERNELS / "cell.c"), "-o", str(partial), "-lm"]
    # zig keeps intermediate files, by default also in the current folder.
    folders = {name: str(path.parent / "zig") for name in ("ZIG_LOCAL_CACHE_DIR", "ZIG_GLOBAL_CACHE_DIR")}
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=SECONDS, env=os.environ | folders)
        if done.returncode:
            first = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip()[:200])
            raise BuildError(f"The C compiler `{shlex.join(command)}` failed on the kernels: {first}; set CC to another one.")
        partial.replace(path)
    except (OSError, subprocess.SubprocessError) as error:
        raise BuildError(f"The kernels could not be compiled with `{shlex.join(command)}`: {error}; set CC to another "
                         "compiler.") from error
    finally:
        partial.unlink(missing_ok=True)


if __name__ == "__main__":  # `make setup`: a first search should not have to wait for the compiler
    print(unavailable() or f"The search kernels are compiled ({compiler_version(compiler())}).")
