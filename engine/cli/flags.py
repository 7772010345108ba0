"""Command-line options of the verbs that launch a run (search, retrain and attack).

Every setting of the run's configuration class becomes an option. The default of the option is the value in the chosen preset.
Options are read as text, and the configuration class checks the values. A wrong value therefore gets the same error message on
the command line and on the Launch page.
"""

from __future__ import annotations

import argparse
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

from pydantic.fields import FieldInfo

from engine.cli.parser import Parser, Switch
from engine.config import PRESETS, RunConfig, setting_of
from engine.config.fields import value_words
from engine.configuration_file import Configuration, from_text, value_of
from engine.configuring import config_class, preset_values
from engine.data.catalogue import DATASETS
from engine.errors import ConfigError
from engine.grid import Grid, read_grid
from engine.registry import unknown_name
from engine.requests import runs_root
from engine.run.chain import kinds_after
from engine.run.folder import RunFolder
from engine.search.methods.registry import METHODS

# Options that give the released training of DARTS and E2RNAS, which is not adversarial, instead of the training of ARNAS.
STANDARD_TRAINING = ("--preset paper --training natural --channels 36 --epochs 600 --batch-size 96 --learning-rate 0.025 "
                     "--schedule cosine --weight-decay 0.0003 --drop-path 0.2 --normalise")
LONGEST_CHOICES = 70  # number of characters that fit on the line after the name of the option
TEXTS = {"search": "Search for an architecture.",
         "retrain": f"Train a network from scratch. The standard training of DARTS and E2RNAS: {STANDARD_TRAINING}.",
         "attack": "Attack a retrained network on the test split."}


@dataclass(frozen=True)
class RunRequest(Configuration):
    """The parsed command line of a launch: a configuration, and options that cannot be in a configuration file.

    Attributes:
        parent: id of the run that the launched run follows; None if it follows none.
        runs: folder of all runs; None for the default folder.
        wait: True to wait until all launched runs have ended.
        json: True to print JSON.
        grid: the seeds and settings that have several values. Every combination of values gives one chain of runs.
    """

    parent: str | None = None
    runs: str | None = None
    wait: bool = False
    json: bool = False
    grid: Grid = field(default_factory=lambda: Grid({}))


class RunParser(Parser):
    """An argument parser for a verb that launches a run."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"The options must each be a known name and its value ({message}); see `{self.prog} --help`.")


def parse(kind: str, arguments: Sequence[str]) -> RunRequest:
    """Parse the command line of `rampart search`, `retrain` or `attack`. Options override the file given by `--config`.

    Args:
        kind: the verb, which is the kind of run.
        arguments: the words after the verb.

    Raises:
        ConfigError: an option, method, dataset or preset is unknown, a value is missing or not valid, or the file is not valid.
        RunError: the parent run does not exist.
        SystemExit: help has been printed.
    """
    early = {name: values[0] for name, values in vars(_general(kind).parse_known_args(arguments)[0]).items() if values}
    file = _file(kind, early["config"]) if "config" in early else None
    method = early.get("method", file.method if file else "arnas") if kind == "search" else None
    dataset = early["dataset"] if "dataset" in early else (
        file.dataset if file else _dataset_of_parent(early.get("parent"), early.get("runs")))
    preset = early.get("preset", file.preset if file else "quick")
    given = _given(_parser(kind, method, dataset, preset), arguments)
    then = given.get("then", ",".join(file.then) if file else "").replace(" ", "")
    values = preset_values(kind, method, dataset, preset)
    changes = {**(file.changes if file else {}), **_settings(config_class(kind, method), given)}
    varied = given.get("grid", [])
    # In a grid, a chosen value counts even if it equals the preset's, because another method's preset may have another value.
    changes = {name: value for name, value in changes.items() if varied or name not in values or value != values[name]}
    then_changes = {follower: {**(file.then_changes.get(follower, {}) if file else {}),
                               **_settings(config_class(follower), given, f"{follower}.")} for follower in kinds_after(kind)}
    request = RunRequest(kind, method, dataset, preset, tuple(filter(None, then.split(","))), changes,
                         {follower: own for follower, own in then_changes.items() if own}, given.get("parent"),
                         given.get("runs"), given.get("wait", False), given.get("json", False))
    return replace(request, grid=read_grid(request, map(_axis, varied), given.get("seeds", "")))


def _axis(text: str) -> tuple[str, str]:
    """Return (name, values) from the text of the option --grid.

    Raises:
        ConfigError: the text has no equals sign.
    """
    name, equals, values = text.partition("=")
    if not equals:
        raise ConfigError(f"--grid must be a name and its values, got {text!r}; write for example --grid lambda=0.1,0.3.")
    return name, values


def _file(kind: str, path: str) -> Configuration:
    """Return the configuration in the file of `--config`.

    Raises:
        ConfigError: the file cannot be read, is not valid, or is for another kind of run.
    """
    try:
        configuration = from_text(Path(path).read_bytes())
    except OSError as problem:
        raise ConfigError(f"The file of --config must be readable, {path or repr(path)} is not ({problem.strerror}); give "
                          "another.") from None
    if configuration.kind != kind:
        raise ConfigError(f"The file of --config must be for a run of kind {kind}, {path} is for {configuration.kind}; "
                          f"launch it by `rampart {configuration.kind} --config {path}`.")
    return configuration


def _dataset_of_parent(parent: str | None, runs: str | None) -> str:
    return str(RunFolder(runs_root(runs), parent).read_run()["config"]["dataset"]) if parent else "digits"


def _given(parser: Parser, arguments: Sequence[str]) -> dict[str, Any]:
    """Return {name: value} for every option that was given. Names are written with underscores instead of hyphens.

    Raises:
        ConfigError: an option is unknown or given twice.
    """
    options, unknown = parser.parse_known_args(arguments)
    for word in unknown:
        if word.startswith("-"):
            name = word.partition("=")[0]
            raise ConfigError(unknown_name("option", name, _alike(name, ["--" + one.replace("_", "-") for one in vars(options)])))
        parser.error(f"unrecognized argument {word!r}")
    given = {name: occurrences for name, occurrences in vars(options).items() if occurrences is not None}
    for name, occurrences in given.items():
        if len(occurrences) > 1 and name != "grid":
            raise ConfigError(f"The option --{name.replace('_', '-')} must be given only once, got it {len(occurrences)} times; "
                              "where it takes several values, write them with commas.")
    return {name: occurrences if name == "grid" else occurrences[0] for name, occurrences in given.items()}


def _alike(name: str, options: list[str]) -> list[str]:
    """Return the options that the error message may suggest in place of the unknown option `name`.

    A name such as "--retrain.epoch" begins with the kind of a later run. In this case, return only the options of that later run.
    Otherwise return the options of the run itself.
    """
    kind, dot, _ = name.partition(".")
    of_follower = [one for one in options if dot and one.startswith(f"{kind}.")]
    return of_follower or [one for one in options if "." not in one]


def _settings(cls: type[RunConfig], given: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return {name of the setting: value} for the given options. Options that are not settings of the class `cls` are left out.

    Args:
        cls: configuration class.
        given: {name: value} of all given options, as `_given` returns it.
        prefix: start of the option names, for example "retrain." for the settings of a retraining that follows.
    """
    return {name: _value(info, given[f"{prefix}{name}"]) for name, info in _settings_of(cls) if f"{prefix}{name}" in given}


def _value(info: FieldInfo, given: bool | str | list[str]) -> Any:
    if isinstance(given, bool):
        return given
    return value_of(info, ",".join(given) if isinstance(given, list) else given)


def _general(kind: str) -> RunParser:
    """Return a parser for the options that are not settings, such as the method, the dataset and the preset.

    These options are parsed first, because the available settings and their defaults depend on them.
    """
    parser = RunParser(kind, add_help=False)
    group = parser.add_argument_group("What to run")

    def add(name: str, metavar: str, text: str) -> None:
        group.add_argument(f"--{name}", action="append", metavar=metavar, help=text)

    if kind == "search":
        add("method", _choices(METHODS), "Search method. Default: arnas.")
    add("dataset", _choices(DATASETS), f"Images. Default: {'' if kind == 'search' else 'those of the parent, else '}digits.")
    add("preset", _choices(PRESETS), " ".join(f"{name}: {text}" for name, text in PRESETS.items()) + " Default: quick.")
    add("config", "FILE", "Configuration file, JSON or YAML, such as the Launch page exports. Options on the command line "
        "override it.")
    if kind != "search":
        add("parent", "ID", "Run to follow, by its id.")
    if following := kinds_after(kind):
        add("then", "KIND,KIND", f"Kinds of the runs that follow, for example {','.join(following)}. Prefix their settings "
            f"with the kind, for example --{following[0]}.batch-size 64.")
    add("seeds", "SEEDS", "Launch one chain for each seed, for example 0-4 or 0,3,7.")
    add("grid", "NAME=VALUES", "Launch one chain for each value of a setting, for example lambda=0.1,0.3 or "
        f"{f'{following[0]}.' if (following := kinds_after(kind)) else ''}epochs=10,20"
        f"{', or of the method: method=arnas,dsara' if kind == 'search' else ''}. Several --grid and --seeds give every "
        "combination, all or none. Values that contain commas are separated by semicolons.")
    add("runs", "DIR", "Folder of all runs. Default: $RAMPART_RUNS, else ./runs.")
    group.add_argument("--wait", "--no-wait", action=Switch, help="Show progress and return when the whole chain has ended.")
    group.add_argument("--json", "--no-json", action=Switch, help="Print ids and results as JSON.")
    return parser


def _parser(kind: str, method: str | None, dataset: str, preset: str) -> RunParser:
    """Return a parser for all options of the command that launches a run of this kind, such as `rampart search`.

    These are the general options, the settings of the run by group, and the settings of runs that may follow.
    """
    values = preset_values(kind, method, dataset, preset)
    chosen = f"{METHODS[method].title}, preset {preset}" if method else f"preset {preset}"
    parser = RunParser(kind, f"{TEXTS[kind]} Numbers may be fractions like 8/255; None clears an optional setting. "
                       f"The defaults shown are those of {chosen}, dataset {dataset}.", parents=[_general(kind)],
                       usage=f"rampart {kind} [options]")
    groups: dict[str, Callable[..., object]] = {}
    for name, info in _settings_of(config_class(kind, method)):
        title = setting_of(info).group
        if title not in groups:
            groups[title] = parser.add_argument_group(title).add_argument
        _add_setting(groups[title], "", name, info, _help(info, values[name]))
    for follower in kinds_after(kind):
        for name, info in _settings_of(config_class(follower)):  # hidden in the help, which would become three times as long
            _add_setting(parser.add_argument, f"{follower}.", name, info, argparse.SUPPRESS)
    return parser


def _settings_of(cls: type[RunConfig]) -> list[tuple[str, FieldInfo]]:
    """Return [(name, field)] for all settings of a configuration class except `dataset`, which is a general option."""
    return [(name, info) for name, info in cls.model_fields.items() if name != "dataset"]


def _add_setting(add: Callable[..., object], prefix: str, name: str, info: FieldInfo, text: str) -> None:
    """Add the option for one setting to a parser.

    Args:
        add: the method `add_argument` of the parser or of a group of options.
        prefix: "" for a setting of the run itself, "retrain." for a setting of a retraining that follows.
        name: name of the setting.
        info: pydantic field for the setting.
        text: help text.
    """
    flag, dest = name.replace("_", "-"), f"{prefix}{name}"
    if info.annotation is bool:
        add(f"--{prefix}{flag}", f"--{prefix}no-{flag}", dest=dest, action=Switch, help=text)
    else:
        several = "*" if typing.get_origin(info.annotation) is tuple else None
        add(f"--{prefix}{flag}", dest=dest, action="append", nargs=several, metavar=_metavar(info), help=text)


def _help(info: FieldInfo, value: Any) -> str:
    """Return the help text of a setting: its meaning, choices, source and default.

    Percent signs are doubled, because argparse applies `%` formatting to the text.
    """
    if isinstance(value, bool):
        words = "on" if value else "off"
    else:
        words = ", ".join(value) if isinstance(value, tuple) else value_words(info, value)
    choices = f" One of: {', '.join(_choices_of(info))}." if _metavar(info) == "NAME" else ""
    source = f" Source: {setting_of(info).source}." if setting_of(info).source else ""
    return f"{info.description}{choices}{source} Default: {words or 'empty'}.".replace("%", "%%")


def _metavar(info: FieldInfo) -> str:
    """Return the placeholder for a setting's value in the help.

    If the setting has choices that fit on a line, the placeholder lists them. Otherwise it is NAME, INT, NUMBER or TEXT.
    """
    if choices := _choices_of(info):
        return _choices(choices) if len(_choices(choices)) <= LONGEST_CHOICES else "NAME"
    types = {info.annotation, *typing.get_args(info.annotation)}
    return "INT" if int in types else "NUMBER" if float in types else "TEXT"


def _choices_of(info: FieldInfo) -> list[str]:
    """Return the allowed names of a setting that takes one or several names from a fixed list, or [] for other settings."""
    parts = typing.get_args(info.annotation)
    if typing.get_origin(info.annotation) is tuple:
        parts = typing.get_args(parts[0])
    return [part for part in parts if part and isinstance(part, str)]


def _choices(names: Iterable[str]) -> str:
    return "{" + ",".join(names) + "}"
