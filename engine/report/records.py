"""A robustness table for machines: CSV, Parquet and JSON with all numbers at full precision.

CSV and Parquet have one record per network, in the order of the table. After several networks that differ only in their seeds,
one more record gives the mean and the standard deviation of each accuracy. Older results, if the table has them, follow the
record of their network.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from engine.report.latency import latency_columns
from engine.report.marks import letters_of
from engine.report.robustness import Distinctions, NetworkRow, RobustnessTable, SeedGroup

NETWORK, OLDER, MEAN = "network", "older", "mean"
# A spreadsheet runs a cell that begins with one of these as a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")

Fields = dict[str, tuple[pa.DataType, Any]]  # name -> (type, value) of one record


def records(table: RobustnessTable, compared: Sequence[Distinctions], openings: int) -> pa.Table:
    """Return a robustness table as an Arrow table.

    Args:
        table: the robustness table.
        compared: paired comparisons of the networks, one for each column in which they are compared. Networks that cannot be told
            apart share a letter.
        openings: number of times that the test split was opened.

    Returns:
        An Arrow table with one row per network and one per older result. After several networks that differ only in their seeds,
            one more row gives their means. Each column of the robustness table becomes several columns, for example
            "pgd-20_accuracy" and "pgd-20_low". Unknown values are null.
    """
    shared: Fields = {
        "dataset": (pa.string(), table.dataset), "protocol": (pa.string(), table.protocol),
        "protocol_title": (pa.string(), table.title), "protocol_fields": (pa.string(), json.dumps(dict(table.fields))),
        "test_openings": (pa.int64(), openings)}
    lines = [line | shared for group in table.groups for line in _lines(table, group, compared)]
    schema = pa.schema([(name, kind) for name, (kind, _) in (lines[0] if lines else shared).items()])
    return pa.Table.from_pylist([{name: value for name, (_, value) in line.items()} for line in lines], schema=schema)


def to_parquet(table: RobustnessTable, compared: Sequence[Distinctions], openings: int) -> bytes:
    """Return a robustness table as a Parquet file, with the rows and columns of `records`, which describes the arguments."""
    import pyarrow.parquet as pq  # takes memory that most pages do not need

    buffer = io.BytesIO()
    pq.write_table(records(table, compared, openings), buffer)
    return buffer.getvalue()


def to_csv(table: RobustnessTable, compared: Sequence[Distinctions], openings: int) -> bytes:
    """Return a robustness table as CSV in UTF-8, with the rows and columns of `records`, which describes the arguments.

    `csv_of` describes how values are written.
    """
    return csv_of(records(table, compared, openings))


def csv_of(found: pa.Table) -> bytes:
    """Return an Arrow table as CSV in UTF-8.

    Lists are written as JSON, and unknown values as empty cells. A text that a spreadsheet could run as a
    formula gets an apostrophe in front. So does a text that begins with an apostrophe. To restore the original texts, remove one
    leading apostrophe wherever there is one.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(found.column_names)
    writer.writerows([cell_text(value) for value in line.values()] for line in found.to_pylist())
    return text.getvalue().encode()


def to_json(table: RobustnessTable, compared: Sequence[Distinctions], openings: int) -> bytes:
    """Return a robustness table as JSON with protocol, columns, groups of networks, and paired comparisons."""
    return (json.dumps(as_json(table, compared, openings), ensure_ascii=False) + "\n").encode()


def as_json(table: RobustnessTable, compared: Sequence[Distinctions], openings: int) -> dict[str, Any]:
    """Return the content of the JSON that `to_json` returns, as a dict. `records` describes the arguments."""
    return {
        "protocol": {"hash": table.protocol, "title": table.title, "dataset": table.dataset, "fields": dict(table.fields)},
        "columns": [asdict(column) for column in table.columns],
        "groups": [{"title": group.title, "complete": group.complete, "means": dict(group.means), "spreads": dict(group.spreads),
                    "rows": [_row_json(row) for row in group.rows]} for group in table.groups],
        "comparisons": [comparison_json(table, one) for one in compared], "test_openings": openings}


def comparison_json(table: RobustnessTable, compared: Distinctions) -> dict[str, Any]:
    """Return a paired comparison of networks of a table as a dict that can be written as JSON.

    Each network has its label, badge and accuracy with interval, and each pair has the labels and the run ids of its networks.
    """
    rows = {row.run: row for row in table.rows if row.run in compared.letters}
    runs = {row.label: run for run, row in rows.items()}
    networks = [{"run": run, "label": row.label, "letters": compared.letters[run], "badge": row.badge.colour}
                | asdict(row.results[compared.column]) for run, row in rows.items()]
    pairs = [asdict(one) | {"first_run": runs[one.first], "second_run": runs[one.second], "distinct": one.distinct(),
                            "sentence": one.sentence()} for one in compared.comparisons]
    return {"column": compared.column, "images": compared.images, "networks": networks, "letters": dict(compared.letters),
            "pairs": pairs}


def _row_json(row: NetworkRow) -> dict[str, Any]:
    plain = {name: getattr(row, name) for name in ("run", "title", "label", "network", "preset", "parent", "search_seed",
                                                   "retrain_seed", "parameters", "macs", "hand_made", "complete", "repeats",
                                                   "created")}
    plain["latencies"] = [asdict(one) for one in row.latencies.values()]
    return plain | {"genotype": row.genotype.to_dict() if row.genotype else None, "badge": asdict(row.badge),
                    "results": {name: asdict(one) for name, one in row.results.items()}} | (
                        {"older": [_row_json(one) for one in row.older]} if row.older else {})


def _lines(table: RobustnessTable, group: SeedGroup, compared: Sequence[Distinctions]) -> Iterator[Fields]:
    for row in group.all_rows:
        yield _identity(NETWORK if row in group.rows else OLDER, group, row) | _figures(
            {column.name: _network_figure(row, column.name, compared) for column in table.columns})
    if len(group.rows) > 1:
        yield _identity(MEAN, group, None) | _figures(
            {column.name: {"accuracy": group.means.get(column.name), "spread": group.spreads.get(column.name)}
             for column in table.columns})


def _identity(kind: str, group: SeedGroup, row: NetworkRow | None) -> Fields:
    def of(name: str) -> Any:
        return getattr(row, name) if row is not None else None

    texts = {"row": kind, "group": group.title, "label": of("label"), "run": of("run"), "network": of("network"),
             "preset": of("preset"), "parent": of("parent"), "hand_made": of("hand_made"),
             "genotype": row.genotype.to_json() if row and row.genotype else None,
             "badge": row.badge.colour if row else None}
    numbers = {name: of(name) for name in ("search_seed", "retrain_seed", "parameters", "macs", "repeats")}
    return ({name: (pa.string(), value) for name, value in texts.items()}
            | {"badge_reasons": (pa.list_(pa.string()), list(row.badge.reasons) if row else None)}
            | {name: (pa.int64(), value) for name, value in numbers.items()}
            | {"complete": (pa.bool_(), of("complete")), "created": (pa.float64(), of("created"))} | _latency_fields(row))


def _latency_fields(row: NetworkRow | None) -> Fields:
    """Return the latencies of a network as fields, with the device on which they were measured."""
    columns = latency_columns(row.latencies if row is not None else {})
    return {name: (pa.string() if name == "latency_device" else pa.float64(), value) for name, value in columns.items()}


def _figures(figures: Mapping[str, Mapping[str, Any]]) -> Fields:
    """Return the fields of a record, such as "pgd-20_accuracy", for all result columns.

    Args:
        figures: {column name: {part: value}}, where a part is for example "accuracy" or "low". Missing parts become None.
    """
    types = {"accuracy": pa.float64(), "low": pa.float64(), "high": pa.float64(), "correct": pa.int64(), "images": pa.int64(),
             "spread": pa.float64(), "letters": pa.string(), "fingerprint": pa.string()}
    return {f"{name}_{part}": (kind, figure.get(part)) for name, figure in figures.items() for part, kind in types.items()}


def _network_figure(row: NetworkRow, name: str, compared: Sequence[Distinctions]) -> dict[str, Any]:
    measured = row.results.get(name)
    return asdict(measured) | {"letters": letters_of(row, name, compared) or None} if measured else {}


def cell_text(value: Any) -> str:
    """Return a value as the text of a CSV cell. None is empty, and a text that could be a formula gets an apostrophe in front."""
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(value)
    text = json.dumps(value) if isinstance(value, (bool, list)) else str(value)
    return f"'{text}" if isinstance(value, str) and text.startswith((*FORMULA, "'")) else text
