"""Batches of table rows. The rows of many events are collected in memory and written to DuckDB as Arrow tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from engine.errors import RunLogError
from engine.log import schema
from engine.run.event import Stamp
from engine.run.event_kinds import Progress, read
from engine.run.events import parse

_ARROW = {"INTEGER": pa.int32(), "BIGINT": pa.int64(), "DOUBLE": pa.float64(), "VARCHAR": pa.string(), "BOOLEAN": pa.bool_(),
          "FLOAT[]": pa.list_(pa.float32()), "DOUBLE[]": pa.list_(pa.float64()), "VARCHAR[]": pa.list_(pa.string())}
# The trail is a list of recent progress points, from which the rate of progress is computed. It covers the last two minutes with
# one point every few seconds. Whether a point is kept depends only on the points before it, so reading a file in several pieces
# gives the same trail.
TRAIL_EVERY_S = 5.0
TRAIL_POINTS = 24
_PROGRESS = tuple(schema.TABLES["progress"])


def insert(con: duckdb.DuckDBPyConnection, table: str, rows: list[tuple[Any, ...]]) -> None:
    """Append rows to a table. Each row has one value per column of `schema.TABLES[table]`, in that order."""
    if not rows:
        return
    columns = schema.TABLES[table]
    values = zip(*rows, strict=True)
    arrays = [_array(column, kind) for column, kind in zip(values, columns.values(), strict=True)]
    # DuckDB finds the table by the name of the variable. `register` would leave 280 bytes at each call (DuckDB 2.0.0), which adds
    # up to some MB while runs are watched.
    rows_to_insert = pa.table(arrays, names=list(columns))  # noqa: F841
    con.execute(f"insert into {table} select * from rows_to_insert")


def _array(values: tuple[Any, ...], kind: str) -> pa.Array:
    if kind == "FLOAT[]":  # the rows are NumPy arrays, and joining them is much faster than converting each value
        ends = np.cumsum([0] + [len(row) for row in values], dtype=np.int32)
        return pa.ListArray.from_arrays(pa.array(ends), pa.array(np.concatenate(values)))
    return pa.array(values, _ARROW[kind])


def stored_progress(con: duckdb.DuckDBPyConnection, numbers: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
    """Return {number of a run: rows of the table `progress` as dicts}. One query for many runs is cheaper than one for each."""
    found: dict[int, list[dict[str, Any]]] = {}
    for row in con.execute("select * from progress where number in (select unnest(?))", [list(numbers)]).fetchall():
        record = dict(zip(_PROGRESS, row, strict=True))
        found.setdefault(record["number"], []).append(record)
    return found


class Batch:
    """A collection of table rows that have not been written to the database yet. The rows may come from several runs.

    Everywhere in this class, `number` means the number by which the database identifies a run.

    Attributes:
        rows: {table: rows to append}.
        progress: {(number, attempt, phase): latest row of the table `progress` as a dict}. The attempt counts the starts of the
            run's worker.
        last_t: {number: time of the run's latest event}.
        bytes: total size of the lines read.
        events: number of lines that were read as events.
        faults: number of lines that could not be used.
    """

    def __init__(self) -> None:
        self.rows: dict[str, list[tuple[Any, ...]]] = {}
        self.progress: dict[tuple[int, int, str], dict[str, Any]] = {}
        self.last_t: dict[int, float] = {}
        self.bytes = self.events = self.faults = 0

    def add(self, table: str, row: tuple[Any, ...]) -> None:
        """Collect one row of a table. The row has a value for every column."""
        self.rows.setdefault(table, []).append(row)

    def add_line(self, number: int, seq: int, line: bytes) -> None:
        """Read one line of a run's events.jsonl and collect its rows. A line that cannot be used becomes a row of `faults`.

        Args:
            number: number of the run in the database.
            seq: byte offset of the line in events.jsonl.
            line: bytes of the line.
        """
        self.bytes += len(line)
        try:
            entry = read(parse(line))
            rows = () if entry is None or isinstance(entry[1], Progress) else entry[1].rows()
        except Exception as problem:  # noqa: BLE001 - whatever is wrong with a line concerns this line only
            self.faults += 1
            told = str(problem) if isinstance(problem, RunLogError) else f"it must be an event, and is not ({problem!r:.100})"
            self.add("faults", (number, seq, f"Line at byte {seq} of events.jsonl was skipped: {told}."))
            return
        self.events += 1
        if entry is None:
            return
        stamp, event = entry
        self.last_t[number] = max(stamp.t, self.last_t.get(number, stamp.t))
        if isinstance(event, Progress):
            self._fold_progress(number, seq, stamp, event)
        else:
            place = (number, seq, *stamp)
            self.rows.setdefault(f"{event.table}_raw", []).extend([place + row for row in rows])

    def _fold_progress(self, number: int, seq: int, stamp: Stamp, event: Progress) -> None:
        key = (number, stamp.attempt, event.phase)
        before = self.progress.get(key, {"trail_t": [], "trail_done": []})
        trail_t, trail_done = before["trail_t"], before["trail_done"]
        if not trail_t or stamp.t - trail_t[-1] >= TRAIL_EVERY_S:
            trail_t, trail_done = [*trail_t, stamp.t][-TRAIL_POINTS:], [*trail_done, event.done][-TRAIL_POINTS:]
        self.progress[key] = {"number": number, "seq": seq, "attempt": stamp.attempt, "t": stamp.t, **vars(event),
                              "trail_t": trail_t, "trail_done": trail_done}

    def add_progress(self, stored: Iterable[dict[str, Any]]) -> None:
        """Collect the latest progress of a run as `stored_progress` returns it, before the first line of its events.jsonl.

        The index stores the recent progress points of a run, from which the rate of progress is computed. New progress events
        extend this list.
        """
        for record in stored:
            self.progress.setdefault((record["number"], record["attempt"], record["phase"]), record)

    def of(self, number: int) -> Batch:
        """Return a new batch with the rows of this batch that belong to the run with this number."""
        part = Batch()
        part.rows = {table: kept for table, rows in self.rows.items() if (kept := [row for row in rows if row[0] == number])}
        part.progress = {key: row for key, row in self.progress.items() if key[0] == number}
        part.last_t = {number: self.last_t[number]} if number in self.last_t else {}
        return part

    def changes(self) -> set[tuple[int, str]]:
        """Return the pairs (number of a run, name of a table) for which `write` appends rows of the run to the table."""
        appended = {(int(row[0]), table) for table, rows in self.rows.items() for row in rows}
        return appended | {(number, "progress") for number, _, _ in self.progress}

    def write(self, con: duckdb.DuckDBPyConnection) -> None:
        """Write all collected rows to the database.

        The caller opens and commits the transaction. In the same transaction, the caller stores how far the event files have been
        read.
        """
        for table, rows in self.rows.items():
            insert(con, table, rows)
        if self.progress:
            numbers = sorted({key[0] for key in self.progress})
            con.execute("delete from progress where number in (select unnest(?))", [numbers])
            insert(con, "progress", [tuple(row[name] for name in _PROGRESS) for row in self.progress.values()])
