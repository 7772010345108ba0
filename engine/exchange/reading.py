"""Genotypes in files of public code: JSON, `genotypes.py`, and the lines of `log.txt`. Nothing in them is executed.

The DARTS family prints `Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=range(2, 6), ...)`; such text is parsed as
a call and each argument read as a literal.

Cell names: files of ARNAS name their cells accurate, reduce and robust, files of the DARTS family normal and reduce; both are
kept. DSARA's public code (in-situflash/DSARA) names the same three cells normal, reduce and robust and places them the other
way round: its robust cells come before the second reduction, where ARNAS places accurate ones, and its normal cells after it,
where ARNAS places robust ones. So its robust becomes accurate and its normal becomes robust.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from engine.architecture.genotype import Genotype
from engine.errors import ConfigError, GenotypeError, shortened
from engine.registry import unknown_name

LARGEST_TEXT = 64 * 2**20  # bytes
_LONGEST_CALL = 20_000  # characters; a genotype of four nodes and three cells takes 1,000
_EPOCH = re.compile(r"\bepoch[\s:=]+(\d{1,6})\b", re.IGNORECASE)
_TRAINED = re.compile(r"\btrain_acc\b", re.IGNORECASE)  # the line after an epoch's training
_CONCAT = "_concat"
_KINDS_OF_DSARA = {"normal": "robust", "reduce": "reduce", "robust": "accurate"}  # DSARA's name -> ARNAS's


@dataclass(frozen=True)
class Reading:
    """A genotype as a file gives it.

    Attributes:
        genotype: with the cell names of ARNAS or DARTS.
        renamed: True if the file has DSARA's cell names.
        epochs: epochs of training done when a log printed it; 0 for a file without epochs.
    """

    genotype: Genotype
    renamed: bool
    epochs: int = 0


@dataclass(frozen=True)
class _Entry:
    """A genotype of a file: its names there, first the one it was defined under, and the function that reads it."""

    read: Callable[[], Reading]
    names: list[str] = field(default_factory=list)


def read_text(path: Path) -> str:
    """Return the whole content of a text file.

    Raises:
        ConfigError: no such file, larger than `LARGEST_TEXT`, or not UTF-8.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST_TEXT:
            raise ConfigError(f"A text file to import must be at most {LARGEST_TEXT // 2**20} MiB, {path.name} has "
                              f"{size / 2**20:.0f} MiB; is it a log.txt, genotypes.py or JSON?")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"A genotype or log must be text in UTF-8, {path.name} is not; import a checkpoint with "
                          "--as checkpoint.") from None
    except OSError as problem:
        raise unreadable(path, problem) from None


def unreadable(path: Path, problem: OSError) -> ConfigError:
    """Return the error for a file that cannot be opened."""
    return ConfigError(f"The file to import must be readable, {path} is not ({problem.strerror or problem}); correct the path.")


def genotype_in(text: str, name: str | None = None) -> tuple[str | None, Reading]:
    """Return a file's genotype and its name there (None if it has none).

    A file is a JSON record, {name: record} as JSON, or Python with `NAME = Genotype(...)` and aliases (`DARTS = DARTS_V2`).
    A genotype with several names counts once.

    Args:
        text: the file's content.
        name: the genotype to read; needed where there are several.

    Raises:
        GenotypeError: no genotype, several without `name`, an alias of something else, or one that is not valid.
        ConfigError: an unknown `name`.
    """
    entries = _of_json(text) if text.lstrip()[:1] == "{" else _of_python(text, name)
    if name is not None:
        named = {key: entry for entry in entries for key in entry.names}
        if name not in named:
            raise ConfigError(unknown_name("genotype in this file", name, named))
        return name, named[name].read()
    if len(entries) != 1:
        names = ", ".join(" = ".join(entry.names) or "one without a name" for entry in entries[:8])
        got = f"{len(entries)} ({names}{', ...' if len(entries) > 8 else ''}); choose one of them with --name" if entries else \
            "none; give a file with one"
        raise GenotypeError(f"A file to import must hold one genotype, as JSON or as Genotype(...), got {got}.")
    return entries[0].names[0] if entries[0].names else None, entries[0].read()


def epochs_in(text: str) -> list[Reading]:
    """Return the genotypes of a search's log, one per epoch, in the order of the epochs.

    Public code prints "epoch E lr ..." and the genotype of the current weights, trains, and prints "train_acc". A genotype
    before that last line follows E epochs of training, one after it E + 1. Where several have the same number, the last one
    counts. Lines without an epoch are numbered from 0.

    Raises:
        GenotypeError: no genotype, an incomplete or invalid one, other cell kinds than before, or epochs that go backwards.
    """
    lines = list(_genotype_lines(text))
    if not lines:
        raise GenotypeError("A search's log must have lines such as 'genotype = Genotype(normal=[...], ...)', got none; is it "
                            "the log of a search? A retraining's log has no genotype: import its checkpoint.")
    readings: dict[int, Reading] = {}
    for place, (number, told, call) in enumerate(lines):
        epochs = place if told is None else told
        reading = _of_line(number, call, epochs)
        kinds = reading.genotype.kinds
        if readings and epochs < (last := next(reversed(readings))):
            raise GenotypeError(f"The epochs of a log must go forwards, got {epochs} after {last} in line {number}; is it the "
                                "log of several searches? Split it.")
        if readings and kinds != next(iter(readings.values())).genotype.kinds:
            raise GenotypeError(f"A log must keep its cell kinds, got {', '.join(kinds)} in line {number}; is it the log of "
                                "several searches? Split it.")
        readings[epochs] = reading
    return list(readings.values())


def _of_line(number: int, call: str, epochs: int) -> Reading:
    try:
        return _of_call(ast.parse(call, mode="eval").body, epochs)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise GenotypeError(f"Line {number} of the log must hold a whole Genotype(...), got {shortened(call)}; was it cut?"
                            ) from None
    except GenotypeError as problem:
        raise GenotypeError(f"Line {number} of the log: {problem}") from None


def _genotype_lines(text: str) -> Iterator[tuple[int, int | None, str]]:
    """Yield (line number, epochs done or None if no epoch was named, text of the call) for every line with a genotype."""
    epoch: int | None = None
    trained = False
    for number, line in enumerate(text.splitlines(), start=1):
        start = line.find("Genotype(")
        if start >= 0:
            yield number, None if epoch is None else epoch + trained, line[start:][:_LONGEST_CALL].strip()
            continue
        told = _EPOCH.search(line)
        if told and int(told[1]) != epoch:
            epoch, trained = int(told[1]), False
        trained = trained or (epoch is not None and _TRAINED.search(line) is not None)


def _of_json(text: str) -> list[_Entry]:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return [_Entry(lambda: Reading(Genotype.from_json(text), renamed=False))]  # raises the sentence for such text
    if record and all(isinstance(value, dict) for value in record.values()):
        return [_Entry(partial(_of_record, value), [key]) for key, value in record.items()]
    return [_Entry(partial(_of_record, record))]


def _of_python(text: str, name: str | None) -> list[_Entry]:
    """Return the genotypes of a module's top level, in order. An assignment of a known name makes an alias of it.

    Raises:
        GenotypeError: no Python, or `name` is an alias of nothing that came before it (in a cycle, for example).
    """
    entries: list[_Entry] = []
    by_name: dict[str, _Entry] = {}
    for targets, value in _assignments(text):
        entry: _Entry | None = None
        if _is_genotype(value):
            entry = _Entry(partial(_of_call, value))
            entries.append(entry)
        elif isinstance(value, ast.Name):
            entry = by_name.get(value.id)
            if entry is None and name in targets:
                raise GenotypeError(f"{name} must be a genotype, got another name of {value.id}, which is none above line "
                                    f"{value.lineno}; write Genotype(...) out or choose another name.")
        for target in targets:
            if target in by_name:
                by_name[target].names.remove(target)
            if entry is not None:
                by_name[target] = entry
                entry.names.append(target)
    return entries


def _assignments(text: str) -> Iterator[tuple[list[str], ast.expr | None]]:
    """Yield (names, value) for every statement at a module's top level that has a value; bare expressions have no names."""
    try:
        module = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as problem:
        raise GenotypeError(f"A file of genotypes must be JSON or Python, and it is neither ({shortened(str(problem))}); is it a "
                            "log? Give --as log.") from None
    for node in module.body:
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.Expr)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
            yield [target.id for target in targets if isinstance(target, ast.Name)], node.value


def _is_genotype(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Genotype"


def _of_call(node: ast.expr | None, epochs: int = 0) -> Reading:
    """Read Genotype(kind=[...], kind_concat=[...] or range(...), ...).

    Raises:
        GenotypeError: any other expression, or a genotype that is not valid.
    """
    if not isinstance(node, ast.Call) or not _is_genotype(node) or node.args or any(one.arg is None for one in node.keywords):
        raise GenotypeError("A genotype in Python must be written Genotype(normal=[...], normal_concat=[...], ...), got another "
                            "expression; name every field.")
    return _of_record({one.arg: _literal(one.value, str(one.arg)) for one in node.keywords}, epochs)


def _of_record(record: dict[Any, Any], epochs: int = 0) -> Reading:
    """Read {kind: edges, kind_concat: states, ...}; DSARA's three kinds become ARNAS's (see the module)."""
    kinds = {name for name in record if not str(name).endswith(_CONCAT)}
    renamed = kinds == set(_KINDS_OF_DSARA)
    if renamed:
        record = {_name_of_arnas(str(name)): value for name, value in record.items()}
    return Reading(Genotype.from_dict(record), renamed, epochs)


def _name_of_arnas(name: str) -> str:
    kind = name.removesuffix(_CONCAT)
    return _KINDS_OF_DSARA.get(kind, kind) + name[len(kind):]


def _literal(node: ast.expr, name: str) -> Any:
    """Return the value of a literal, range(...) or list(...). `name`: the field it belongs to, for the message."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("range", "list"):
        inner = [_literal(argument, name) for argument in node.args]
        if node.func.id == "list" and len(inner) == 1:
            return inner[0]
        if inner and len(inner) <= 3 and all(type(number) is int and abs(number) < 100 for number in inner) and inner[2:] != [0]:
            return list(range(*inner))
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise GenotypeError(f"{name} of a genotype must be written out, such as [2, 3, 4, 5] or range(2, 6), got an expression; "
                            "replace it by its value.") from None
