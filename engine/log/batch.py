"""Rows of many events, collected in memory and written to DuckDB as Arrow tables."""

from __future__ import annotations

from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from engine.errors import RunLogError
from engine.log import schema
from engine.run.event_kinds import Progress, Stamp, read
from engine.run.events import parse

_ARROW = {"INTEGER": pa.int32(), "BIGINT": pa.int64(), "DOUBLE": pa.float64(), "VARCHAR": pa.string(), "BOOLEAN": pa.bool_(),
          "FLOAT[]": pa.list_(pa.float32()), "DOUBLE[]": pa.list_(pa.float64()), "VARCHAR[]": pa.list_(pa.string())}
# The trail for the rate of progress: the last two minutes, one point every few seconds. Each point depends only on the points
# before it, so it does not matter in how many pieces a file was read.
TRAIL_EVERY_S = 5.0
TRAIL_POINTS = 24
_PROGRESS = tuple(schema.TABLES["progress"])


def insert(con: duckdb.DuckDBPyConnection, table: str, rows: list[tuple[Any, ...]]) -> None:
    """Append rows, with one value per column of `schema.TABLES[table]`, to a table."""
    if not rows:
        return
    columns = schema.TABLES[table]
    values = zip(*rows, strict=True)
    arrays = [_array(column, kind) for column, kind in zip(values, columns.values(), strict=True)]
    con.register("rows_to_insert", pa.table(arrays, names=list(columns)))
    con.execute(f"insert into {table} select * from rows_to_insert")
    con.unregister("rows_to_insert")


def _array(values: tuple[Any, ...], kind: str) -> pa.Array:
    if kind == "FLOAT[]":  # NumPy rows: much faster than value by value
        ends = np.cumsum([0] + [len(row) for row in values], dtype=np.int32)
        return pa.ListArray.from_arrays(pa.array(ends), pa.array(np.concatenate(values)))
    return pa.array(values, _ARROW[kind])


class Batch:
    """Rows read since the last transaction, of one run or of many.

    Attributes:
        rows: table -> rows.
        progress: (number, attempt, phase) -> latest row of the table `progress`, by column.
        last_t: number -> time of the latest event.
        bytes: size of the lines read.
        events, faults: lines that became rows, and lines that were refused.
    """

    def __init__(self) -> None:
        self.rows: dict[str, list[tuple[Any, ...]]] = {}
        self.progress: dict[tuple[int, int, str], dict[str, Any]] = {}
        self.last_t: dict[int, float] = {}
        self.bytes = self.events = self.faults = 0

    def add(self, table: str, row: tuple[Any, ...]) -> None:
        """Append one complete row to a table."""
        self.rows.setdefault(table, []).append(row)

    def add_line(self, number: int, seq: int, line: bytes) -> None:
        """Read the line of events.jsonl that starts at byte `seq`; a line that cannot be used becomes a row of `faults`."""
        self.bytes += len(line)
        try:
            entry = read(parse(line))
        except RunLogError as problem:
            self.faults += 1
            self.add("faults", (number, seq, f"Line at byte {seq} of events.jsonl was skipped: {problem}."))
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
            self.rows.setdefault(f"{event.table}_raw", []).extend([place + row for row in event.rows()])

    def _fold_progress(self, number: int, seq: int, stamp: Stamp, event: Progress) -> None:
        key = (number, stamp.attempt, event.phase)
        before = self.progress.get(key, {"trail_t": [], "trail_done": []})
        trail_t, trail_done = before["trail_t"], before["trail_done"]
        if not trail_t or stamp.t - trail_t[-1] >= TRAIL_EVERY_S:
            trail_t, trail_done = [*trail_t, stamp.t][-TRAIL_POINTS:], [*trail_done, event.done][-TRAIL_POINTS:]
        self.progress[key] = {"number": number, "seq": seq, "attempt": stamp.attempt, "t": stamp.t, **vars(event),
                              "trail_t": trail_t, "trail_done": trail_done}

    def load_progress(self, con: duckdb.DuckDBPyConnection, number: int) -> None:
        """Load a run's progress from the index, to continue its trail. Call before adding the run's first line."""
        for row in con.execute("select * from progress where number = ?", [number]).fetchall():
            record = dict(zip(_PROGRESS, row, strict=True))
            self.progress.setdefault((number, record["attempt"], record["phase"]), record)

    def write(self, con: duckdb.DuckDBPyConnection) -> None:
        """Write everything. The caller begins a transaction and commits it together with the offsets."""
        for table, rows in self.rows.items():
            insert(con, table, rows)
        if self.progress:
            numbers = sorted({key[0] for key in self.progress})
            con.execute("delete from progress where number in (select unnest(?))", [numbers])
            insert(con, "progress", [tuple(row[name] for name in _PROGRESS) for row in self.progress.values()])
