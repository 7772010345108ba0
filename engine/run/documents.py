"""The fields of the small JSON files of a run, which `engine.run.folder.read_json` checks whenever it reads one.

All readers can therefore trust the types of these fields, and a file damaged by another program affects only one run. Fields that
are not listed, and files with other names, may hold any values that `engine.run.values` allows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from engine.run.values import is_number, is_time, is_whole

# The kinds of run, as in `engine.config.run`. Importing that module would take longer than all other imports of the supervisor,
# and the user waits for the supervisor to start after a click on Launch.
KINDS = ("search", "retrain", "attack")

SCHEMA = 1
MOST_ATTEMPTS = 1_000_000


class Kind(NamedTuple):
    """A type of field: a function that tests a value, and the words that describe the type in messages."""

    fits: Callable[[Any], bool]
    words: str


def _list_of(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(fits, value))


def _of(*types: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, types)


def _is_settings(value: Any) -> bool:
    """Return True for an object in which every value is a plain value or a list of plain values, as in all settings."""
    return isinstance(value, dict) and all(not isinstance(part, (dict, list)) for one in value.values()
                                           for part in (one if isinstance(one, list) else [one]))


TEXT = Kind(_of(str), "text")
SETTINGS = Kind(_is_settings, "an object of settings, each a plain value or a list")
OBJECT = Kind(_of(dict), "an object")
FLAG = Kind(_of(bool), "true or false")
TIME = Kind(is_time, "unix seconds")
WHOLE = Kind(is_whole, "a whole number")
COUNT = Kind(lambda value: is_whole(value, 1, 2**31), "a whole number of at least 1")
ATTEMPT = Kind(lambda value: is_whole(value, 0, MOST_ATTEMPTS), f"a whole number in 0..{MOST_ATTEMPTS:,}")
PID = Kind(lambda value: is_whole(value, 0, 2**31), "a process id")
SEED = Kind(lambda value: is_whole(value, -2**31, 2**31 - 1), "a whole number of 32 bits")
TEXTS = Kind(_list_of(_of(str)), "a list of texts")
WHOLES = Kind(_list_of(is_whole), "a list of whole numbers")
STATUS = Kind(lambda value: value in ("finished", "stopped", "failed"), "finished, stopped or failed")
RUN_KIND = Kind(lambda value: value in KINDS, f"one of {', '.join(KINDS)}")
VERSION = Kind(lambda value: is_whole(value, SCHEMA, SCHEMA), f"{SCHEMA}")

# {name of a file: {field, or path in nested objects: type}}. A field that is absent or null is not checked here.
FIELDS: dict[str, dict[str, Kind]] = {
    "run.json": {
        "schema": VERSION, "id": TEXT, "kind": RUN_KIND, "config": SETTINGS, "created": TIME, "split_seed": SEED, "method": TEXT,
        "title": TEXT, "preset": TEXT, "parent": TEXT, "command": TEXT, "code": OBJECT, "packages": OBJECT, "study": OBJECT,
        "imported": OBJECT, "children_of_chain": Kind(_list_of(_of(str)), "a list of ids"),
        # the settings that are read before a worker validates the whole configuration
        "config.dataset": TEXT, "config.device": TEXT, "config.threads": COUNT, "config.processes": COUNT, "config.seed": SEED,
        "config.split_seed": SEED,
        "study.id": TEXT, "study.since": TIME, "study.place": WHOLES, "study.example": FLAG, "code.version": TEXT,
        "code.diff": TEXT, "code.numerics": TEXT, "imported.file": TEXT, "imported.sha256": TEXT, "imported.as": TEXT},
    "process.json": {
        "attempt": ATTEMPT, "pid": PID, "create_time": Kind(is_number, "a number"), "boot_id": TEXT, "started": TIME,
        "device": TEXT, "devices": TEXTS, "threads": COUNT, "processes": COUNT, "launcher": TEXT, "waits": TEXT, "job": TEXT,
        "ticket": TEXT, "cluster": TEXT},
    "exit.json": {"attempt": ATTEMPT, "code": WHOLE, "status": STATUS, "cause": TEXT, "ended": TIME, "last_lines": TEXTS},
    "ended.json": {"attempt": ATTEMPT, "status": STATUS, "cause": TEXT, "ended": TIME},
    "environment.json": {"threads": COUNT, "processes": COUNT, "device": TEXT, "device_name": TEXT, "versions": OBJECT,
                         "backends": TEXTS},
    "resume": {"at": TIME, "after_attempt": ATTEMPT, "processes": COUNT},
    "pulled.json": {"number": WHOLE, "version": TEXT, "attempt": ATTEMPT},
    "force": {"at": TIME, "attempt": ATTEMPT},
    "stop": {"at": TIME},
}
# {name of a file: fields that it must have}
REQUIRED = {"run.json": ("id", "kind", "config", "created"), "process.json": ("attempt",), "exit.json": ("attempt",),
            "pulled.json": ("number", "attempt")}


def misfit(name: str, record: Mapping[str, Any], where: str) -> str:
    """Return a phrase about the first wrong field of the file `name`: "FIELD in WHERE must be ..., got ..."; else ""."""
    for field, kind in FIELDS.get(name, {}).items():
        outer, _, inner = field.rpartition(".")
        holder = record.get(outer) if outer else record
        value = holder.get(inner) if isinstance(holder, dict) else None
        if not kind.fits(value) if value is not None else not outer and inner in REQUIRED.get(name, ()):
            return f"{field} in {where} must be {kind.words}, got {value!r:.60}"
    return ""
