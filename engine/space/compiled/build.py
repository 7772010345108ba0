"""Compilation of the kernels on first use, with any available C compiler. The result is cached for later processes.

The kernels are plain C. They include only headers of the C library, so they need only a C compiler and compile in seconds. The
first available compiler of this list is used:

1. The compiler that the environment variable CC names.
2. cc, gcc, clang.
3. The compiler in the pip package `ziglang`, which requires no system packages.

This module does not import torch.
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
from contextlib import suppress
from functools import cache
from pathlib import Path

KERNELS = Path(__file__).parent / "kernels"
# These flags keep standard C arithmetic, including NaN and infinity, except that they allow fused multiply-adds.
FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared")
ELEMENTS = {"float32": ("float", "int32_t"), "float64": ("double", "int64_t")}
SECONDS = 180  # time limit for the compiler
SWITCH = "RAMPART_KERNELS"  # environment variable; "off" selects the plain back ends


class BuildError(Exception):
    """An error raised when the compiled kernels are unavailable. Its message is a sentence giving the reason and a remedy."""


@cache
def library(dtype: str) -> ctypes.CDLL:
    """Return the compiled kernels for "float32" or "float64", from the cache or freshly built.

    Raises:
        BuildError: the kernels are switched off by RAMPART_KERNELS=off, the system is neither Linux nor macOS, no compiler is
            found, the compiler fails, or the compiled file cannot be loaded.
    """
    if os.environ.get(SWITCH) == "off":
        raise BuildError(f"The compiled back end is switched off by {SWITCH}=off in the environment; unset it.")
    if os.name != "posix":
        raise BuildError(f"The compiled back end needs Linux or macOS, got {platform.system()}; the plain one is used.")
    command, folder = compiler(), cache_folder()
    name = f"cell-{fingerprint(command, dtype)}"
    path = whole_file(folder, name) or compile_to(folder, name, command, dtype)
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise BuildError(f"The compiled kernels in {path} could not be loaded ({error}); delete the file and try "
                         "again.") from error


@cache
def unavailable(dtype: str = "float32") -> str | None:
    """Return a sentence saying why the compiled kernels cannot be used on this machine, or None if they can be used."""
    try:
        library(dtype)
    except BuildError as error:
        return str(error)
    return None


def compiler() -> tuple[str, ...]:
    """Return the command of the C compiler, split into words.

    Raises:
        BuildError: no compiler is found, or the environment variable CC is not a valid command line.
    """
    try:
        chosen = tuple(shlex.split(os.environ.get("CC", "")))
    except ValueError as error:
        raise BuildError(f"The environment variable CC must be a command, got {os.environ['CC']!r} ({error}); set it to the name "
                         "of a C compiler.") from error
    if chosen and shutil.which(chosen[0]):
        return chosen
    for name in ("cc", "gcc", "clang"):
        if path := shutil.which(name):
            return (path,)
    if importlib.util.find_spec("ziglang"):
        return (sys.executable, "-m", "ziglang", "cc")
    raise BuildError("The compiled back end needs a C compiler and none was found; install gcc or clang, or "
                     "`pip install ziglang`.")


def fingerprint(command: tuple[str, ...], dtype: str) -> str:
    """Return a hash of everything that the compiled file depends on: sources, flags, compiler, dtype and processor features."""
    digest = hashlib.sha256()
    for part in (*FLAGS, *command, compiler_version(command), dtype, instructions()):
        digest.update(part.encode() + b"\0")
    for source in sorted(KERNELS.glob("*.[ch]")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


@cache
def compiler_version(command: tuple[str, ...]) -> str:
    """Return the first line of the compiler's `--version`.

    Raises:
        BuildError: the compiler cannot be run.
    """
    try:
        answer = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        problem = f"exit status {error.returncode}" if isinstance(error, subprocess.CalledProcessError) else f"'{error}'"
        raise BuildError(f"The C compiler must run, got {problem} from `{shlex.join(command)} --version`; repair it or set CC "
                         "to another one.") from error
    return answer.stdout.partition("\n")[0]


def instructions() -> str:
    """Return text that identifies the processor's features, on which code compiled with `-march=native` depends.

    The text enters the hash that names a compiled file in the cache. Machines that share a home folder, and thus the cache, may
    have different processors.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.machine() + platform.processor()
    return "\n".join(sorted({line for line in lines if line.startswith(("flags", "model name", "Features", "CPU part"))}))


def cache_folder() -> Path:
    """Return the folder for compiled files. Only the current user can write to it.

    The folder is rampart/kernels in XDG_CACHE_HOME (by default ~/.cache). If that folder cannot be used, a folder in the system's
    temporary folder is returned instead.

    Raises:
        BuildError: neither folder can be used.
    """
    with suppress(RuntimeError):  # a user without a home folder
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rampart" / "kernels"
        if is_private(folder):
            return folder
    with suppress(OSError):  # no temporary folder
        folder = Path(tempfile.gettempdir()) / f"rampart-kernels-{os.getuid()}"
        if is_private(folder):
            return folder
    raise BuildError("The compiled kernels need a folder that only this user can write to, and neither ~/.cache nor the "
                     "temporary folder is one; set XDG_CACHE_HOME to such a folder.")


def is_private(folder: Path) -> bool:
    """Return True if only the current user can write to the folder. The folder is created if necessary.

    The check is needed because the files in the folder are loaded and run.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = folder.stat()
    except OSError:
        return False
    return os.access(folder, os.W_OK) and status.st_uid == os.getuid() and not status.st_mode & 0o022


def whole_file(folder: Path, name: str) -> Path | None:
    """Return the intact compiled file whose name begins with `name`, or None if there is none.

    The name of a file ends with a digest of the file's contents, so a damaged file can be recognised. Damaged files are deleted,
    because loading one may crash the process.
    """
    for path in folder.glob(f"{name}-*.so"):
        with suppress(OSError):
            if path.stem.endswith(f"-{contents(path)}"):
                return path
            path.unlink()
    return None


def contents(path: Path) -> str:
    """Return a hash of a file's contents. The hash is part of the file's name (see `whole_file`)."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def compile_to(folder: Path, name: str, command: tuple[str, ...], dtype: str) -> Path:
    """Compile the kernels to a file in `folder` and return its path.

    The file's name is `name` followed by the digest of the contents, as `whole_file` expects. The file gets this name only when
    it is complete, even if several processes compile at once.

    Raises:
        BuildError: the compiler failed; the message quotes its first error.
    """
    real, integer = ELEMENTS[dtype]
    # By default, zig also writes intermediate files to the current folder.
    folders = {variable: str(folder / "zig") for variable in ("ZIG_LOCAL_CACHE_DIR", "ZIG_GLOBAL_CACHE_DIR")}
    partial = None
    try:
        handle, partial = tempfile.mkstemp(".part", "cell-", folder)
        os.close(handle)
        arguments = [*command, *FLAGS, f"-DREAL={real}", f"-DINTEGER={integer}", *map(str, sorted(KERNELS.glob("*.c"))), "-o",
                     partial, "-lm"]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=SECONDS, env=os.environ | folders)
        if done.returncode:
            first = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip()[:200])
            raise BuildError(f"The C compiler `{shlex.join(command)}` failed on the kernels: {first}; set CC to another one.")
        return Path(partial).replace(folder / f"{name}-{contents(Path(partial))}.so")
    except (OSError, subprocess.SubprocessError) as error:
        raise BuildError(f"The kernels could not be compiled with `{shlex.join(command)}`: {error}; set CC to another "
                         "compiler.") from error
    finally:
        if partial is not None:
            Path(partial).unlink(missing_ok=True)


if __name__ == "__main__":  # run by `make setup`, so that the first search need not wait for the compiler
    print(unavailable() or f"The search kernels are compiled ({compiler_version(compiler())}).")
