"""Documentation of the run log's tables, for users who write queries: one sentence for each table and column.

The texts about events come from the declarations of the events (`engine.run.event_kinds`). All other texts are in this module.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from engine.log.schema import EVENT, KEYS, TABLES
from engine.run.event import Event, Stamp
from engine.run.event_fields import fields_of
from engine.run.event_kinds import KINDS, Progress

NUMBER = "Number of the run in this index; join it with `folder` to get the run's id."
SEQ = "Position of the line in events.jsonl, in bytes."
OWN = {
    "folder": ("One row per run.", {
        "number": "Number of the run in this index, which joins all tables; it changes when the index is rebuilt.",
        "run": "Id of the run, the name of its folder.", "stamp": "Stamp of run.json, to notice changes.",
        "kind": "search, retrain or attack.", "method": "Search method, such as arnas; null for other runs.",
        "title": "Title that pages show.", "preset": "quick, scout, paper or smoke.", "dataset": "Name of the dataset.",
        "parent": "Id of the run that this one follows.", "created": "When it was launched, in seconds since 1970.",
        "command": "Command that launches the same run.", "config": "All settings, as JSON: config->>'$.seed'.",
        "document": "The whole run.json, as JSON.", "study": "Id of the study that launched it.",
        "example": "True for runs of the example study.", "problem": "Why run.json cannot be used; null if it can.",
        "tags": "Tags of the run, separated by spaces.", "note": "The note on the run.",
        "archived": "True if the run is archived."}),
    "accuracy": ("Mean accuracies of each epoch of searches and retrainings.", {
        "split": "Split they were measured on: alphas or select.", "epoch": "Epoch, from 1; 0 before the first.",
        "natural_accuracy": "Fraction of natural images classified correctly, 0..1.",
        "adversarial_accuracy": "Fraction of attacked images classified correctly, 0..1.",
        "natural_sum": "Sum of the natural accuracies of the steps.", "natural_count": "How many steps have one.",
        "adversarial_sum": "Sum of the adversarial accuracies of the steps.", "adversarial_count": "How many steps have one.",
        "last_step": "Last step in the sums."}),
    "progress": ("Latest progress of each attempt.", {
        "attempt": "Number of the start of the worker, from 1.", "t": "Time, in seconds since 1970.",
        "trail_t": "Times of earlier progress of the last two minutes.", "trail_done": "Units done at those times."}),
    "faults": ("Lines of events.jsonl, and files of outcomes, that cannot be used.", {"sentence": "Why not."}),
    "ingest": ("How far each events.jsonl has been read.", {
        "bytes_done": "Bytes read.", "size": "Size of the file, in bytes.", "mtime_ns": "Its time of change, in ns.",
        "inode": "Its number in the file system.", "head": "Hash of its first bytes.", "last_t": "Time of its last event."}),
}
# Meanings of columns whose declaration refers to the fields of the event.
ROWS = {
    "metric": {"split": "Split it was measured on: weights, alphas or select.",
               "statistics": "Statistics that batch normalization used: batch or running.",
               "name": "What was measured, such as natural_loss or adversarial_accuracy.",
               "value": "The value; accuracies are fractions in 0..1."},
    "alpha": {"cell": "Cell kind, such as normal, reduce or robust.", "primitives": "Names of the operations of an edge.",
              "alpha": "Architecture weights before the softmax, edge after edge: [edges * primitives]."},
    "objective": {"loss": "Loss of the objective.", "weight": "Its weight in the combined gradient.",
                  "norm": "Norm of its gradient with respect to alpha."},
}


class ColumnDoc(NamedTuple):
    """A column of a table: name, DuckDB type, and meaning in a sentence."""

    name: str
    type: str
    meaning: str


class TableDoc(NamedTuple):
    """A table or view that queries can read: name, meaning and columns."""

    name: str
    meaning: str
    columns: tuple[ColumnDoc, ...]


def tables() -> list[TableDoc]:
    """Return all tables that are useful in queries: first those about runs, then those about events, then bookkeeping.

    If a table of events has a view, in which each step occurs once, the view is returned in place of the table.
    """
    events = [_event_table(name, [kind for kind in KINDS.values() if kind.table == name and kind is not Progress])
              for name in dict.fromkeys(kind.table for kind in KINDS.values() if kind is not Progress)]
    own = [_own_table(name) for name in OWN]
    return [*own[:2], *events, *own[2:]]


def _own_table(name: str) -> TableDoc:
    meaning, texts = OWN[name]
    known = {"number": NUMBER, "seq": SEQ, **(dict(_meanings(Progress)) if name == "progress" else {}), **texts}
    return TableDoc(name, meaning, tuple(ColumnDoc(column, kind, known[column]) for column, kind in TABLES[name].items()))


def _event_table(name: str, kinds: list[type[Event]]) -> TableDoc:
    viewed = name in KEYS or name == "metric"
    known = {"number": NUMBER, "seq": SEQ, **dict(_meanings(Stamp))}
    for kind in kinds:
        known |= dict(_meanings(kind.row or kind))
    known |= ROWS.get(name, {})
    note = f" {name}_raw also holds steps that a resumed run repeated." if viewed else ""
    source = kinds[0] if len(kinds) == 1 else kinds[0].row or kinds[0]
    types = EVENT | kinds[0].columns()
    if name == "metric":
        del types["seq"]  # the view merges lines
    return TableDoc(name if viewed else f"{name}_raw", " ".join(_docstrings(source.__module__)[source.__name__].split()) + note,
                    tuple(ColumnDoc(column, kind, known[column]) for column, kind in types.items()))


@cache
def _docstrings(module: str) -> dict[str, str]:
    """Return {name of a class: its docstring} of a module, from its source, because the dashboard's Python drops docstrings."""
    classes = (node for node in ast.parse(inspect.getsource(sys.modules[module])).body if isinstance(node, ast.ClassDef))
    return {node.name: ast.get_docstring(node) or "" for node in classes}


def _meanings(declaration: type) -> Iterator[tuple[str, str]]:
    """Yield (column, meaning) for all columns of a declaration.

    A declaration is an event, a row in a list of an event, or the fields that all events share.
    """
    for field in fields_of(declaration):
        for place, column in enumerate(field.type.columns(field.name)):
            yield column, field.meaning if place == 0 else _further(column)


def _further(column: str) -> str:
    """Return the meaning of a column that is not the first column of its field.

    The declaration of a field documents only the field's first column. A further column holds a genotype's hash, or the lower or
    upper end of an interval.
    """
    if column == "hash":
        return "Hash of the genotype, its permanent identifier."
    return f"{'Lower' if column.endswith('_low') else 'Upper'} end of the accuracy's 95 % Wilson interval."
