"""An iterated attack that divides its images among several pools, which run at the same time in lanes (threads)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from engine.attack.walk import Attacked, Pool
from engine.lanes import Lanes

EVALUATIONS_PER_STEP = 25  # of the network in one step of a pool


class Pools:
    """An attack on many images in one or several pools (`Pool`).

    The result for an image does not depend on the number of pools, except for rounding. An attack that is interrupted, and
    restored from `state_dict`, has the same results bit by bit.

    Example:
        pools = Pools(pool_of, images=1000, count=2)
        while not pools.over:
            pools.step(Lanes(2))
            for batch in pools.finished():
                ...
    """

    def __init__(self, pool_of: Callable[[Tensor], Pool], images: int, count: int = 1) -> None:
        """Divide the images among the pools; nothing runs yet.

        Args:
            pool_of: function from positions of images, int64 [n] on the CPU, to a new pool that attacks these images.
            images: number of images.
            count: number of pools, at least 1. There are no more pools than images.
        """
        self._pool_of, self._images = pool_of, images
        self._finished: list[list[Attacked]] = []
        self._divide(count)

    @property
    def over(self) -> bool:
        """True if the attack on every image has ended."""
        return all(pool.over for pool in self._pools)

    @property
    def active_iterations(self) -> int:
        """The number of network evaluations spent so far on images whose attack has begun, but which `finished` has not yielded.

        While the pools run in lanes, another thread may read this property, and it never decreases.
        """
        return sum(pool.evaluations for pool in self._pools) - self._spent

    @property
    def pass_seconds(self) -> float:
        """CPU seconds spent so far in passes of the network. Passes that overlap in two lanes count more than once."""
        return sum(pool.pass_seconds for pool in self._pools)

    def step(self, lanes: Lanes | None = None) -> None:
        """Let every pool evaluate the network `EVALUATIONS_PER_STEP` times, or until its attack is over.

        If an evaluation raises, the next call does the rest of the step.

        Args:
            lanes: threads in which several pools run; None to run them one after the other in the calling thread.
        """
        if len(self._pools) == 1:  # a single pool uses all of torch's threads
            self._go_on(0)
        else:
            with lanes or Lanes() as beside:
                beside.side_by_side(*(partial(self._go_on, number) for number in range(len(self._pools))))
        self._left = [EVALUATIONS_PER_STEP] * len(self._pools)

    def finished(self) -> Iterator[list[Attacked]]:
        """Yield the images whose attack has ended since the last call, as lists of those that left a pool together.

        A list is dropped only when the next one is requested, so that no image is lost if the caller fails. The lists do not
        depend on interruptions, but their order may.
        """
        while self._finished:
            yield self._finished[0]
            self._spent += sum(one.iterations for one in self._finished.pop(0))

    def state_dict(self) -> dict[str, Any]:
        """Return everything that is needed to continue the attack later, except the images that `finished` has not yielded."""
        return {"pools": [pool.state_dict() for pool in self._pools], "left": list(self._left)}

    def load_state_dict(self, content: Mapping[str, Any]) -> None:
        """Restore the content that `state_dict` returned, with its number of pools.

        The content of a single `Pool`, as older checkpoints have it, is restored as one pool.
        """
        saved = content.get("pools", [content])
        self._divide(len(saved))
        self._finished.clear()
        for pool, state in zip(self._pools, saved, strict=True):
            pool.load_state_dict(state)
        self._left = list(content.get("left", self._left))

    def _divide(self, count: int) -> None:
        count = max(min(count, self._images), 1)
        # Neighbours go to different pools, so that all pools take about as long if the images are sorted in any way.
        self._positions = [torch.arange(number, self._images, count) for number in range(count)]
        self._pools = [self._pool_of(positions) for positions in self._positions]
        self._left, self._spent = [EVALUATIONS_PER_STEP] * count, 0

    def _go_on(self, number: int) -> None:
        """Finish the current step of one pool."""
        pool, positions = self._pools[number], self._positions[number]
        while self._left[number] and not pool.over:
            attacked = pool.step()
            if attacked:
                self._finished.append([replace(one, position=int(positions[one.position])) for one in attacked])
            self._left[number] -= 1
