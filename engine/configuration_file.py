"""Configuration files in JSON or YAML, which describe a run and its followers.

Followers are runs that start one after another when the first run has finished. A file names the kinds of the runs and the
changed settings. The command line reads such files with `--config`, and the Launch page exports and imports them.

Example:
    kind: search
    method: arnas
    dataset: digits
    preset: quick
    then: [retrain, attack]
    changes: {epsilon: 8/255, epochs: 20}
    then_changes:
      retrain: {epochs: 30}
"""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from types import NoneType
from typing import Any

import yaml
from pydantic.fields import FieldInfo

from engine.config import RunConfig, parse_pixels
from engine.config.run import KINDS
from engine.configuring import build, config_class
from engine.errors import ConfigError, shortened
from engine.registry import unknown_name
from engine.run.chain import followers, kinds_after

ADVICE = "the Launch page exports such a file"


@dataclass(frozen=True)
class Configuration:
    """Content of a configuration file.

    Attributes:
        kind: "search", "retrain" or "attack".
        method: search method; None for the other kinds.
        dataset: name of the dataset.
        preset: name of the preset, whose values the changes override.
        then: kinds of the followers, in order. Followers are runs that start one after another when the first run has finished.
        changes: {name of the setting: value} for values that differ from the preset's.
        then_changes: changed settings of the followers, as {kind of run: {name of the setting: value}}.
    """

    kind: str
    method: str | None
    dataset: str
    preset: str
    then: tuple[str, ...] = ()
    changes: Mapping[str, Any] = field(default_factory=dict)
    then_changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the text of a configuration file in JSON, which `from_text` can read."""
        record = asdict(self)
        return json.dumps({name: record[name] for name in ENTRIES}, indent=2) + "\n"


ENTRIES = tuple(entry.name for entry in fields(Configuration))
REQUIRED = ("kind", "dataset", "preset")


def from_text(text: str | bytes) -> Configuration:
    """Parse the text of a configuration file, and check all settings that it changes.

    Raises:
        ConfigError: the text is not a JSON or YAML object, an entry is unknown, missing, given twice or of the wrong type, or the
            settings are not allowed.
    """
    record = read_record(text)
    kind, method, dataset, preset = _names(record)
    then = tuple(_checked("then", one, str, "a list of kinds")
                 for one in _checked("then", record.get("then") or [], list, "a list of kinds"))
    changes = settings_from(config_class(kind, method), "changes", record.get("changes"))
    then_changes = {}
    for follower, own in _checked("then_changes", record.get("then_changes") or {}, dict, "settings by kind").items():
        if follower not in kinds_after(kind):
            raise ConfigError(unknown_name(f"kind of run after {kind}", follower, kinds_after(kind)))
        then_changes[follower] = settings_from(config_class(follower), f"then_changes of {follower}", own)
    config = build(kind, method, dataset, preset, changes)
    following = dict(followers(kind, config, method, preset, then, then_changes))
    return Configuration(kind, method, dataset, preset, then, _of(config, changes),
                         {follower: _of(following[follower], own) for follower, own in then_changes.items()})


def _of(config: RunConfig, names: Iterable[str]) -> dict[str, Any]:
    """Return {name: value} for the named settings of a validated configuration."""
    return {name: getattr(config, name) for name in names}


def _names(record: Mapping[str, Any]) -> tuple[str, str | None, str, str]:
    """Return (kind, method, dataset, preset) from the object in a configuration file.

    Returns:
        kind: kind of run.
        method: search method; None for the other kinds of run.
        dataset: name of the dataset.
        preset: name of the preset.

    Raises:
        ConfigError: an entry is unknown, a required entry is missing, an entry has the wrong type, a search has no method, or
            another kind of run has one.
    """
    for name in record:
        if name not in ENTRIES:
            raise ConfigError(unknown_name("entry of a configuration file", name, ENTRIES))
    if missing := [name for name in REQUIRED if record.get(name) is None]:
        raise ConfigError(f"A configuration file must have {', '.join(REQUIRED)}, got no {', '.join(missing)}; {ADVICE}.")
    kind, dataset, preset = (_checked(name, record[name], str, "a name") for name in REQUIRED)
    method = _checked("method", record.get("method"), (str, NoneType), "a name")
    if kind not in KINDS:
        raise ConfigError(unknown_name("run kind", kind, KINDS))
    if (method is None) == (kind == "search"):
        raise ConfigError(f"method must be named for a search and for no other run, got {method!r} for {kind}; correct the file.")
    return kind, method, dataset, preset


def value_of(info: FieldInfo, text: str) -> Any:
    """Convert a user's text for a setting to the value of the setting. The text comes from the command line or from a file.

    Numbers may be fractions. "None" empties a setting that can be empty. If a setting holds several values, commas separate them.
    A text that cannot be converted is returned unchanged, and the configuration class then rejects it.

    Args:
        info: field of the setting in its configuration class.
        text: the user's text, for example "8/255".
    """
    types = {info.annotation, *typing.get_args(info.annotation)}
    if text in ("None", "none") and NoneType in types:
        return None
    if typing.get_origin(info.annotation) is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if not types & {int, float}:
        return text
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,400}", text) else parse_pixels(text)


class _YamlLoader(yaml.BaseLoader):  # type: ignore[misc]
    """A YAML loader that returns every value as text, because a standard loader would read the widths 1:2:4 as a number."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Return the next node of the YAML document. Aliases are rejected, because a few of them can expand to gigabytes.

        Raises:
            ConfigError: the node is an alias.
        """
        if self.check_event(yaml.AliasEvent):
            raise ConfigError("A configuration file must write out every value, got a YAML alias (*name); replace it by its "
                              "value.")
        return super().compose_node(parent, index)

    def construct_scalar(self, node: Any) -> Any:
        """Return a single value as text, or None if the value is empty or null."""
        plain = isinstance(node, yaml.ScalarNode) and node.style is None
        return None if plain and node.value in ("", "~", "null") else super().construct_scalar(node)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[str, Any]:
        """Return a YAML mapping as a dictionary.

        Raises:
            ConfigError: a name occurs twice.
        """
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        return _once([(str(self.construct_object(key, deep=True)), self.construct_object(one, deep=True)) for key, one in pairs])


def read_record(text: str | bytes, required: Iterable[str] = REQUIRED, *, file: str = "configuration file",
                advice: str = ADVICE) -> dict[str, Any]:
    """Return the object in the text of a configuration file. In YAML, every value is a text, a list or an object.

    Args:
        text: the text, JSON or YAML.
        required: names of the entries that such a file needs. The error message for a text that is not an object lists them. This
            function does not check that they are present.
        file: name of the kind of file, for the error message.
        advice: advice to the user, for the error message.

    Raises:
        ConfigError: the text is neither JSON nor YAML, is not an object, or gives a name twice.
    """
    try:
        text = text.decode() if isinstance(text, bytes) else text
        is_json = text.lstrip().startswith("{")
        record = json.loads(text, object_pairs_hook=_once) if is_json else yaml.load(text, Loader=_YamlLoader)
    except ConfigError:
        raise
    except (ValueError, RecursionError, yaml.YAMLError) as problem:
        raise ConfigError(f"A {file} must be JSON or YAML and cannot be read ({_words(problem)}); {advice}.") from None
    if not isinstance(record, dict):
        raise ConfigError(f"A {file} must name {', '.join(required)}, got {_content(record)}; {advice}.")
    return record


def _content(record: Any) -> str:
    """Describe the content of a file that is not an object, for an error message: "an empty file", "a list" or the text."""
    return "an empty file" if record is None else "a list" if isinstance(record, list) else f"the text {shortened(record)}"


def _words(problem: Exception) -> str:
    """Describe where a syntax error is and what caused it, in at most 160 characters."""
    if isinstance(problem, yaml.MarkedYAMLError) and problem.problem_mark is not None:
        mark = problem.problem_mark
        # What YAML says of a line that belongs to nothing above it.
        is_indented = any(words in str(problem.problem) for words in ("expected <block end>", "expected '<document start>'"))
        words = "the indentation does not fit the lines above" if is_indented else problem.problem
        return f"line {mark.line + 1}, column {mark.column + 1}: {words}"[:160]
    return " ".join(str(problem).split())[:160]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Convert (name, value) pairs to a dictionary.

    Raises:
        ConfigError: a name occurs twice.
    """
    record: dict[str, Any] = {}
    for name, value in pairs:
        if name in record:
            raise ConfigError(f"{name} must be given only once in a configuration file, got it again; leave one of them out.")
        record[name] = value
    return record


def _checked(name: str, value: Any, expected: type | tuple[type, ...], words: str) -> Any:
    if not isinstance(value, expected):
        raise ConfigError(f"{name} in a configuration file must be {words}, got {shortened(value)}; {ADVICE}.")
    return value


def settings_from(cls: type[RunConfig], where: str, values: Any) -> dict[str, Any]:
    """Return {name of the setting: value} from an entry of a configuration file. Texts are converted by `value_of`.

    Args:
        cls: configuration class of the settings.
        where: name of the entry, for error messages.
        values: content of the entry; None if the entry is missing.

    Raises:
        ConfigError: the content is not an object, or contains `dataset`, which must be a separate entry of the file.
    """
    settings = dict(_checked(where, values or {}, dict, "settings by name"))
    if "dataset" in settings:
        raise ConfigError(f"dataset must be an entry of its own in a configuration file, got it in {where}; move it out.")
    return {name: value_of(cls.model_fields[name], value) if isinstance(value, str) and name in cls.model_fields else value
            for name, value in settings.items()}
