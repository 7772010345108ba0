"""Compilation and loading of the empty CUDA device. Imports torch only after the device is loaded."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

SOURCE = Path(__file__).with_name("device.cpp")
COMPILER = shutil.which("g++") or shutil.which("clang++")


def compiled(folder: Path) -> Path:
    """Compile the device into a folder and return the library's path. Needs `COMPILER`; takes a few seconds.

    Raises:
        CalledProcessError: the compiler refuses the source.
    """
    library = folder / f"fake-cuda-{version('torch')}.so"
    found = find_spec("torch")
    assert found is not None and found.origin is not None and COMPILER is not None
    torch = Path(found.origin).parent
    subprocess.run([COMPILER, "-O1", "-shared", "-fPIC", "-std=c++20", f"-I{torch}/include",
                    f"-I{torch}/include/torch/csrc/api/include", str(SOURCE), "-o", str(library), f"-L{torch}/lib",
                    "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{torch}/lib"], check=True, capture_output=True, text=True)
    return library


def load(library: Path) -> None:
    """Load the device into this process, for good. Call it before torch is imported."""
    ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
