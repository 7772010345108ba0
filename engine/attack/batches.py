"""A runner for attacks that process a whole batch in one call, such as the attacks of the package torchattacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from engine.attack.walk import Attacked
from engine.lanes import Lanes


class Batches:
    """An attack on many images, one block (group of images) after another, with the interface of `engine.attack.pools.Pools`.

    The random numbers of a block depend only on the number of the block. An interrupted attack can therefore continue at the next
    block.
    """

    def __init__(self, attack: Callable[[Tensor, Tensor], Tensor], images: Callable[[Tensor], Tensor], y: Tensor, *,
                 seed: Callable[[int], int], size: int, iterations: int) -> None:
        """Prepare the attack; nothing runs yet.

        Args:
            attack: function that takes images [n, C, H, W] and labels, int64 [n], and returns adversarial images. It may draw
                from torch's global generator.
            images: function that takes positions, int64 [n] on the CPU, and returns natural images, float32 [n, C, H, W], on the
                device of the network.
            y: labels of all images, int64 [N].
            seed: function that takes the number of a block and returns the seed for its random numbers. A block is a group of
                images that are attacked together.
            size: number of images per block.
            iterations: number of iterations that the attack spends on every image.
        """
        self._attack, self._images, self._y, self._seed = attack, images, y, seed
        self.size, self.iterations, self.next = size, iterations, 0
        self._finished: list[list[Attacked]] = []

    @property
    def over(self) -> bool:
        """True when the last block (group of images) has been attacked."""
        return self.next * self.size >= len(self._y)

    @property
    def active_iterations(self) -> int:
        """Always 0: one call attacks a whole block, so no image is ever partly attacked."""
        return 0

    def step(self, lanes: Lanes | None = None) -> None:
        """Attack the next block of images, if one is left. After an exception, the block can be attacked again.

        Args:
            lanes: not used. A block is attacked in the calling thread, because its random numbers come from a global generator.
        """
        if self.over:
            return
        positions = range(self.next * self.size, min((self.next + 1) * self.size, len(self._y)))
        torch.manual_seed(self._seed(self.next))
        x_adv = self._attack(self._images(torch.tensor(positions)), self._y[positions.start:positions.stop]).detach()
        self.next += 1
        self._finished.append([Attacked(position, False, image, 0.0, self.iterations)
                               for position, image in zip(positions, x_adv, strict=True)])

    def finished(self) -> Iterator[list[Attacked]]:
        """Yield the images of the blocks that have been attacked since the last call, one list per block.

        Only the position, the adversarial image and the iterations are meaningful: `fell` is always False and `margin` always 0.
        """
        while self._finished:
            yield self._finished[0]
            self._finished.pop(0)

    def state_dict(self) -> dict[str, Any]:
        """Return {"next": number of the next block of images}."""
        return {"next": self.next}

    def load_state_dict(self, content: Mapping[str, Any]) -> None:
        """Continue at the block of images whose number `state_dict` has saved."""
        self.next = int(content["next"])
