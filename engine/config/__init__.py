"""Settings of the three run kinds as pydantic classes: defaults, bounds, help and source in one place.

Forms, command-line flags and `run.json` are all derived from these classes. A default is the published setting wherever a
field names its source; what a dataset or a preset changes is laid over it by `build`. Imports no torch.
"""

from engine.config.fields import (
    Pixels,
    WidthRatio,
    is_pixels,
    normalisation,
    parse_pixels,
    pixels_text,
    placement_setting,
    setting,
    width_ratio_setting,
)
from engine.config.run import PRESETS, RunConfig
from engine.config.search import METHODS, Method, SearchConfig
from engine.config.retrain import RetrainConfig, network_values
from engine.config.attack import AttackConfig
from engine.config.building import (
    Difference,
    build,
    config_class,
    differences_from_paper,
    preset_values,
    published_values,
    recorded,
    validate,
)
from engine.run.folder import KINDS
from engine.search.registries import OBJECTIVES, WEIGHTINGS
from engine.search import methods as _methods  # noqa: F401  (methods register themselves; they need what stands above)

__all__ = [
    "KINDS",
    "METHODS",
    "OBJECTIVES",
    "PRESETS",
    "WEIGHTINGS",
    "AttackConfig",
    "Difference",
    "Method",
    "Pixels",
    "RetrainConfig",
    "RunConfig",
    "SearchConfig",
    "WidthRatio",
    "build",
    "config_class",
    "differences_from_paper",
    "is_pixels",
    "network_values",
    "normalisation",
    "parse_pixels",
    "pixels_text",
    "placement_setting",
    "preset_values",
    "published_values",
    "recorded",
    "setting",
    "validate",
    "width_ratio_setting",
]
