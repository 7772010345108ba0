"""The surface of networks that are chosen by name. Imports no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from engine.architecture.cost import Cost

if TYPE_CHECKING:
    from torch import nn

NAME_KEY = "hand_made"  # in results/network.json and in events


@dataclass(frozen=True)
class NamedNetwork(ABC):
    """A network without cells, chosen by name, for the images and classes of one dataset.

    Attributes:
        classes: number of classes.
        image_shape: (channels, height, width).
        OFFERED: names that pages and help texts list.
        FORMS: all names in words, for example "resnet-18 or wide-resnet-N-K".
    """

    classes: int
    image_shape: tuple[int, int, int]

    OFFERED: ClassVar[tuple[str, ...]]
    FORMS: ClassVar[str]

    @classmethod
    @abstractmethod
    def recognises(cls, text: str) -> bool:
        """Return True if a text is meant as a name of this kind, whether or not such a network exists."""

    @classmethod
    @abstractmethod
    def from_name(cls, text: str, classes: int, image_shape: Sequence[int]) -> Self | None:
        """Return the network of a name; None for a text that is not a name of this kind.

        Raises:
            ConfigError: a name of this kind with sizes that no network can have.
        """

    @property
    @abstractmethod
    def name(self) -> str:
        """As in settings and files."""

    @property
    @abstractmethod
    def title(self) -> str:
        """As in print."""

    @property
    @abstractmethod
    def source(self) -> str:
        """Paper and arXiv number."""

    @property
    @abstractmethod
    def description(self) -> str:
        """One sentence on how the network is built."""

    @abstractmethod
    def cost(self, *, auxiliary: bool = False) -> Cost:
        """Return parameters and MACs, counted as in `engine.architecture.cost`.

        Args:
            auxiliary: no effect; these networks have no auxiliary head.

        Raises:
            ConfigError: sizes no network can have.
        """

    @abstractmethod
    def build(self, *, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> nn.Module:
        """Return the module with fresh weights from torch's global generator.

        Args:
            mean, std: per image channel in pixels 0..1, subtracted and divided by inside the network; None for none.
        """

    def to_dict(self) -> dict[str, Any]:
        """Return the content of results/network.json."""
        return {NAME_KEY: self.name, "classes": self.classes, "image_shape": list(self.image_shape)}
