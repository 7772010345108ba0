"""From names and changes to a validated configuration, and what of it is not the published value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from engine.config.attack import AttackConfig
from engine.config.retrain import RetrainConfig, network_values
from engine.config.run import RunConfig
from engine.config.search import METHODS, SearchConfig
from engine.data import DATASETS, Dataset
from engine.data.splits import split_sizes
from engine.errors import ConfigError
from engine.registry import unknown_name
from engine.residual import DERIVED
from engine.run.folder import KINDS


def config_class(kind: str, method: str | None = None) -> type[RunConfig]:
    """The configuration class of a run kind (and, for searches, of a method).

    Raises:
        ConfigError: unknown kind or method.
    """
    if kind == "search":
        return METHODS[method or ""].config
    if kind not in KINDS:
        raise ConfigError(unknown_name("run kind", kind, KINDS))
    return RetrainConfig if kind == "retrain" else AttackConfig


def preset_values(kind: str, method: str | None, dataset: str, preset: str) -> dict[str, Any]:
    """The values of a preset: published defaults, then the dataset's own, then the preset's.

    Raises:
        ConfigError: unknown kind, method, dataset or preset.
    """
    cls = config_class(kind, method)
    facts = DATASETS[dataset]
    if preset not in cls.presets:
        raise ConfigError(unknown_name("preset", preset, cls.presets))
    values = {name: info.default for name, info in cls.model_fields.items()}
    values |= _of_dataset(cls, facts)
    values |= cls.presets[preset]
    if preset == "quick":
        values |= {name: value for name, value in facts.quick.items() if name in cls.model_fields}
    # A preset's number of images is meant for large test splits: a smaller one is attacked as a whole.
    if (values.get("autoattack_images") or 0) > split_sizes(facts)["test"]:
        values["autoattack_images"] = None
    return values


def _of_dataset(cls: type[RunConfig], facts: Dataset) -> dict[str, Any]:
    """The values that a dataset asks for, of the fields that the class has."""
    asked = {"dataset": facts.name, "epsilon": facts.epsilon, "step_size": facts.step_size, **facts.defaults}
    if facts.step_size is None:
        del asked["step_size"]
    if "cutout" in cls.model_fields and not cls.model_fields["cutout"].default:
        asked.pop("cutout", None)  # a dataset says how large the square is, a method whether there is one
    if issubclass(cls, RetrainConfig):
        asked |= facts.retraining
    return {name: value for name, value in asked.items() if name in cls.model_fields}


def build(kind: str, method: str | None = None, dataset: str = "digits", preset: str = "quick",
          changes: Mapping[str, Any] | None = None) -> RunConfig:
    """A complete, validated configuration.

    Args:
        kind: "search", "retrain" or "attack".
        method: search method; ignored by the other kinds.
        dataset: registry name.
        preset: one of `PRESETS`.
        changes: the user's own values, laid over the preset's.

    Raises:
        ConfigError: an unknown name or field, or a value out of its bounds, as one sentence per problem.
    """
    changes = dict(changes or {})
    values = preset_values(kind, method, dataset, preset) | network_values(changes.get("network", DERIVED)) | changes
    return validate(config_class(kind, method), values)


def validate(cls: type[RunConfig], values: Mapping[str, Any]) -> RunConfig:
    """`cls(**values)` with pydantic's report turned into our sentences.

    Raises:
        ConfigError: as `build`.
    """
    try:
        return cls(**values)
    except ValidationError as report:
        raise ConfigError(" ".join(_sentence(cls, problem) for problem in report.errors())) from None


def recorded(cls: type[RunConfig], values: Mapping[str, Any]) -> RunConfig:
    """The configuration that a run's record holds: a setting younger than the run has the value that it ran with.

    Raises:
        ConfigError: as `build`.
    """
    return validate(cls, cls.of_record(values) if issubclass(cls, SearchConfig) else values)


def _sentence(cls: type[RunConfig], problem: Mapping[str, Any]) -> str:
    field = str(problem["loc"][0]) if problem["loc"] else ""
    got = problem.get("input")
    if problem["type"] == "extra_forbidden":
        return unknown_name("setting", field, cls.model_fields)
    if problem["type"] == "value_error":  # our own sentence, raised in a validator
        return f"{problem['ctx']['error']}."
    if cls.model_fields[field].annotation is float and field in ("epsilon", "step_size") and _is_number(got) and got > 1:
        return f"{field} must be in 0..1 (pixel space), got {got}; did you mean {got:g}/255?"
    expected = problem["msg"].removeprefix("Input should be ").removeprefix("Value should be ")
    if problem["type"] == "string_pattern_mismatch":  # the help names the choices, the pattern is for machines
        expected = str(cls.model_fields[field].description).split(".")[0]
    return f"{field} must be {expected}, got {got!r}; give such a value."


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@dataclass(frozen=True)
class Difference:
    """One setting whose value is not the published one."""

    field: str
    value: Any
    paper: Any


def published_values(cls: type[RunConfig], dataset: str) -> dict[str, Any]:
    """The published value of every setting of a class, its default where none is published. On a dataset of the papers these are
    the settings for that dataset; on another, those for CIFAR-10."""
    facts = DATASETS[dataset]
    defaults = {name: info.default for name, info in cls.model_fields.items()}
    return defaults | _of_dataset(cls, facts if facts.published else DATASETS["cifar10"])


def differences_from_paper(config: RunConfig) -> list[Difference]:
    """Every setting of `config` that differs from the `published_values` of its class, in the order of the class."""
    reference = published_values(type(config), config.dataset)
    ignored = {"seed", "device", "threads", "genotype", "network"}
    if getattr(config, "network", DERIVED) != DERIVED:
        ignored |= {"channels", "layers"}  # they do not count
    return [Difference(name, value, reference[name]) for name, value in config.model_dump().items()
            if name not in ignored and value != reference[name]]
