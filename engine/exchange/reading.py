"""Reading of genotypes from files of public code: JSON, `genotypes.py` and `log.txt`. Nothing in the files is executed.

The codes of the DARTS family print `Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=range(2, 6), ...)`. Such text is
parsed as a Python call, and each argument is read as a literal.

Names of cells:
* ARNAS (accurate, reduce, robust) and the DARTS family (normal, reduce): the names are kept.
* DSARA (robust, reduce, normal; repository in-situflash/DSARA): "robust" is read as "accurate", and "normal" as "robust", because
  these cells are at the positions that ARNAS's accurate and robust cells have.
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
MOST_EPOCHS = 10_000  # the most that the settings of our own searches allow
_LONGEST_CALL = 20_000  # in characters; a genotype with three cells of four nodes has about 1,000
_EPOCH = re.compile(r"\bepoch[\s:=]+(\d{1,6})\b", re.IGNORECASE)
_TRAINED = re.compile(r"\btrain_acc\b", re.IGNORECASE)  # printed when the training of an epoch ends
_CONCAT = "_concat"
_KINDS_OF_DSARA = {"normal": "robust", "reduce": "reduce", "robust": "accurate"}  # maps DSARA's names to ARNAS's


@dataclass(frozen=True)
class Reading:
    """A genotype read from a file.

    Attributes:
        genotype: the genotype, with the cell names of ARNAS or DARTS.
        renamed: True if the file uses DSARA's cell names. They have been replaced by ARNAS's cell names.
        epochs: number of training epochs completed when the log printed the genotype; 0 for a file without epochs.
    """

    genotype: Genotype
    renamed: bool
    epochs: int = 0


@dataclass(frozen=True)
class _Entry:
    """A genotype that was found in a file but has not been parsed yet.

    Attributes:
        read: function that parses the genotype and returns it.
        names: names of the genotype in the file. The name under which the genotype is defined comes first, and aliases follow.
    """

    read: Callable[[], Reading]
    names: list[str] = field(default_factory=list)


def read_text(path: Path) -> str:
    """Return the whole content of a text file.

    Raises:
        ConfigError: the file cannot be read, has more than `LARGEST_TEXT` bytes, or is not UTF-8 text.
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
    """Return the error to raise for a file that cannot be opened. `problem` is the error from the operating system."""
    return ConfigError(f"The file to import must be readable, {path} is not ({problem.strerror or problem}); correct the path.")


def genotype_in(text: str, name: str | None = None) -> tuple[str | None, Reading]:
    """Read one genotype from the content of a file.

    The file can be one genotype as JSON, a JSON object that maps names to genotypes, or Python with `NAME = Genotype(...)`. In
    Python, a line such as `DARTS = DARTS_V2` gives a genotype another name.

    Args:
        text: content of the file.
        name: name of the genotype to read. Required if the file contains several genotypes.

    Returns:
        name: the name of the genotype in the file; None if the genotype has no name.
        reading: the genotype, with facts about how it was read.

    Raises:
        GenotypeError: the file contains no genotype, the file contains several genotypes and `name` is None, the genotype is not
            valid, or `name` is an alias of something that is not a genotype.
        ConfigError: the file has no genotype called `name`.
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
    """Read the genotypes in the log of a search, at most one for each number of completed epochs, in ascending order.

    In each epoch E, public code prints "epoch E lr ..." and the current genotype. After the training, it prints "train_acc".
    * A genotype before the line with "train_acc" has E completed epochs, and a genotype after this line has E + 1.
    * If no line before a genotype names an epoch, its number of completed epochs is its position among all genotypes, from 0.
    * If several genotypes have the same number of completed epochs, only the last one is returned.

    Raises:
        GenotypeError: the log contains no genotype, a genotype is incomplete or invalid, two genotypes have different cell kinds,
            or the epochs go backwards.
    """
    lines = list(_genotype_lines(text))
    if not lines:
        raise GenotypeError("A search's log must have lines such as 'genotype = Genotype(normal=[...], ...)', got none; is it "
                            "the log of a search? A retraining's log has no genotype: import its checkpoint.")
    if len(lines) > MOST_EPOCHS:
        raise GenotypeError(f"A log must have at most {MOST_EPOCHS:,} epochs, got {len(lines):,}; import only the last part "
                            "of it.")
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
    """Yield one tuple for every line that contains a genotype.

    The tuple is (line number, number of completed epochs, text from "Genotype(" on). The number of epochs is None if the log has
    not named an epoch before that line.
    """
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
        return [_Entry(lambda: Reading(Genotype.from_json(text), renamed=False))]  # raises an error that describes such text
    if record and all(isinstance(value, dict) for value in record.values()):
        return [_Entry(partial(_of_record, value), [key]) for key, value in record.items()]
    return [_Entry(partial(_of_record, record))]


def _of_python(text: str, name: str | None) -> list[_Entry]:
    """Find the genotypes at the top level of a Python module, in order. An assignment `A = B` makes A an alias of genotype B.

    Args:
        text: source text of the module.
        name: name of the genotype that the caller wants, or None.

    Raises:
        GenotypeError: the text is not Python, or `name` is an alias of something that is not a genotype defined above the alias.
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
    """Yield (assigned names, value) for every assignment and every expression at the top level of a Python module.

    A plain expression has no assigned names.
    """
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
    """Read a genotype from a Python call such as Genotype(normal=[...], normal_concat=range(2, 6), ...).

    `epochs` is the number of completed training epochs to record in the result.

    Raises:
        GenotypeError: the expression is not such a call, or the genotype is not valid.
    """
    if not isinstance(node, ast.Call) or not _is_genotype(node) or node.args or any(one.arg is None for one in node.keywords):
        raise GenotypeError("A genotype in Python must be written Genotype(normal=[...], normal_concat=[...], ...), got another "
                            "expression; name every field.")
    return _of_record({one.arg: _literal(one.value, str(one.arg)) for one in node.keywords}, epochs)


def _of_record(record: dict[Any, Any], epochs: int = 0) -> Reading:
    """Read a genotype from a dict with the entries KIND (edges) and KIND_concat (states) for each cell kind.

    DSARA's names of cell kinds are replaced by ARNAS's, as the docstring of this module explains. `epochs` is the number of
    completed training epochs to record in the result.
    """
    kinds = {name for name in record if not str(name).endswith(_CONCAT)}
    renamed = kinds == set(_KINDS_OF_DSARA)
    if renamed:
        record = {_name_of_arnas(str(name)): value for name, value in record.items()}
    return Reading(Genotype.from_dict(record), renamed, epochs)


def _name_of_arnas(name: str) -> str:
    kind = name.removesuffix(_CONCAT)
    return _KINDS_OF_DSARA.get(kind, kind) + name[len(kind):]


def _literal(node: ast.expr, name: str) -> Any:
    """Return the value of a literal, or of range(...) or list(...) with literal arguments, without executing it.

    `name` is the field of the genotype to which the value belongs, for the error message.
    """
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
