"""The reader that copies each complete line of the runs' event files into the index exactly once.

A transaction stores the rows of some lines and the byte offset at which the next line starts. So even if the process is killed,
the index contains exactly the lines before the stored offset. An unchanged file takes only one `stat` call.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import duckdb

from engine.errors import RunError
from engine.files import open_to_read
from engine.log import accuracies, schema
from engine.log.batch import Batch, insert, stored_progress
from engine.run.folder import RunFolder, damage, run_ids
from engine.run.marks import MARKS, readable_marks

CHUNK_BYTES = 8 << 20
HEAD_BYTES, TAIL_BYTES = 256, 256
LONGEST_LINE = 64 << 20  # bytes


@dataclass
class IngestReport:
    """A summary of the changes that one call of `ingest` made to the index.

    Attributes:
        runs: number of runs whose events.jsonl was read.
        events: number of lines that were read as events.
        faults: number of lines that could not be used.
        removed: number of runs removed from the index because their folders no longer exist.
    """

    runs: int = 0
    events: int = 0
    faults: int = 0
    removed: int = 0


@dataclass
class Position:
    """A record of how far one events.jsonl has been read, and of the state of the file at that time.

    The attributes are also columns of the table `ingest`.

    Attributes:
        number: row number of the run in the index.
        bytes_done: number of bytes that have been read.
        size: size of the file in bytes when it was last read; -1 if it has not been read.
        mtime_ns: modification time of the file when it was last read.
        inode: inode of the file when it was last read.
        head: hash of the beginning and the end of the part already read (`mark_of`).
        last_t: time of the latest event; None before the first event.
    """

    number: int
    bytes_done: int = 0
    size: int = -1
    mtime_ns: int = 0
    inode: int = 0
    head: str = ""
    last_t: float | None = None


class Ingester:
    """A reader that brings the database `con` up to date with the run folders in `root`.

    The caller must make sure that only one ingester at a time works on a database. `on_change` is called after each commit with
    the changes: pairs of a run id and the name of a table, without the suffix `_raw`, in which rows of this run have changed.
    """

    def __init__(self, con: duckdb.DuckDBPyConnection, root: Path, chunk_bytes: int = CHUNK_BYTES,
                 on_change: Callable[[Iterable[tuple[str, str]]], None] = lambda changes: None) -> None:
        self.con = con
        self.root = root
        self.chunk_bytes = chunk_bytes
        self.on_change = on_change
        self.report = IngestReport()
        self.batch = Batch()
        self.moved: dict[int, Position] = {}
        self.names: dict[int, str] = {}

    def ingest(self, runs: Collection[str] | None = None) -> IngestReport:
        """Read everything that has changed in the run folders since the last call, and return a summary.

        Runs whose folders were deleted are removed from the index.

        Args:
            runs: ids of the runs to read; None for all runs.
        """
        self.report = IngestReport()
        names = run_ids(self.root) if runs is None else [RunFolder(self.root, run).id for run in runs]
        stamps = {name: stamp_of(f"{self.root}/{name}/run.json") for name in names}  # a string is ten times faster than a Path
        # A folder with neither run.json nor events is still being created.
        here = {name: f"{stamp} {stamp_of(f'{self.root}/{name}/{MARKS}')}" for name, stamp in stamps.items()
                if stamp or (self.root / name / "events.jsonl").exists()}
        known = self._known(runs)
        self._remove([known[name][0] for name in known if name not in here])
        documents = self._new_documents(here, known)
        self._write_documents(documents)
        known = self._known(runs) if documents else known
        self._read_events([(name, known[name][3]) for name in here])
        return self.report

    def _known(self, runs: Collection[str] | None) -> dict[str, tuple[int, str, str, Position]]:
        """Return the index's entries for some runs, or for all runs if `runs` is None.

        Returns:
            {run id: (row number in the index, stamp of the run.json that was read, kind of run, position in events.jsonl)}. A
            stamp is a string that changes whenever the file changes.
        """
        rows = self.con.execute(
            "select run, f.number, stamp, kind, bytes_done, size, mtime_ns, inode, head, last_t "
            "from folder f join ingest using (number) where ? or run in (select unnest(?::varchar[]))",
            [runs is None, list(runs or ())]).fetchall()
        self.names |= {row[1]: row[0] for row in rows}
        return {row[0]: (row[1], row[2], row[3], Position(row[1], *row[4:])) for row in rows}

    # Run folders ---------------------------------------------------------------------------------------------------

    def _remove(self, numbers: list[int]) -> None:
        if not numbers:
            return
        with self._transaction(product(numbers, schema.TABLES)):
            for table in schema.TABLES:
                self.con.execute(f"delete from {table} where number in (select unnest(?))", [numbers])
        self.report.removed += len(numbers)

    def _new_documents(self, stamps: dict[str, str], known: dict[str, tuple[int, str, str, Position]]) -> list[tuple[Any, ...]]:
        rows = []
        (fresh,), = self.con.execute("select coalesce(max(number), 0) from folder").fetchall()
        for name, stamp in stamps.items():
            if name in known and known[name][1] == stamp:
                continue
            fresh += name not in known
            rows.append((known[name][0] if name in known else fresh, name, stamp, *readable_row(RunFolder(self.root, name))))
        return rows

    def _write_documents(self, rows: list[tuple[Any, ...]]) -> None:
        if not rows:
            return
        numbers = [row[0] for row in rows]
        self.names |= {row[0]: row[1] for row in rows}
        with self._transaction(product(numbers, ["folder"])):
            self.con.execute("delete from folder where number in (select unnest(?))", [numbers])
            insert(self.con, "folder", rows)
            self.con.execute("insert into ingest select n, 0, -1, 0, 0, '', null from (select unnest(?) as n) "
                             "where n not in (select number from ingest)", [numbers])

    # Events --------------------------------------------------------------------------------------------------------

    def _read_events(self, runs: list[tuple[str, Position]]) -> None:
        """Read the new lines of all `runs`.

        Several small files share one transaction, and a large file takes several transactions.
        """
        self.batch, self.moved = Batch(), {}
        changed = []
        for name, position in runs:
            path = f"{self.root}/{name}/events.jsonl"
            try:
                status = os.stat(path)
            except OSError:
                if position.bytes_done:
                    self._reset(position)
                continue
            if (status.st_size, status.st_mtime_ns, status.st_ino) != (position.size, position.mtime_ns, position.inode):
                changed.append((Path(path), status, position))
        stored = stored_progress(self.con, [position.number for _, _, position in changed if position.bytes_done])
        for file, status, position in changed:
            self._read_run(file, status, position, stored.get(position.number, []))
        self._commit()

    def _read_run(self, path: Path, status: os.stat_result, position: Position, stored: Sequence[dict[str, Any]]) -> None:
        """Read the new lines of one run, whose progress in the index is `stored`."""
        try:
            if position.bytes_done and is_replaced(path, status, position):
                self._reset(position)
            position.inode = status.st_ino
            if position.bytes_done:
                self.batch.add_progress(stored)
            for start, chunk in chunks(path, position.bytes_done, self.chunk_bytes):
                head = mark_of(path, start + len(chunk))  # fails if the file has just been deleted, and then no row is kept
                add_lines(self.batch, position.number, start, chunk)
                position.bytes_done, position.head = start + len(chunk), head
                self.moved[position.number] = position
                if self.batch.bytes >= self.chunk_bytes:
                    self._commit()
                    self.batch.add_progress(stored_progress(self.con, [position.number]).get(position.number, []))
        except OSError:
            return  # the file has just been deleted or made unreadable; the next ingest deals with that
        # This is the status from before reading. If the file has grown since, the next ingest sees a difference and reads on.
        position.size, position.mtime_ns = status.st_size, status.st_mtime_ns
        self.moved[position.number] = position
        self.report.runs += 1

    def _commit(self) -> None:
        """Write the collected rows to the database and record how far each events.jsonl has been read, in one transaction."""
        batch, moved = self.batch, self.moved
        self.batch, self.moved = Batch(), {}
        if not moved:
            return
        self._store(batch, moved)
        self.report.events += batch.events
        self.report.faults += batch.faults

    def _store(self, batch: Batch, moved: dict[int, Position]) -> None:
        """Write the rows of some runs, and how far each run's events.jsonl has been read.

        If the rows of a run cannot be stored, add one row to the table `faults` instead.
        """
        changes = batch.changes()
        try:
            with self._transaction(changes):
                batch.write(self.con)
                changes.update(product(accuracies.update(self.con, batch), ["accuracy"]))
                for number, position in moved.items():
                    latest = [t for t in (position.last_t, batch.last_t.get(number)) if t is not None]
                    position.last_t = max(latest, default=None)
                self._write_positions(list(moved.values()))
        except duckdb.Error:
            raise  # the index as a whole cannot be written
        except Exception as problem:  # noqa: BLE001 - trouble of one run must not reach the others
            parts = {number: batch.of(number) for number in moved}
            if len(parts) == 1:
                (number, position), = moved.items()
                parts = {number: Batch()}
                parts[number].add("faults", (number, position.bytes_done, "Lines of events.jsonl before byte "
                                             f"{position.bytes_done} were skipped: they could not be stored ({problem!r:.200})."))
            for number, part in parts.items():
                self._store(part, {number: moved[number]})

    def _write_positions(self, positions: list[Position]) -> None:
        """Record in the table `ingest` how far each events.jsonl has been read."""
        columns = [list(values) for values in zip(*(
            (p.number, p.bytes_done, p.size, p.mtime_ns, p.inode, p.head, p.last_t) for p in positions), strict=True)]
        self.con.execute(
            "update ingest set bytes_done = new.b, size = new.s, mtime_ns = new.m, inode = new.i, head = new.h, last_t = new.t "
            "from (select unnest(?) as n, unnest(?) as b, unnest(?) as s, unnest(?) as m, unnest(?) as i, "
            "unnest(?) as h, unnest(?::double[]) as t) new where ingest.number = new.n", columns)

    def _reset(self, position: Position) -> None:
        """Delete all rows read from an events.jsonl that was replaced, truncated or deleted. Set the read position to 0."""
        with self._transaction(product([position.number], schema.TABLES)):
            for table in schema.TABLES:
                if table not in ("folder", "ingest"):
                    self.con.execute(f"delete from {table} where number = ?", [position.number])
            self.con.execute("update ingest set bytes_done = 0, size = -1, head = '', last_t = null "
                             "where number = ?", [position.number])
        position.bytes_done, position.size, position.head, position.last_t = 0, -1, "", None

    @contextmanager
    def _transaction(self, changes: Iterable[tuple[int, str]]) -> Iterator[None]:
        """Run the `with` block in a transaction. Commit it at the end, or roll it back if the block raises an exception.

        Args:
            changes: pairs of a run's row number and the name of a table in which rows of this run change.
        """
        self.con.execute("begin")
        try:
            yield
        except BaseException:
            self.con.execute("rollback")
            raise
        self.con.execute("commit")
        self.on_change((self.names[number], table.removesuffix("_raw")) for number, table in changes)


def stamp_of(path: Path | str) -> str:
    """Return a string that changes whenever the file is written or replaced, or "" if the file does not exist."""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return f"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}"


def readable_row(folder: RunFolder) -> tuple[Any, ...]:
    """Return the result of `document_row`. Any exception becomes the column `problem`, so that the other runs are still read."""
    try:
        return document_row(folder)
    except Exception as problem:  # noqa: BLE001 - see above
        return (*(None,) * 12, damage(folder.id, problem), "", "", False)


def document_row(folder: RunFolder) -> tuple[Any, ...]:
    """Return a run's values for the columns of the table `folder` that come after the column `stamp`, in order.

    The value of `problem` is a sentence that explains why run.json cannot be used, or None if it can be used.
    """
    nothing, marks = (None,) * 12, readable_marks(folder)
    marked = (" ".join(marks.tags), marks.note, marks.archived)
    try:
        run = folder.read_run()
    except RunError as problem:
        return (*nothing, str(problem), *marked)
    config, study = run["config"], run.get("study") or {}
    names = [run.get(key) for key in ("kind", "method", "title", "preset")]
    return (*names, config.get("dataset"), run.get("parent"), float(run.get("created") or 0), run.get("command"),
            json.dumps(config), json.dumps(run), study.get("id"), bool(study.get("example")), None, *marked)


def is_replaced(path: Path, status: os.stat_result, position: Position) -> bool:
    """Return True if the file has been replaced since it was last read.

    This is the case if the file is shorter than the part already read, if the inode has changed, or if the part already read
    begins or ends differently. It ends differently if a power cut has removed lines and a resumed run has written others.
    """
    return (status.st_size < position.bytes_done or status.st_ino != position.inode
            or mark_of(path, position.bytes_done) != position.head)


def mark_of(path: Path, length: int) -> str:
    """Return a hash of two parts of a file's first `length` bytes: the first line, and the last `TAIL_BYTES` bytes.

    If the first line is longer than `HEAD_BYTES`, only its first `HEAD_BYTES` bytes count.
    """
    with open_to_read(path) as file:
        head = file.read(min(HEAD_BYTES, length))
        file.seek(max(0, length - TAIL_BYTES))
        tail = file.read(min(TAIL_BYTES, length))
    return hashlib.sha256(head[:head.find(b"\n") + 1 or HEAD_BYTES] + tail).hexdigest()[:16]


def chunks(path: Path, offset: int, chunk_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Yield a file's complete lines from byte `offset` on, as pairs (offset of the first line, bytes of one or more lines).

    An incomplete last line is left for a later call. The file is read `chunk_bytes` at a time, or more if one line is longer.
    Reading ends before a line of more than `LONGEST_LINE` bytes.
    """
    with open_to_read(path) as file:
        size = chunk_bytes
        while True:
            file.seek(offset)
            data = file.read(size)
            end = data.rfind(b"\n") + 1
            if end:
                yield offset, data[:end]
                offset, size = offset + end, chunk_bytes
            elif len(data) == size:
                if size >= LONGEST_LINE:  # nothing of ours writes such a line, and a sparse file would fill the memory
                    return
                size = min(2 * size, LONGEST_LINE)
            else:
                return


def add_lines(batch: Batch, number: int, start: int, chunk: bytes) -> None:
    """Add every line in `chunk` to the batch.

    Args:
        batch: collection of rows to extend.
        number: row number of the run in the index.
        start: byte offset of the chunk in events.jsonl.
        chunk: complete lines, each with its line break.
    """
    seq = start
    for line in chunk.split(b"\n")[:-1]:
        if line.strip():
            batch.add_line(number, seq, line)
        seq += len(line) + 1
