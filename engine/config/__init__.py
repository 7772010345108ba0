"""Settings of the three kinds of run (search, retraining and attack) as pydantic classes.

A class declares the default, bounds, help text and source of each setting. Forms, command-line options and `run.json` are derived
from these classes. If a setting names a source (paper or code), its default is the published value. `engine.configuring` replaces
defaults with the values of datasets and presets. Imports no torch.
"""

from engine.config.attack import AttackConfig
from engine.config.fields import (
    Pixels,
    PositivePixels,
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
    "PositivePixels",
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
