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
from contextlib import suppress
from functools import cache
from pathlib import Path

KERNELS = Path(__file__).parent / "kernels"
# Same numbers as the C standard's but for fused multiply-adds; NaN and infinity keep their meaning.
FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared")
ELEMENTS = {"float32": ("float", "int32_t"), "float64": ("double", "int64_t")}
SECONDS = 180  # that a compiler may take
SWITCH = "RAMPART_KERNELS"  # environment variable: "off" computes with the plain back ends


class BuildError(Exception):
    """The kernels cannot be had here; the message is one sentence that says why and what to do."""


@cache
def library(dtype: str) -> ctypes.CDLL:
    """The compiled kernels for "float32" or "float64"; built, or found in the cache.

    Raises:
        BuildError: no compiler, or one that fails.
    """
    if os.environ.get(SWITCH) == "off":
        raise BuildError(f"The compiled back end is switched off by {SWITCH}=off in the environment; unset it.")
    if os.name != "posix":
        raise BuildError(f"The compiled back end needs Linux or macOS, got {platform.system()}; the plain one runs.")
    command, folder = compiler(), cache_folder()
    name = f"cell-{fingerprint(command, dtype)}"
    path = whole_file(folder, name) or compile_to(folder, name, command, dtype)
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise BuildError(f"The compiled kernels in {path} must load, got '{error}'; delete the file and try again.") from error


@cache
def unavailable(dtype: str = "float32") -> str | None:
    """Why the kernels cannot be used on this machine, in a sentence; None when they can."""
    try:
        library(dtype)
    except BuildError as error:
        return str(error)
    return None


def compiler() -> tuple[str, ...]:
    """The compiler's command.

    Raises:
        BuildError: none was found.
    """
    try:
        chosen = tuple(shlex.split(os.environ.get("CC", "")))
    except ValueError as error:
        raise BuildError(f"The environment variable CC must be a command, got {os.environ['CC']!r} ({error}); set it to the name "
                         "of a C compiler.") from error
    if chosen and shutil.which(chosen[0]):
        return chosen
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
    for source in sorted(KERNELS.glob("*.[ch]")):
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
        problem = f"exit status {error.returncode}" if isinstance(error, subprocess.CalledProcessError) else f"'{error}'"
        raise BuildError(f"The C compiler must run, got {problem} from `{shlex.join(command)} --version`; repair it or set CC "
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
    """Where compiled files are kept: ~/.cache/rampart/kernels, or a temporary folder of this user where that is not writable.

    Raises:
        BuildError: neither can be used.
    """
    with suppress(RuntimeError):  # a user without a home folder
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rampart" / "kernels"
        if is_private(folder):
            return folder
    with suppress(OSError):  # no temporary folder
        folder = Path(tempfile.gettempdir()) / f"rampart-kernels-{os.getuid()}"
        if is_private(folder):
            return folder
    raise BuildError("The compiled kernels need a folder to be kept in, and neither ~/.cache nor the temporary folder can be "
                     "written by this user alone; set XDG_CACHE_HOME to one that can.")


def is_private(folder: Path) -> bool:
    """Whether this user, and nobody else, can put files into the folder, since they are loaded and run. Makes it if need be."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = folder.stat()
    except OSError:
        return False
    return os.access(folder, os.W_OK) and found.st_uid == os.getuid() and not found.st_mode & 0o022


def whole_file(folder: Path, name: str) -> Path | None:
    """The compiled file of that name, if there is one and it holds what was written to it.

    A file's name ends with the digest of its contents. Loading a damaged one may end the process, so it is deleted.
    """
    for path in folder.glob(f"{name}-*.so"):
        with suppress(OSError):
            if path.stem.endswith(f"-{contents(path)}"):
                return path
            path.unlink()
    return None


def contents(path: Path) -> str:
    """Digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def compile_to(folder: Path, name: str, command: tuple[str, ...], dtype: str) -> Path:
    """Compiles the kernels to a file in `folder`, see `whole_file`; whole or not at all, also with several at it.

    Raises:
        BuildError: the compiler failed; the message holds its first error.
    """
    real, integer = ELEMENTS[dtype]
    # zig keeps intermediate files, by default also in the current folder.
    folders = {variable: str(folder / "zig") for variable in ("ZIG_LOCAL_CACHE_DIR", "ZIG_GLOBAL_CACHE_DIR")}
    partial = None
    try:
        handle, partial = tempfile.mkstemp(".part", "cell-", folder)
        os.close(handle)
        arguments = [*command, *FLAGS, f"-DREAL={real}", f"-DINTEGER={integer}", str(KERNELS / "cell.c"), "-o", partial, "-lm"]
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


if __name__ == "__main__":  # `make setup`: a first search should not have to wait for the compiler
    print(unavailable() or f"The search kernels are compiled ({compiler_version(compiler())}).")
