"""The class and the supernet of a method, from its name and configuration."""

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
    """Import the class of a registered method, an `engine.search.method.SearchMethod`.

    Raises:
        ConfigError: there is no such method.
    """
    module, _, name = METHODS[method].implementation.partition(":")
    return getattr(import_module(module), name)


def supernet_of(method: str, config: SearchConfig, *, classes: int, image_shape: Sequence[int],
                statistics: ChannelStatistics | None = None) -> Supernet:
    """Build the supernet of a method with the fastest back ends it can use.

    Its cell kinds are those of the configuration's position rule. Where they are the method's own, they keep the method's order
    of the alphas.

    Args:
        method: registry name.
        config: of that method.
        classes, image_shape: of the dataset, image_shape as (channels, height, width).
        statistics: mean and standard deviation that normalise images; None for images that stay in 0..1.

    Raises:
        ConfigError: sizes no supernet can have.
    """
    implementation = method_class(method)
    mean, std = statistics or (None, None)
    kinds = RULES[config.placement].kinds
    if sorted(kinds) == sorted(implementation.cell_kinds):
        kinds = implementation.cell_kinds
    return Supernet(kinds=kinds, primitives=implementation.primitives, channels=config.channels, layers=config.layers,
                    classes=classes, image_shape=image_shape, placement=config.placement, width_ratio=config.width_ratio,
                    mean=mean, std=std, **config.supernet_settings())
