"""Rows of many events, gathered in memory and written to DuckDB as Arrow tables in one go."""

from __future__ import annotations

from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from engine.errors import RunLogError
from engine.log import events, schema

_ARROW = {"INTEGER": pa.int32(), "BIGINT": pa.int64(), "DOUBLE": pa.float64(), "VARCHAR": pa.string(), "BOOLEAN": pa.bool_(),
          "FLOAT[]": pa.list_(pa.float32()), "DOUBLE[]": pa.list_(pa.float64()), "VARCHAR[]": pa.list_(pa.string())}
# A trail for the rate of progress: one point every few seconds, the last two minutes of them. Each new point depends on
# the points before it only, so that it does not matter in how many pieces a file was read.
TRAIL_EVERY_S = 5.0
TRAIL_POINTS = 24


def insert(con: duckdb.DuckDBPyConnection, table: str, rows: list[tuple[Any, ...]]) -> None:
    """Appends rows (one value per column of `schema.TABLES[table]`) to a table."""
    if not rows:
        return
    columns = schema.TABLES[table]
    values = zip(*rows, strict=True)
    arrays = [_array(list(column), kind) for column, kind in zip(values, columns.values(), strict=True)]
    con.register("rows_to_insert", pa.table(arrays, names=list(columns)))
    con.execute(f"insert into {table} select * from rows_to_insert")
    con.unregister("rows_to_insert")


def _array(values: list[Any], kind: str) -> pa.Array:
    if kind == "FLOAT[]":  # numpy rows: much faster than value by value
        ends = np.cumsum([0] + [len(row) for row in values], dtype=np.int32)
        return pa.ListArray.from_arrays(pa.array(ends), pa.array(np.concatenate(values)))
    return pa.array(values, _ARROW[kind])


class Batch:
    """What was read since the last transaction, of one run or of many.

    Attributes:
        rows: table -> rows.
        progress: (number, attempt, phase) -> latest row of the table `progress`, as a dict.
        last_t: number -> time of the latest event.
        bytes: how much text the batch holds.
        events, faults: how many lines became rows, and how many were refused.
    """

    def __init__(self) -> None:
        self.rows: dict[str, list[tuple[Any, ...]]] = {}
        self.progress: dict[tuple[int, int, str], dict[str, Any]] = {}
        self.last_t: dict[int, float] = {}
        self.bytes = self.events = self.faults = 0

    def add(self, table: str, row: tuple[Any, ...]) -> None:
        """Appends one complete row to a table."""
        self.rows.setdefault(table, []).append(row)

    def add_line(self, number: int, seq: int, line: bytes) -> None:
        """Reads one line of events.jsonl; a line that cannot be used becomes a row of `faults`."""
        self.bytes += len(line)
        try:
            table, rows = events.rows_of(events.parse(line))
        except RunLogError as problem:
            self.faults += 1
            self.add("faults", (number, seq, f"Line at byte {seq} of events.jsonl was skipped: {problem}."))
            return
        self.events += 1
        for row in rows:
            self.last_t[number] = max(row[3], self.last_t.get(number, row[3]))
            if table == "progress":
                self._fold_progress(number, seq, row)
            else:
                self.add(f"{table}_raw", (number, seq, *row))

    def _fold_progress(self, number: int, seq: int, row: tuple[Any, ...]) -> None:
        attempt, _, _, t, phase, done, total, unit, passes, detail = row
        key = (number, attempt, phase)
        before = self.progress.get(key, {"trail_t": [], "trail_done": []})
        trail_t, trail_done = before["trail_t"], before["trail_done"]
        if not trail_t or t - trail_t[-1] >= TRAIL_EVERY_S:
            trail_t, trail_done = [*trail_t, t][-TRAIL_POINTS:], [*trail_done, done][-TRAIL_POINTS:]
        self.progress[key] = {"number": number, "attempt": attempt, "phase": phase, "seq": seq, "t": t, "done": done,
                              "total": total, "unit": unit, "passes": passes, "detail": detail, "trail_t": trail_t,
                              "trail_done": trail_done}

    def load_progress(self, con: duckdb.DuckDBPyConnection, number: int) -> None:
        """Fetches what the index knows of a run's progress, to go on from there. Call before its first line."""
        names = list(schema.TABLES["progress"])
        for row in con.execute("select * from progress where number = ?", [number]).fetchall():
            record = dict(zip(names, row, strict=True))
            self.progress.setdefault((number, record["attempt"], record["phase"]), record)

    def write(self, con: duckdb.DuckDBPyConnection) -> None:
        """Writes everything; the caller has begun a transaction and commits it together with the offsets."""
        for table, rows in self.rows.items():
            insert(con, table, rows)
        if self.progress:
            numbers = sorted({key[0] for key in self.progress})
            con.execute("delete from progress where number in (select unnest(?))", [numbers])
            insert(con, "progress", [tuple(row[name] for name in schema.TABLES["progress"]) for row in self.progress.values()])
