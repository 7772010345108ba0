"""Two lanes (threads) that compute independent passes of one search step or of one attack at the same time on a CPU.

Each lane uses half of torch's threads. For small tensors, this is faster than one pass at a time with all threads. Measured on
two cores, relative to the time of a search step on one core:

- two lanes: 0.6, or 0.7 without the compiled kernels.
- two threads in each pass: 0.75 to 1.0, and several times as long if another process needs one of the cores.

Lanes can run at the same time because torch and the compiled kernels release Python's lock while they compute. On a CPU,
autograd's backward pass runs in the thread that calls it, so it stays in its lane.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

import torch

LANES = 2


class Abandoned(Exception):
    """The error that ends a lane (one of two threads that compute passes) after the other lane has failed.

    The error never leaves `Lanes.side_by_side`.
    """


class Lanes:
    """The lanes (threads that compute passes) of one step, used as a context manager around all passes of the step.

    With two lanes, every pass uses half of the `threads`, even a pass that runs alone. A pass thus uses one thread both for
    `threads` = 1 and for `threads` = 2, so the results are bit-equal. More threads per pass change the last bits of sums.

    Example:
        with Lanes(torch.get_num_threads()) as lanes:
            first, second = lanes.side_by_side(attack_on_weights_batch, attack_on_alphas_batch)
    """

    def __init__(self, threads: int = 1) -> None:
        """Prepare the lanes, which are two threads that compute independent passes at the same time.

        Args:
            threads: number of torch threads for the whole step; each lane uses half of them. With 1, there are no lanes, and
                functions run one after the other in the calling thread.
        """
        self._threads, self._share = threads, max(1, threads // LANES)
        self._lock = threading.Lock()
        self._failed = False

    @classmethod
    def on(cls, device: torch.device) -> Lanes:
        """Return lanes that share torch's threads of this process on a CPU, and a single lane on another device."""
        return cls(torch.get_num_threads() if device.type == "cpu" else 1)

    @property
    def count(self) -> int:
        """The number of lanes: two, or one if everything runs in the calling thread."""
        return LANES if self.are_two else 1

    @property
    def are_two(self) -> bool:
        """True if there are two lanes (threads that compute at the same time). False if everything runs in the calling thread."""
        return self._threads >= LANES

    def __enter__(self) -> Lanes:
        if self.are_two:
            torch.set_num_threads(self._share)
        return self

    def __exit__(self, *problem: object) -> None:
        if self.are_two:
            torch.set_num_threads(self._threads)

    def side_by_side(self, *functions: Callable[[], Any]) -> list[Any]:
        """Run the functions in two lanes (threads) and return their results in the order of the functions.

        The functions must not depend on each other or draw random numbers. Both lanes have ended when this method returns or
        raises. If one lane fails, the other lane ends when it next enters `turn`, and this method raises the error. If both lanes
        fail, it raises the error of the first lane, with the error of the second lane as context.
        """
        if not self.are_two or len(functions) < LANES:
            return [function() for function in functions]
        # OpenMP and MKL keep a thread count for each thread. A new thread takes over torch's only at its first parallel loop.
        with ThreadPoolExecutor(LANES, "lane", initializer=torch.set_num_threads, initargs=(self._share,)) as threads:
            futures = [threads.submit(self._lane, functions[lane::LANES]) for lane in range(LANES)]
            try:
                wait(futures)
            except BaseException:  # the waiting thread was interrupted: the lanes end soon, and leaving the block waits for them
                self._failed = True
                raise
        problems = [problem for problem in (future.exception() for future in futures)
                    if problem is not None and not isinstance(problem, Abandoned)]
        if problems:
            first, *others = problems
            if others:
                first.__context__ = others[0]
            raise first
        results: list[Any] = [None] * len(functions)
        for lane, future in enumerate(futures):
            results[lane::LANES] = future.result()
        return results

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Hold a lock inside the `with` block, for work that only one lane may do at a time, such as counting a pass.

        Raises:
            Abandoned: the other lane has failed.
        """
        with self._lock:
            if self._failed:
                raise Abandoned
            try:
                yield
            except BaseException:
                # Set before the lock is released, so that the other lane does not call a poll that has raised.
                self._failed = True
                raise

    def _lane(self, functions: Sequence[Callable[[], Any]]) -> list[Any]:
        try:
            return [function() for function in functions]
        except BaseException:
            self._failed = True
            raise
