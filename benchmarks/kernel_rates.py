"""Measure how fast the inner loops of the compiled kernels are in C and in numba. The result is why the kernels are written in C.

    python -m benchmarks.kernel_rates                  # with the engine's C compiler; CC=... for another
    pip install numba==0.68.1                          # optional, not among our requirements: adds the numba rows

The loops apply 5x5 kernels to rows of feature maps with sizes from a search:

* 24 channels at 32x32, batch 8
* 48 channels at 16x16, batch 8
* 8 channels at 8x8, batch 64

"depthwise" is the loop for stride 1 (kernels/windows.h), "depthwise-by-taps" the one for every other shape (kernels/taps.h).

Times are CPU times of one thread in float32, with all data in the cache. A 512 x 512 matrix product of PyTorch (MKL) shows the
peak rate of the machine. In numba (with fastmath), each loop is written in two ways: one result at a time, and several results at
a time. The faster way counts.
"""

from __future__ import annotations

import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from engine.space.compiled.build import ELEMENTS, FLAGS, KERNELS, compiler, compiler_version

ROWS = ((24, 32, 8), (48, 16, 8), (8, 8, 64))  # channels, width, batch
REPETITIONS = 20_000


def c_rates() -> dict[tuple[int, int, int], dict[str, float]]:
    """Return {(channels, width, batch): {loop: rate}} for C. Rates are in 1e9 operations per second."""
    real, integer = ELEMENTS["float32"]
    with tempfile.TemporaryDirectory() as folder:
        program = str(Path(folder) / "rates")
        flags = [flag for flag in FLAGS if flag not in ("-shared", "-fPIC")]
        subprocess.run([*compiler(), *flags, f"-DREAL={real}", f"-DINTEGER={integer}", f"-I{KERNELS}",
                        str(Path(__file__).with_suffix(".c")), "-o", program, "-lm"], check=True)
        rates = {}
        for row in ROWS:
            answer = subprocess.run([program, *map(str, row), str(REPETITIONS)], check=True, capture_output=True, text=True)
            rates[row] = {name: float(rate) for name, rate in map(str.split, answer.stdout.splitlines())}
    return rates


def numba_rates() -> dict[tuple[int, int, int], dict[str, float]]:
    """Return the rates for numba in the same form as `c_rates`, or {} if numba is not installed."""
    try:
        import numba
    except ImportError:
        return {}

    def taps_plain(out, source, offsets, weights, n):
        for i in range(n):
            out[i] = 0
        for t in range(offsets.size):
            at, w = offsets[t], weights[t]
            for i in range(n):
                out[i] += w * source[at + i]

    def taps_blocked(out, source, offsets, weights, n):
        for start in range(0, n, 64):
            total = np.zeros(64, np.float32)
            for t in range(offsets.size):
                at, w = offsets[t] + start, weights[t]
                for i in range(64):
                    total[i] += w * source[at + i]
            out[start:start + 64] = total

    def product_plain(y, a, x):
        for o in range(a.shape[0]):
            y[o] = 0
            for k in range(a.shape[1]):
                w = a[o, k]
                for i in range(x.shape[1]):
                    y[o, i] += w * x[k, i]

    def product_of_four(y, a, x):
        for o in range(0, a.shape[0], 4):
            for i in range(x.shape[1]):
                s0 = s1 = s2 = s3 = np.float32(0)
                for k in range(a.shape[1]):
                    v = x[k, i]
                    s0 += a[o, k] * v
                    s1 += a[o + 1, k] * v
                    s2 += a[o + 2, k] * v
                    s3 += a[o + 3, k] * v
                y[o, i], y[o + 1, i], y[o + 2, i], y[o + 3, i] = s0, s1, s2, s3

    def repeated(function: Callable[..., None], operations: float, *arguments: object) -> float:
        compiled = numba.njit(fastmath=True)(function)

        @numba.njit
        def repeat(repetitions, *arguments):
            for _ in range(repetitions):
                compiled(*arguments)

        repeat(2, *arguments)
        start = time.process_time()
        repeat(REPETITIONS // 10, *arguments)
        return operations * (REPETITIONS // 10) / (time.process_time() - start) * 1e-9

    rates = {}
    for c, width, batch in ROWS:
        n = width * batch
        offsets = np.array([t % 5 * batch + t // 5 * (n + 4 * batch) for t in range(25)])
        x, a = np.ones((c, n), np.float32), np.ones((c, c), np.float32)
        source, weights = np.ones(5 * (n + 4 * batch), np.float32), np.ones(25, np.float32)
        rates[c, width, batch] = {
            "depthwise": max(repeated(f, 50 * n, x[0].copy(), source, offsets, weights, n) for f in (taps_plain, taps_blocked)),
            "pointwise": max(repeated(f, 2 * c * c * n, x.copy(), a, x) for f in (product_plain, product_of_four))}
    return rates


def peak() -> float:
    """Return the rate of a large matrix product, in 1e9 operations per second."""
    torch.set_num_threads(1)
    a = torch.ones(512, 512)
    a @ a
    start = time.process_time()
    for _ in range(100):
        a @ a
    return 2 * 512**3 * 100 / (time.process_time() - start) * 1e-9


def lines() -> Iterator[str]:
    """Measure all rates and yield the lines of a Markdown table."""
    sides = {f"C, {compiler_version(compiler())}": c_rates(), "numba": numba_rates()}
    names = list(next(iter(sides.values()))[ROWS[0]])
    yield f"1e9 operations per second; `{shlex.join(compiler())}`; a large matrix product runs at {peak():.0f}."
    yield ""
    yield "| channels, width, batch | side | " + " | ".join(names) + " |"
    yield "|---|---|" + "---|" * len(names)
    for row in ROWS:
        for side, rates in sides.items():
            if row in rates:
                cells = (f"{rates[row][name]:.0f}" if name in rates[row] else "" for name in names)
                yield f"| {', '.join(map(str, row))} | {side} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    print("\n".join(lines()))
