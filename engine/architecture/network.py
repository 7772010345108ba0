"""Networks as values: a network built from a genotype, or a network chosen by name. Does not import torch.

Both kinds are frozen dataclasses with `title`, `classes`, `image_shape`, `cost()`, `build()` and `to_dict()`. To add a kind of
network that is chosen by name, subclass `NamedNetwork` in a new file and list the class in `NAMED_KINDS`. Results, run log,
settings and pages then support the new kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from engine.architecture.cost import Cost, cost
from engine.architecture.genotype import DERIVED, Genotype
from engine.architecture.hand_made import HandMadeNetwork
from engine.architecture.named import NAME_KEY, NamedNetwork
from engine.architecture.placement import needs_even_channels
from engine.errors import ConfigError, shortened

if TYPE_CHECKING:
    from torch import nn


CHANNELS = range(2, 1025)  # values of RetrainConfig.channels; derived networks may have odd numbers


@dataclass(frozen=True)
class DerivedNetwork:
    """A network built from a genotype.

    Attributes:
        genotype: the architecture.
        channels: C, the width of the first cells.
        layers: number of cells, at least 3.
        classes: number of classes.
        image_shape: (channels, height, width) of an image.
        placement: name of the rule that gives the cell kind at each position; "" for the rule published for the genotype's cell
            kinds.
        width_ratio: relative widths of the first, middle and last third of the network, such as "1:2:4"; "" for the published
            ratio.
        auxiliary: True if the network has the auxiliary head, which only training uses.
        name: display name of the genotype, for example "ARNAS"; "" if it has none.
    """

    genotype: Genotype
    channels: int
    layers: int
    classes: int
    image_shape: tuple[int, int, int]
    placement: str = ""
    width_ratio: str = ""
    auxiliary: bool = False
    name: str = field(default="", compare=False)

    @property
    def title(self) -> str:
        """The name of the genotype, or "genotype" followed by its hash if it has no name."""
        return self.name or f"genotype {self.genotype.hash}"

    @property
    def sizes(self) -> dict[str, Any]:
        """The keyword arguments of `engine.architecture.cost.cost` for this network, except `auxiliary`."""
        return {"channels": self.channels, "layers": self.layers, "classes": self.classes, "image_shape": self.image_shape,
                "placement": self.placement, "width_ratio": self.width_ratio}

    @property
    def widths(self) -> Sequence[int]:
        """All numbers of channels that the network can have, ascending."""
        return CHANNELS[::2] if self.width_ratio and needs_even_channels(self.width_ratio) else CHANNELS

    def at_width(self, width: float) -> DerivedNetwork:
        """Return a copy of the network with `width` channels. `width` must be one of `widths`."""
        return replace(self, channels=int(width))

    @property
    def width_setting(self) -> dict[str, Any]:
        """The setting that makes a retraining train a network of this width, as {"channels": number of channels}."""
        return {"channels": self.channels}

    def cost(self, *, auxiliary: bool = False) -> Cost:
        """Return the numbers of parameters and MACs.

        Args:
            auxiliary: True to count the auxiliary head if the network has one. Published sizes exclude this head.

        Raises:
            ConfigError: no network can have these sizes, or the placement is for other cell kinds.
        """
        return cost(self.genotype, **self.sizes, auxiliary=auxiliary and self.auxiliary)

    def build(self, *, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> nn.Module:
        """Build the network as a module, with fresh weights from torch's global generator.

        Args:
            mean: one number per image channel, which the network subtracts from pixels in 0..1; None for 0.
            std: one number per image channel, by which the network then divides; None for 1.
        """
        module: nn.Module = import_module("engine.space.network").Network(
            self.genotype, **self.sizes, auxiliary=self.auxiliary, mean=mean, std=std)
        return module

    def to_dict(self) -> dict[str, Any]:
        """Return the content of results/network.json."""
        return {"genotype": self.genotype.to_dict(), **self.sizes, "image_shape": list(self.image_shape),
                "auxiliary": self.auxiliary}


Network = DerivedNetwork | NamedNetwork
NAMED_KINDS: tuple[type[NamedNetwork], ...] = (HandMadeNetwork,)
OFFERED = tuple(name for kind in NAMED_KINDS for name in kind.OFFERED)
FORMS = "; ".join(kind.FORMS for kind in NAMED_KINDS)


def is_named(text: str) -> bool:
    """Return True if a text looks like the name of a network, even if no network has that name."""
    return any(kind.recognises(text) for kind in NAMED_KINDS)


def named_network(text: str, classes: int = 10, image_shape: Sequence[int] = (3, 32, 32)) -> NamedNetwork:
    """Return the network with this name, for the given images and classes.

    Raises:
        ConfigError: no network has this name.
    """
    for kind in NAMED_KINDS:
        network = kind.from_name(text, classes, image_shape)
        if network is not None:
            return network
    raise ConfigError(problems={"network": f"network must be {DERIVED}, {FORMS}, got {shortened(text)}; give one of them, for "
                                           f"example {OFFERED[2]}."})


def network_name(text: str) -> str:
    """Return the canonical value of the setting `network`: "derived" or the name of a network.

    Raises:
        ConfigError: the text is neither "derived" nor the name of a network.
    """
    return DERIVED if text.strip().lower() == DERIVED else named_network(text).name


def network_from_dict(content: Mapping[str, Any]) -> Network:
    """Return the network that the content of results/network.json describes.

    Raises:
        ConfigError: the content describes no network.
        GenotypeError: the genotype in it is not valid.
    """
    try:
        images = {"classes": content["classes"], "image_shape": tuple(content["image_shape"])}
        if NAME_KEY in content:
            return named_network(str(content[NAME_KEY]), **images)
        sizes = {name: value for name, value in content.items() if name != "genotype"}
        return DerivedNetwork(Genotype.from_dict(content.get("genotype")), **sizes | images)
    except (KeyError, TypeError) as problem:
        raise ConfigError(f"results/network.json must have genotype, channels, layers, classes and image_shape, or {NAME_KEY}, "
                          f"classes and image_shape, and it does not ({problem}); restore the file.") from None


def resized(network: Network, classes: int, image_shape: Sequence[int]) -> Network:
    """Return a copy of the network with the given number of classes and image shape (channels, height, width)."""
    channels, height, width = image_shape
    return replace(network, classes=classes, image_shape=(channels, height, width))
