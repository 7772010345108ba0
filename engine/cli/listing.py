"""Functions that format tables and values for printed lists, for example the list of runs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from engine.attack.statistics import accuracy_words

if TYPE_CHECKING:
    import pyarrow as pa


def table_text(rows: Sequence[Sequence[str]]) -> str:
    """Format rows as a table with left-aligned columns, two spaces apart."""
    if not rows:
        return ""
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def accuracy_text(row: dict[str, Any], name: str) -> str:
    """Format the accuracy of a run.

    An accuracy on the test split is followed by its interval and number of images. An accuracy on another split is followed by
    the name of the split and the words "not a result".

    Args:
        row: row of the run, from `RunLog.runs`.
        name: "natural" or "adversarial".
    """
    value, low, images = (row[f"{name}_{end}"] for end in ("accuracy", "low", "images"))
    if not share_text(value):
        return ""
    if not share_text(low):
        split = str(row["accuracy_of"]).partition(",")[0].removesuffix(" split")
        return f"{share_text(value)} ({split} split, not a result)"
    return accuracy_words(round(value * images), int(images))


def share_text(value: Any) -> str:
    """Format a fraction in 0..1 as a percentage with one decimal; None and NaN give an empty text."""
    return "" if value is None or math.isnan(value) else f"{100 * value:.1f} %"


def json_value(value: Any) -> Any:
    """Convert a cell of a pandas table to a value that JSON can store. NaN becomes None."""
    if isinstance(value, float) and math.isnan(value):
        return None
    return value.item() if hasattr(value, "item") else value


def answer_text(table: pa.Table, form: str, **facts: Any) -> str:
    """Format the rows of an SQL query.

    Args:
        table: the rows.
        form: "text", "json" or "csv". JSON has the keys columns and rows (a list of objects), and the entries of `facts`.
        facts: further entries of the JSON object, for example the duration of the query.
    """
    if form == "csv":
        from engine.report.records import csv_of  # imports pyarrow, which most verbs do not need

        return csv_of(table).decode().rstrip("\r\n")
    if form == "json":
        rows = [{name: json_value(value) for name, value in row.items()} for row in table.to_pylist()]
        return json.dumps({"columns": table.column_names, "rows": rows, **facts}, default=str)
    lines = [["" if value is None else " ".join(str(value).split()) for value in row.values()] for row in table.to_pylist()]
    return table_text([table.column_names, *lines])
