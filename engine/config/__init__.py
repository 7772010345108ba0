"""Settings of the three run kinds as pydantic classes: defaults, bounds, help and source in one place.

Forms, command-line flags and `run.json` are derived from these classes. A field with a source has the published value as its
default; `engine.configuring` overrides the defaults by the values of datasets and presets. Imports no torch.
"""

from engine.config.attack import AttackConfig
from engine.config.fields import (
    Pixels,
    Setting,
    WidthRatio,
    is_pixels,
    normalisation,
    parse_pixels,
    pixels_text,
    placement_setting,
    setting,
    setting_of,
    width_ratio_setting,
)
from engine.config.retrain import RetrainConfig, network_values
from engine.config.run import KINDS, PRESETS, RunConfig
from engine.config.search import SearchConfig

__all__ = [
    "KINDS",
    "PRESETS",
    "AttackConfig",
    "Pixels",
    "RetrainConfig",
    "RunConfig",
    "SearchConfig",
    "Setting",
    "WidthRatio",
    "is_pixels",
    "network_values",
    "normalisation",
    "parse_pixels",
    "pixels_text",
    "placement_setting",
    "setting",
    "setting_of",
    "width_ratio_setting",
]
