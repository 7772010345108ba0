"""Genotypes out of the files of public code: JSON, `genotypes.py`, and the lines of `log.txt`. Nothing in them is executed.

The DARTS family prints `Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=range(2, 6), ...)`; such text is parsed as
a call and each argument read as a literal.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.architecture.genotype import Genotype
from engine.errors import ConfigError, GenotypeError, shortened
from engine.registry import unknown_name

LARGEST_TEXT = 64 * 2**20  # bytes
_LONGEST_CALL = 20_000  # characters; a genotype of four nodes and three cells takes 1,000
_EPOCH = re.compile(r"\bepoch[\s:=]+(\d{1,6})\b", re.IGNORECASE)
_TRAINED = re.compile(r"\btrain_acc\b", re.IGNORECASE)  # the line behind an epoch's training


@dataclass(frozen=True)
class Epoch:
    """What a search's log says of its architecture.

    Attributes:
        epochs: how many epochs of training were done when it was printed.
        genotype: what the architecture weights gave then.
    """

    epochs: int
    genotype: Genotype


def read_text(path: Path) -> str:
    """A text file of other people, whole.

    Raises:
        ConfigError: not there, too large, or no text.
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
    """The sentence for a file that cannot be opened."""
    return ConfigError(f"The file to import must be one that can be read, {path} is not ({problem.strerror or problem}); correct "
                       "the path.")


def genotype_in(text: str, name: str | None = None) -> tuple[str | None, Genotype]:
    """The genotype of a file, with its name there: a JSON record, {name: record} as JSON, or `NAME = Genotype(...)` in Python.

    Args:
        text: the file's content.
        name: which one, where there are several.

    Raises:
        GenotypeError: none, several and no name, or one that is not valid.
        ConfigError: a name that is not there.
    """
    found = _of_json(text) if text.lstrip()[:1] == "{" else _of_python(text)
    if name is not None:
        named = {key: read for key, read in found if key is not None}
        if name not in named:
            raise ConfigError(unknown_name("genotype in this file", name, named))
        return name, named[name]()
    if len(found) != 1:
        names = ", ".join(str(key) for key, _ in found[:8]) + (", ..." if len(found) > 8 else "")
        got = f"{len(found)} ({names}); name one of them with --name" if found else "none; give a file with one"
        raise GenotypeError(f"A file to import must hold one genotype, as JSON or as Genotype(...), got {got}.")
    key, read = found[0]
    return key, read()


def epochs_in(text: str) -> list[Epoch]:
    """The genotype lines of a search's log, one per epoch, in the order of the epochs.

    The public code prints "epoch E lr ...", then the genotype of the weights as they are, then trains and prints "train_acc":
    a genotype before that line stands for E epochs of training, one behind it for E + 1. Of several with the same number the
    last counts. Lines without any epoch are numbered from 0.

    Raises:
        GenotypeError: no such line, a line that is no genotype, other cell kinds than before, or epochs that go backwards.
    """
    lines = list(_genotype_lines(text))
    if not lines:
        raise GenotypeError("A search's log must have lines such as 'genotype = Genotype(normal=[...], ...)', got none; is it "
                            "the log of a search? A retraining's has no genotype: import its checkpoint.")
    found: dict[int, Genotype] = {}
    for place, (number, epochs, call) in enumerate(lines):
        epochs = place if epochs is None else epochs
        try:
            genotype = _of_call(ast.parse(call, mode="eval").body)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise GenotypeError(f"Line {number} of the log must hold a whole Genotype(...), got {shortened(call)}; was it cut?"
                                ) from None
        except GenotypeError as problem:
            raise GenotypeError(f"Line {number} of the log: {problem}") from None
        if found and epochs < (last := next(reversed(found))):
            raise GenotypeError(f"The epochs of a log must go forwards, got {epochs} behind {last} in line {number}; is it the "
                                "log of several searches? Split it.")
        if found and genotype.kinds != next(iter(found.values())).kinds:
            raise GenotypeError(f"A log must keep its cell kinds, got {', '.join(genotype.kinds)} in line {number}; is it the "
                                "log of several searches? Split it.")
        found[epochs] = genotype
    return [Epoch(epochs, genotype) for epochs, genotype in found.items()]


def _genotype_lines(text: str) -> Iterator[tuple[int, int | None, str]]:
    """(line number, epochs done or None where no epoch was named, text of the call) of every line with a genotype."""
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


def _of_json(text: str) -> list[tuple[str | None, Any]]:
    """(name, reader) of each genotype; a reader is called only for the one that is chosen."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        record = None
    is_collection = isinstance(record, dict) and record and all(isinstance(value, dict) for value in record.values())
    if is_collection:
        return [(str(key), lambda value=value: Genotype.from_dict(value)) for key, value in record.items()]
    return [(None, lambda: Genotype.from_json(text))]


def _of_python(text: str) -> list[tuple[str | None, Any]]:
    """As `_of_json`, of a module's assignments, or of one bare Genotype(...)."""
    try:
        module = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as problem:
        raise GenotypeError(f"A file of genotypes must be JSON or Python, and it is neither ({shortened(str(problem))}); is it a "
                            "log? Give --as log.") from None
    found: list[tuple[str | None, Any]] = []
    for node in module.body:
        value = getattr(node, "value", None)
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.Expr)) and _is_genotype(value):
            target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
            found.append((target.id if isinstance(target, ast.Name) else None, lambda value=value: _of_call(value)))
    return found


def _is_genotype(node: Any) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Genotype"


def _of_call(node: Any) -> Genotype:
    """Raises GenotypeError for anything but Genotype(kind=[...], kind_concat=[...] or range(...), ...)."""
    if not _is_genotype(node) or node.args or any(one.arg is None for one in node.keywords):
        raise GenotypeError("A genotype in Python must be written Genotype(normal=[...], normal_concat=[...], ...), got another "
                            "expression; name every field.")
    return Genotype.from_dict({one.arg: _literal(one.value, str(one.arg)) for one in node.keywords})


def _literal(node: ast.expr, field: str) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("range", "list"):
        inner = [_literal(argument, field) for argument in node.args]
        if node.func.id == "list" and len(inner) == 1:
            return inner[0]
        if inner and len(inner) <= 3 and all(type(number) is int and abs(number) < 100 for number in inner) and inner[2:] != [0]:
            return list(range(*inner))
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise GenotypeError(f"{field} of a genotype must be written out, such as [2, 3, 4, 5] or range(2, 6), got an expression; "
                            "replace it by its value.") from None
