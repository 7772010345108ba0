"""Flags of the run verbs, derived by tyro from the configuration class, with the preset's values as defaults.

tyro sees text only; what is allowed is said by the configuration class itself, so that the command line, the form and
`run.json` answer a wrong value with the same sentence.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from engine.config import PRESETS, parse_pixels, setting_of
from engine.configuring import config_class, preset_values
from engine.data.catalogue import DATASETS
from engine.errors import ConfigError
from engine.registry import unknown_name
from engine.requests import runs_root
from engine.run.folder import RunFolder
from engine.search.methods.registry import METHODS

NONE = "None"
# Their released code, not adversarial, where it differs from what ARNAS published.
STANDARD_TRAINING = ("--preset paper --training natural --channels 36 --epochs 600 --batch-size 96 --learning-rate 0.025 "
                     "--schedule cosine --weight-decay 0.0003 --drop-path 0.2 --normalise")


@dataclass(frozen=True)
class RunRequest:
    """A run verb as it was typed."""

    kind: str
    method: str | None
    dataset: str
    preset: str
    parent: str | None
    then: tuple[str, ...]
    runs: str | None
    wait: bool
    json: bool
    changes: dict[str, Any]


def parse(kind: str, arguments: Sequence[str]) -> RunRequest:
    """Reads the arguments behind `rampart search|retrain|attack`.

    Raises:
        ConfigError: an unknown option, method, dataset, preset, or a value that is missing or has no meaning.
        RunError: a parent that is not there, where its dataset is needed.
        SystemExit: `--help` was asked for and printed.
    """
    arguments = [_equals_is_space(word) for word in arguments]
    arguments = [part for word in arguments for part in word]
    method = _first(arguments, "--method", "arnas") if kind == "search" else None
    dataset, preset = _first(arguments, "--dataset", "") or _dataset_of_parent(arguments), _first(arguments, "--preset", "quick")
    values = preset_values(kind, method, dataset, preset)
    cls = _flags_class(kind, method, dataset, preset, values)
    known = {"--" + f.name.replace("_", "-") for f in dataclasses.fields(cls)}
    negated = {"--no-" + f.name.replace("_", "-") for f in dataclasses.fields(cls) if isinstance(f.default, bool)}
    for word in arguments:
        if word.startswith("--") and word not in known | negated | {"--help"}:
            raise ConfigError(unknown_name("option", word, known))
    given = [word.replace("--no-", "--", 1) if word in negated else word for word in arguments if word in known | negated]
    for word in given:
        if given.count(word) > 1:
            raise ConfigError(f"The option {word} must be given only once, got it {given.count(word)} times; where it takes "
                              "several values, write them with commas.")
    typed = _typed(cls, kind, arguments)
    fields = config_class(kind, method).model_fields
    changes = {}
    for name in values:
        text = getattr(typed, name)
        if text != _as_text(values[name]):
            changes[name] = _value(text, fields[name].annotation)
    changes.pop("dataset", None)
    then = tuple(part for part in (typed.then or "").replace(" ", "").split(",") if part)
    parent = getattr(typed, "parent", None)
    return RunRequest(kind, method, dataset, preset, parent, then, typed.runs, typed.wait, typed.json, changes)


def _equals_is_space(word: str) -> tuple[str, ...]:
    """("--a", "b") for "--a=b"."""
    match = re.fullmatch(r"(--[a-z][a-z-]*)=(.*)", word, flags=re.DOTALL)
    return (match[1], match[2]) if match else (word,)


def _first(arguments: Sequence[str], flag: str, default: str) -> str:
    for position, word in enumerate(arguments[:-1]):
        if word == flag:
            return arguments[position + 1]
    return default


def _dataset_of_parent(arguments: Sequence[str]) -> str:
    """The dataset of the run that is followed, where there is one."""
    parent = _first(arguments, "--parent", "")
    if not parent:
        return "digits"
    return str(RunFolder(runs_root(_first(arguments, "--runs", "") or None), parent).read_run()["config"]["dataset"])


def _typed(cls: type, kind: str, arguments: list[str]) -> Any:
    """An instance of `cls`; tyro's report of a malformed line is turned into a sentence."""
    complaint = io.StringIO()
    try:
        if "--help" in arguments or "-h" in arguments:
            return tyro.cli(cls, prog=f"rampart {kind}", description=_description(kind), args=["--help"])
        with contextlib.redirect_stderr(complaint), contextlib.redirect_stdout(complaint):
            return tyro.cli(cls, prog=f"rampart {kind}", args=arguments)
    except SystemExit as end:
        if end.code in (0, None):
            raise
        words = re.sub(r"[^\x20-\x7e]+", " ", re.sub(r"\x1b\[[0-9;]*m", "", complaint.getvalue()))
        words = re.sub(r"\s+", " ", words).strip().removeprefix("Parsing error").strip()
        words = re.split(r"-{5,}|For full helptext|Full helptext", words)[0].strip(" .")
        raise ConfigError(f"The options of {kind} must each be a known name and its value, got {' '.join(arguments)!r} "
                          f"({words[:200]}); see `rampart {kind} --help`.") from None


def _description(kind: str) -> str:
    what = {"search": "Search an architecture.", "retrain": "Train a derived network from scratch.",
            "attack": "Attack a retrained network on the test split."}[kind]
    standard = f" The standard training of DARTS and E2RNAS: {STANDARD_TRAINING}." if kind == "retrain" else ""
    return f"{what} Defaults are those of the chosen preset: {', '.join(PRESETS)}.{standard}"


def _flags_class(kind: str, method: str | None, dataset: str, preset: str, values: dict[str, Any]) -> type:
    """A dataclass with one text field per option; tyro makes the flags and the help from it."""
    fields: list[tuple[str, Any, Any]] = []

    def add(name: str, type_: Any, default: Any, text: str, metavar: str | None = None) -> None:
        # Percent signs and the like are for the reader, not for the formatter.
        fields.append((name, Annotated[type_, tyro.conf.arg(help=text, metavar=metavar)], default))

    if kind == "search":
        add("method", str, method, "Search method.", "{" + ",".join(METHODS) + "}")
    follows = "" if kind == "search" else " Those of the parent where there is one."
    add("dataset", str, dataset, f"Which images.{follows}", "{" + ",".join(DATASETS) + "}")
    add("preset", str, preset, " ".join(f"{name}: {text}" for name, text in PRESETS.items()), "{" + ",".join(PRESETS) + "}")
    if kind != "search":
        add("parent", str | None, None, "Id of the run this one follows.", "ID")
    if kind != "attack":
        add("then", str | None, None, "What follows, for example retrain,attack.", "KIND,KIND")
    add("wait", bool, False, "Stay and show progress until the whole chain is over.")
    add("json", bool, False, "Print ids and results as JSON.")
    add("runs", str | None, None, "Folder of all runs (default: $RAMPART_RUNS, else ./runs).", "DIR")
    for name, info in config_class(kind, method).model_fields.items():
        if name != "dataset":
            source = f" Source: {setting_of(info).source}." if setting_of(info).source else ""
            value = _as_text(values[name])
            add(name, bool if isinstance(value, bool) else tuple[str, ...] if isinstance(value, tuple) else str, value,
                f"{info.description}{source}", None if isinstance(value, bool) else _metavar(info.annotation))
    cls = dataclasses.make_dataclass("Options", [(name, type_, dataclasses.field(default=default))
                                                 for name, type_, default in fields])
    if kind == "attack":
        cls.then = None  # nothing follows
    return cls


def _as_text(value: Any) -> Any:
    """A value as tyro shows and returns it."""
    if isinstance(value, bool):
        return value
    if isinstance(value, (list, tuple)):
        return tuple(map(str, value))
    return NONE if value is None else str(value)


def _value(text: Any, annotation: Any) -> Any:
    """What was typed, as the configuration class understands it: numbers may be fractions, "None" is empty, several values
    stand behind each other or with commas."""
    if isinstance(text, tuple):
        return tuple(part.strip() for word in text for part in word.split(",") if part.strip())
    if not isinstance(text, str):
        return text
    if text in (NONE, "none") and type(None) in typing.get_args(annotation):
        return None
    numeric = annotation in (int, float) or any(part in (int, float) for part in typing.get_args(annotation))
    if not numeric:
        return text
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    number = parse_pixels(text)
    return number if isinstance(number, float) else text


def _metavar(annotation: Any) -> str | None:
    parts = typing.get_args(annotation)
    if typing.get_origin(annotation) is tuple:
        parts = typing.get_args(parts[0])
    choices = [part for part in parts if isinstance(part, str)]
    if choices:
        return "{" + ",".join(choices) + "}"
    parts = (annotation, *typing.get_args(annotation))
    return "INT" if int in parts else "NUMBER" if float in parts else "TEXT"
