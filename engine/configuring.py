"""Functions that build validated configurations and compare them with the published settings.

`engine.config` declares the settings of each kind of run. This module replaces the defaults with the values of datasets and
presets. It also makes the checks that need the registries of datasets and attacks. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from engine.architecture.genotype import DERIVED
from engine.architecture.placement import SMALLEST_AUXILIARY_IMAGE
from engine.attack.catalogue import ATTACKS
from engine.config import AttackConfig, RetrainConfig, RunConfig, SearchConfig, network_values, setting_of
from engine.config.fields import value_words
from engine.config.run import KINDS
from engine.data.catalogue import DATASETS, image_source
from engine.data.dataset import Dataset
from engine.data.splits import split_sizes
from engine.errors import ConfigError, shortened
from engine.registry import unknown_name
from engine.search.methods.registry import METHODS

# Settings that are not compared with the published ones: the seeds, the machine, and the choice of the network.
NOT_COMPARED = frozenset({"seed", "split_seed", "device", "threads", "processes", "genotype", "network"})


def machine_settings(settings: Mapping[str, Any]) -> set[str]:
    """Return the names of the settings that say what computes a run, and that change its results only by rounding.

    The number of processes is one of them, unless BatchNorm uses the statistics of each process.

    Args:
        settings: {name: value} of the settings of a run.
    """
    is_in_results = settings.get("processes", 1) > 1 and settings.get("batch_norm") == "per_process"
    return {"device", "threads"} | (set() if is_in_results else {"processes", "batch_norm"})


def config_class(kind: str, method: str | None = None) -> type[RunConfig]:
    """Return the configuration class of a kind of run. A search has the class of its method.

    Raises:
        ConfigError: the kind or the method is unknown.
    """
    if kind == "search":
        return METHODS[method or ""].config
    if kind not in KINDS:
        raise ConfigError(unknown_name("run kind", kind, KINDS))
    return RetrainConfig if kind == "retrain" else AttackConfig


def preset_values(kind: str, method: str | None, dataset: str, preset: str) -> dict[str, Any]:
    """Return {name of the setting: value} for all settings of a preset.

    A value comes from the preset if it gives one, else from the dataset, else from the defaults of the configuration class.

    Raises:
        ConfigError: the kind, method, dataset or preset is unknown.
    """
    cls = config_class(kind, method)
    facts = DATASETS[dataset]
    if preset not in cls.presets:
        raise ConfigError(unknown_name("preset", preset, cls.presets))
    values = {name: info.default for name, info in cls.model_fields.items()}
    values |= {**_dataset_values(cls, facts), **cls.presets[preset]}
    if preset == "quick":
        values |= facts.quick.get(kind, {})
    # A preset's number of images is for large test splits; a smaller split is attacked completely.
    if (values.get("autoattack_images") or 0) > split_sizes(facts)["test"]:
        values["autoattack_images"] = None
    return values


def build(kind: str, method: str | None = None, dataset: str = "digits", preset: str = "quick",
          changes: Mapping[str, Any] | None = None) -> RunConfig:
    """Return a complete, validated configuration.

    Args:
        kind: "search", "retrain" or "attack".
        method: search method; ignored for the other kinds of run.
        dataset: name of the dataset in the registry.
        preset: one of `PRESETS`.
        changes: {name of the setting: value} for settings whose value differs from the preset's.

    Raises:
        ConfigError: a name or a setting is unknown, or a value is not allowed. The message has one sentence per setting.
    """
    changes = dict(changes or {})
    values = preset_values(kind, method, dataset, preset) | network_values(changes.get("network", DERIVED)) | changes
    return validate(config_class(kind, method), values)


def validate(cls: type[RunConfig], values: Mapping[str, Any]) -> RunConfig:
    """Return `cls(**values)` after also checking that the configuration fits its dataset.

    Raises:
        ConfigError: a setting is unknown, or a value is not allowed or does not fit the dataset. The message has one sentence
            per setting.
    """
    try:
        config = cls(**values)
    except ValidationError as report:
        raise ConfigError(problems=_problems(cls, report)) from None
    _check_dataset(config)
    if isinstance(config, AttackConfig):
        _check_attacks(config)
    if isinstance(config, RetrainConfig):
        _check_auxiliary_head(config)
    return config


def recorded(run: Mapping[str, Any]) -> RunConfig:
    """Return the configuration of a run that may have been launched by an older version of Rampart.

    A setting that did not exist at the launch gets the value that matches the behaviour of the older version.

    Args:
        run: content of the run's run.json.

    Raises:
        ConfigError: a recorded setting is unknown, or a recorded value is not allowed.
    """
    cls = config_class(run["kind"], run.get("method"))
    values = cls.of_record(run["config"]) if issubclass(cls, SearchConfig) else run["config"]
    return validate(cls, {"split_seed": split_seed_of(run), **values})


def split_seed_of(run: Mapping[str, Any]) -> int:
    """Return the seed that divides the images of a run into splits.

    This is the setting `split_seed` in current runs. Older runs recorded the seed outside their configuration, and the oldest
    runs used their setting `seed`.

    Args:
        run: content of the run's run.json.
    """
    config = run["config"]
    recorded_seeds = (config.get("split_seed"), run.get("split_seed"), config.get("seed"))
    return int(next((seed for seed in recorded_seeds if seed is not None), RunConfig.model_fields["seed"].default))


def check_batch(config: RunConfig, kind: str) -> None:
    """Check that the splits of a run have enough images.

    A search or a retraining needs enough images for its batch size. An attack needs enough images for the setting
    `autoattack_images`. The batch size of an attack is only a maximum, so it is not checked.

    Args:
        config: configuration of the run.
        kind: kind of the run: "search", "retrain" or "attack".

    Raises:
        ConfigError: a split has too few images.
    """
    sizes = split_sizes(config.dataset, config.images)
    batch_size = getattr(config, "batch_size", None)
    if kind == "search":
        name = "weights" if sizes["weights"] <= sizes["alphas"] else "alphas"
        available, where = sizes[name], f"the {name} split"
        for other in map(image_source, config.datasets()[1:]):
            theirs = split_sizes(other, config.images)
            _check_at_most("batch_size", batch_size, theirs["weights"] + theirs["alphas"],
                           f"the weights and alphas splits of {other.title} together")
    elif kind == "retrain":
        available, where = sizes["weights"] + sizes["alphas"], "the weights and alphas splits together"
    else:
        _check_at_most("autoattack_images", getattr(config, "autoattack_images", None), sizes["test"], "the test split")
        return
    _check_at_most("batch_size", batch_size, available, where)


@dataclass(frozen=True)
class Difference:
    """A setting whose value is not the published one.

    Attributes:
        field: name of the setting.
        value: value of the setting.
        paper: the published value.
    """

    field: str
    value: Any
    paper: Any


def published_values(cls: type[RunConfig], dataset: str) -> dict[str, Any]:
    """Return {name of the setting: published value}. A setting without a published value gets its default.

    If papers use the dataset, their values for it are returned. Otherwise, the values published for CIFAR-10 are returned.

    Args:
        cls: configuration class of the settings.
        dataset: name of the dataset.
    """
    facts = DATASETS[dataset]
    defaults = {name: info.default for name, info in cls.model_fields.items()}
    return defaults | _dataset_values(cls, facts if facts.published else DATASETS["cifar10"])


def differences_from_paper(config: RunConfig) -> list[Difference]:
    """Return the settings of `config` that differ from the published values, in the order in which the class declares them.

    Seeds, device, threads and the choice of the network are not compared.
    """
    reference = published_values(type(config), config.dataset)
    ignored = set(NOT_COMPARED)
    if getattr(config, "network", DERIVED) != DERIVED:
        ignored |= {"channels", "layers"}  # no effect on a named network
    return [Difference(name, value, reference[name]) for name, value in config.model_dump().items()
            if name not in ignored and value != reference[name]]


def deviations(kind: str, method: str | None, preset: str, config: RunConfig) -> list[str]:
    """Return phrases about a run's deviations from the published method. The phrases become part of the run's name.

    There are two kinds of phrases:

    - phrases that the configuration class supplies (`RunConfig.deviations`)
    - one phrase for each setting whose value differs from the preset's. A setting gets none if it is marked `Setting.silent`, has
      no effect, or concerns only seeds, devices or the choice of the network.

    The values of the preset itself give no phrases, because pages show the preset next to the name. Values that the dataset
    requires, such as epsilon on digits, give none either.

    Args:
        kind: "search", "retrain" or "attack".
        method: search method; None for the other kinds of run.
        preset: preset of the run.
        config: configuration of the run.
    """
    reference = preset_values(kind, method, config.dataset, preset)
    words = []
    for name, info in type(config).model_fields.items():
        value, facts = getattr(config, name), setting_of(info)
        if value == reference[name] or name in config.inert() | NOT_COMPARED or facts.silent or is_worded_by_class(info):
            continue
        words.append(facts.deviation.format(value=value_words(info, value)) if facts.deviation
                     else _plain_words(kind, name.replace("_", " "), info, value))
    return [*config.deviations(), *words]


def _plain_words(kind: str, noun: str, info: FieldInfo, value: Any) -> str:
    """Return the phrase for a changed setting that declares no phrase, for example "momentum 0.5" or "retrained with no flip"."""
    words = (noun if value else f"no {noun}") if isinstance(value, bool) else f"{noun} {value_words(info, value)}"
    return f"retrained with {words}" if kind == "retrain" else words


def is_worded_by_class(info: FieldInfo) -> bool:
    """Return True if the class's own method `deviations` words a changed value of this setting in the run's name.

    This is the case if the setting's help text begins with "Differs" and its declaration has no phrase (`Setting.deviation`).
    """
    return not setting_of(info).deviation and str(info.description).startswith("Differs")


def _dataset_values(cls: type[RunConfig], facts: Dataset) -> dict[str, Any]:
    """Return {name of the setting: value} for the values that a dataset requires.

    Settings that the configuration class `cls` does not have are left out.
    """
    required = {"dataset": facts.name, "epsilon": facts.epsilon, "step_size": facts.step_size, **facts.defaults}
    if facts.step_size is None:
        del required["step_size"]
    if "cutout" in cls.model_fields and not cls.model_fields["cutout"].default:
        required.pop("cutout", None)  # a dataset sets the size of the square, but only for methods that use cutout
    if issubclass(cls, RetrainConfig):
        required |= facts.retraining
    return {name: value for name, value in required.items() if name in cls.model_fields}


def _check_dataset(config: RunConfig) -> None:
    if config.dataset not in DATASETS:
        raise ConfigError(problems={"dataset": unknown_name("dataset", config.dataset, DATASETS)})


def _check_attacks(config: AttackConfig) -> None:
    """Check the list of attacks.

    Each attack must be registered, named only once, and possible with the run's norm and number of classes. The list may be empty
    only if the run measures a sweep (accuracy against the radius and against the number of PGD steps).
    """
    if not (config.attacks or config.sweep_radii) or len(set(config.attacks)) < len(config.attacks):
        raise ConfigError(problems={"attacks": f"attacks must name at least one attack and each only once, got "
                                               f"{list(config.attacks)}; name the attacks to run."})
    classes = DATASETS[config.dataset].classes
    for name in config.attacks:
        try:
            attack = ATTACKS[name]
        except ConfigError as refusal:
            raise ConfigError(problems={"attacks": str(refusal)}) from None
        if config.norm not in attack.norms:
            raise ConfigError(problems={"attacks": f"{attack.title} is defined in {' and '.join(attack.norms)}, got the norm "
                                                   f"{config.norm}; leave it out or set norm to {attack.norms[0]}."})
        if classes < attack.min_classes:
            raise ConfigError(problems={"attacks": f"{attack.title} needs a dataset of at least {attack.min_classes} classes, "
                                                   f"got {classes}; leave it out."})


def _check_auxiliary_head(config: RetrainConfig) -> None:
    side = min(DATASETS[config.dataset].image_shape[1:])
    if config.auxiliary_weight and side < SMALLEST_AUXILIARY_IMAGE:
        raise ConfigError(problems={"auxiliary_weight": (
            f"auxiliary_weight must be 0 for images smaller than {SMALLEST_AUXILIARY_IMAGE} pixels (the auxiliary head needs 5x5 "
            f"maps after the second reduction), got {config.auxiliary_weight} for {side} pixels; set it to 0.")})


def _check_at_most(field: str, value: int | None, available: int, where: str) -> None:
    if value is not None and value > available:
        raise ConfigError(problems={field: f"{field} must be at most {available}, the number of images in {where}, "
                                           f"got {value}; use {available} or less."})


def _problems(cls: type[RunConfig], report: ValidationError) -> dict[str, str]:
    """Convert pydantic's error report to {name of an invalid field: sentence for the user}."""
    problems: dict[str, str] = {}
    for error in report.errors():
        field = str(error["loc"][0]) if error["loc"] else ""
        cause = error.get("ctx", {}).get("error")
        own = cause.problems if isinstance(cause, ConfigError) else {field: _sentence(cls, field, error)}
        for name, sentence in own.items():
            problems.setdefault(name or field, sentence)
    return problems


def _sentence(cls: type[RunConfig], field: str, error: Mapping[str, Any]) -> str:
    value: Any = error.get("input")
    if error["type"] == "extra_forbidden" or field not in cls.model_fields:  # a name of half a character has no field
        return unknown_name("setting", field or value, cls.model_fields)
    info = cls.model_fields[field]
    if info.annotation is float and field in ("epsilon", "step_size") and _is_number(value) and value > 1:
        hint = f"did you mean {value:g}/255?" if value <= 255 else "give a part of 255 grey levels, such as 8/255."
        return f"{field} must be in 0..1 (pixel space), got {shortened(value)}; {hint}"
    if error["type"] == "greater_than" and "epsilon" in field:
        return f"{field} must be above 0, got {shortened(value)}; {_WITHOUT_BALL[issubclass(cls, AttackConfig)]}."
    expected = error["msg"].removeprefix("Input should be ").removeprefix("Value should be ")
    expected = re.split(", unable to|, got a number", expected)[0]
    if error["type"] == "string_pattern_mismatch":  # the help lists the choices more readably than the pattern
        expected = str(info.description).split(".")[0]
    return f"{field} must be {expected}, got {shortened(value)}; give such a value."


# {True for the settings of an attack run: advice for a radius that is not above 0}
_WITHOUT_BALL = {
    True: "give a radius such as 8/255. Every attack run measures the natural accuracy as well",
    False: "give a radius such as 8/255, or choose a method without an attack, such as darts"}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
