"""A toy network: a linear classifier of pixels. Imports no torch until it is built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, ClassVar

from engine.architecture.cost import Cost, linear_cost
from engine.architecture.named import NamedNetwork

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ToyNetwork(NamedNetwork):
    """A linear classifier for the images and classes of one dataset."""

    OFFERED: ClassVar[tuple[str, ...]] = ("toy",)
    FORMS: ClassVar[str] = "toy"
    name: ClassVar[str] = "toy"
    title: ClassVar[str] = "Toy network"
    source: ClassVar[str] = "A test"
    description: ClassVar[str] = "One linear layer on all pixels."

    @classmethod
    def recognises(cls, text: str) -> bool:
        """Return True for the name of this kind."""
        return text.strip().lower() == cls.name

    @classmethod
    def from_name(cls, text: str, classes: int, image_shape: Sequence[int]) -> ToyNetwork:
        """Return the network; its name has no parts to read."""
        channels, height, width = image_shape
        return cls(classes, (channels, height, width))

    def cost(self, *, auxiliary: bool = False) -> Cost:
        """Return parameters and MACs.

        Args:
            auxiliary: no effect; there is no auxiliary head.
        """
        return linear_cost(prod(self.image_shape), self.classes)

    def build(self, *, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> nn.Module:
        """Return the module with fresh weights from torch's global generator.

        Args:
            mean, std: no effect; the linear layer represents any shift and scale of the pixels itself.
        """
        from torch import nn

        return nn.Sequential(nn.Flatten(), nn.Linear(prod(self.image_shape), self.classes))
