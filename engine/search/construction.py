"""Functions that import the class of a search method by its name, and build the supernet for its configuration."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from engine.architecture.placement import RULES
from engine.config import SearchConfig
from engine.data.dataset import ChannelStatistics
from engine.search.methods.registry import METHODS
from engine.space.supernet import Supernet


def method_class(method: str) -> Any:
    """Import and return the class of a registered method.

    The class implements the interface `engine.search.method.SearchMethod`.

    Raises:
        ConfigError: no method has this name.
    """
    module, _, name = METHODS[method].implementation.partition(":")
    return getattr(import_module(module), name)


def supernet_of(method: str, config: SearchConfig, *, classes: int, image_shape: Sequence[int],
                statistics: ChannelStatistics | None = None) -> Supernet:
    """Build the supernet of a method.

    The configured placement (the rule that gives each layer its kind of cell) determines the cell kinds. If the method declares
    the same kinds, the supernet lists them in the order in which the method does.

    Args:
        method: registered name of the method.
        config: configuration of that method.
        classes: number of classes of the dataset.
        image_shape: (channels, height, width) of the dataset's images.
        statistics: mean and standard deviation with which the supernet normalises images; None to leave images in 0..1.

    Raises:
        ConfigError: no supernet can have these sizes.
    """
    implementation = method_class(method)
    mean, std = statistics or (None, None)
    kinds = RULES[config.placement].kinds
    if sorted(kinds) == sorted(implementation.cell_kinds):
        kinds = implementation.cell_kinds
    return Supernet(kinds=kinds, primitives=implementation.primitives, channels=config.channels, layers=config.layers,
                    classes=classes, image_shape=image_shape, placement=config.placement, width_ratio=config.width_ratio,
                    mean=mean, std=std, **config.supernet_settings())
