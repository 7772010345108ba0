"""The interface of networks that are chosen by name instead of built from a genotype. Does not import torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from engine.architecture.cost import Cost

if TYPE_CHECKING:
    from torch import nn

NAME_KEY = "hand_made"  # key of a network's name in results/network.json and in events


@dataclass(frozen=True)
class NamedNetwork(ABC):
    """A network without cells, chosen by name, for the images and classes of one dataset.

    Attributes:
        classes: number of classes.
        image_shape: (channels, height, width) of an image.
        OFFERED: names listed on pages and in help texts.
        FORMS: all possible names in words, for example "resnet-18 or wide-resnet-N-K".
    """

    classes: int
    image_shape: tuple[int, int, int]

    OFFERED: ClassVar[tuple[str, ...]]
    FORMS: ClassVar[str]

    @classmethod
    @abstractmethod
    def recognises(cls, text: str) -> bool:
        """Return True if a text looks like a name of this kind of network, even if no network has that name."""

    @classmethod
    @abstractmethod
    def from_name(cls, text: str, classes: int, image_shape: Sequence[int]) -> Self | None:
        """Return the network with the name `text`, or None if the text is not a name of this kind of network.

        Raises:
            ConfigError: the text is such a name, but specifies sizes that no network can have.
        """

    @property
    @abstractmethod
    def name(self) -> str:
        """Name in settings and files, for example "wide-resnet-28-10"."""

    @property
    @abstractmethod
    def title(self) -> str:
        """Display name, for example "WRN-28-10"."""

    @property
    @abstractmethod
    def source(self) -> str:
        """Paper that describes the network, and its arXiv number."""

    @property
    @abstractmethod
    def description(self) -> str:
        """Sentence that describes how the network is built."""

    @property
    def width(self) -> float | None:
        """Width of the network in the unit of `widths`; None if the network has a fixed size."""
        return None

    @property
    def widths(self) -> Sequence[float]:
        """All widths that the network can have, ascending; empty if it has a fixed size."""
        return ()

    def at_width(self, width: float) -> Self:
        """Return a copy of the network with the given width, which must be one of `widths`.

        A network of fixed size is returned unchanged.
        """
        return self

    @property
    def width_setting(self) -> dict[str, Any]:
        """The setting that makes a retraining train a network of this width, as {name of the setting: value}.

        It is the setting `network`, because the name of a network contains the width.
        """
        return {"network": self.name}

    @abstractmethod
    def cost(self, *, auxiliary: bool = False) -> Cost:
        """Return the numbers of parameters and MACs, counted as in `engine.architecture.cost`.

        Args:
            auxiliary: has no effect, because named networks have no auxiliary head.

        Raises:
            ConfigError: no network can have these sizes.
        """

    @abstractmethod
    def build(self, *, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> nn.Module:
        """Build the network as a module, with fresh weights from torch's global generator.

        Args:
            mean: one number per image channel, which the network subtracts from pixels in 0..1; None for 0.
            std: one number per image channel, by which the network then divides; None for 1.
        """

    def to_dict(self) -> dict[str, Any]:
        """Return the content of results/network.json."""
        return {NAME_KEY: self.name, "classes": self.classes, "image_shape": list(self.image_shape)}
