"""The inference latency of a network: the time of a forward pass in evaluation mode, measured in about half a second.

On a CPU, the passes use one thread, however many the run uses, and only the computing time of this thread is counted. So
latencies measured on the same processor can be compared even if other runs kept it busy. The network, torch's random numbers and
the run's number of threads stay unchanged.
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from engine.run.attack_events import BATCH, SINGLE, LatencyMeasured

BATCHES = (SINGLE, BATCH)  # images per pass
WARM_UP = 2  # passes that are not timed
FEWEST, MOST = 3, 200  # timed passes
SECONDS = 0.3  # time for all passes of one batch size
LONGEST_S = 0.25  # a batch whose second pass takes longer is left out, except the first
MOST_GAIN = 4  # largest expected speed-up of a batch over single images, assumed before its first pass


def latencies(network: nn.Module, image_shape: tuple[int, ...], device: str) -> list[LatencyMeasured]:
    """Return the latency of a network for each batch size in `BATCHES`. Batch sizes that take too long are left out.

    Args:
        network: the network, on `device`.
        image_shape: (channels, height, width) of its images.
        device: "cpu" or "cuda:N".
    """
    on_cpu = torch.device(device).type == "cpu"
    hardware = processor() if on_cpu else torch.cuda.get_device_name(device)
    found: list[LatencyMeasured] = []
    with _evaluating(network), _one_thread(), torch.inference_mode():
        for batch in BATCHES:
            if found and found[-1].median_s * batch / found[-1].batch / MOST_GAIN > LONGEST_S:
                break
            # Grey images: the time of a pass does not depend on the pixels.
            images = torch.full((batch, *image_shape), 0.5, device=device)
            times = _timed(partial(network, images), device, longest_s=LONGEST_S if found else math.inf)
            if not times:
                break
            low, median, high = (float(value) for value in np.quantile(times, (0.25, 0.5, 0.75)))
            found.append(LatencyMeasured(batch=batch, median_s=median, low_s=low, high_s=high, repeats=len(times),
                                         device="cpu" if on_cpu else "cuda", hardware=hardware, threads=1))
    return found


def _timed(forward: Callable[[], object], device: str, longest_s: float) -> list[float]:
    """Return the times in seconds of passes after a warm-up, or [] if the second pass takes more than `longest_s` seconds.

    On a GPU, a pass ends when the GPU has finished it.
    """
    def wait() -> None:
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize(device)

    clock = time.thread_time if torch.device(device).type == "cpu" else time.perf_counter
    times: list[float] = []
    begun = time.perf_counter()
    for number in range(WARM_UP + MOST):
        wait()
        start = clock()
        forward()
        wait()
        seconds = clock() - start
        if number == 1 and seconds > longest_s:
            break
        if number >= WARM_UP:
            times.append(seconds)
            if len(times) >= FEWEST and time.perf_counter() - begun > SECONDS:
                break
    return times


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode within a `with` block."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one CPU thread within a `with` block."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def processor() -> str:
    """Return the name of this machine's processor, for example "AMD EPYC 7B13"."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return " ".join((names[0] if names else platform.processor() or platform.machine()).split())
