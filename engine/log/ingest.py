"""From run folders into the index, each complete line exactly once.

Rows and the byte offset behind them are committed in one transaction, so a process killed at any moment leaves rows that
equal the offset. What did not change costs one `stat` per file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from engine.attack.statistics import wilson
from engine.errors import RunError
from engine.log import schema
from engine.log.batch import Batch, insert
from engine.run.folder import RunFolder, run_ids

CHUNK_BYTES = 8 << 20
HEAD_BYTES = 256
OUTCOMES_FAULT = -1  # place in `faults` of a sentence that is not about a line of events.jsonl


@dataclass
class IngestReport:
    """What one ingest did: runs whose events were read, lines that became rows, lines refused, runs that vanished."""

    runs: int = 0
    events: int = 0
    faults: int = 0
    removed: int = 0


@dataclass
class Position:
    """Where reading of one events.jsonl stands; the columns of the table `ingest`."""

    number: int
    bytes_done: int = 0
    size: int = -1
    mtime_ns: int = 0
    inode: int = 0
    head: str = ""
    last_t: float | None = None


class Ingester:
    """Reads the folders below `root` into the database of `con`; the caller keeps two of them from working at once."""

    def __init__(self, con: duckdb.DuckDBPyConnection, root: Path, chunk_bytes: int = CHUNK_BYTES) -> None:
        self.con = con
        self.root = root
        self.chunk_bytes = chunk_bytes
        self.report = IngestReport()
        self.batch = Batch()
        self.moved: dict[int, Position] = {}

    def ingest(self, run: str | None = None) -> IngestReport:
        """Takes in whatever is new.

        Args:
            run: look at this run only; None for all, which also notices deleted folders.
        """
        self.report = IngestReport()
        names = run_ids(self.root) if run is None else [RunFolder(self.root, run).id]
        stamps = {name: stamp_of(f"{self.root}/{name}/run.json") for name in names}  # paths as text: a tenth of the cost
        # A folder without run.json is one that is being made, unless something ran in it already.
        here = {name: stamp for name, stamp in stamps.items() if stamp or (self.root / name / "events.jsonl").exists()}
        known = self._known(run)
        self._remove([known[name][0] for name in known if name not in here])
        documents = self._new_documents(here, known)
        self._write_documents(documents)
        known = self._known(run) if documents else known
        self._read_events([(name, known[name][3]) for name in here])
        self._read_outcomes([(name, known[name][0]) for name in here if known[name][2] == "attack"])
        self._summarise()
        return self.report

    def _known(self, run: str | None) -> dict[str, tuple[int, str, str, Position]]:
        """run -> (number, stamp of run.json, kind, position in events.jsonl)."""
        rows = self.con.execute(
            "select run, f.number, stamp, kind, bytes_done, size, mtime_ns, inode, head, last_t "
            "from folder f join ingest using (number) where ? is null or run = ?", [run, run]).fetchall()
        return {row[0]: (row[1], row[2], row[3], Position(row[1], *row[4:])) for row in rows}

    # Run folders ---------------------------------------------------------------------------------------------------

    def _remove(self, numbers: list[int]) -> None:
        if not numbers:
            return
        with transaction(self.con):
            for table in schema.TABLES:
                self.con.execute(f"delete from {table} where number in (select unnest(?))", [numbers])
        self.report.removed += len(numbers)

    def _new_documents(self, stamps: dict[str, str], known: dict[str, tuple[int, str, str, Position]]) -> list[tuple[Any, ...]]:
        rows = []
        fresh = self.con.execute("select coalesce(max(number), 0) from folder").fetchone()[0]  # type: ignore[index]
        for name, stamp in stamps.items():
            if name in known and known[name][1] == stamp:
                continue
            fresh += name not in known
            rows.append((known[name][0] if name in known else fresh, name, stamp, *document_row(RunFolder(self.root, name))))
        return rows

    def _write_documents(self, rows: list[tuple[Any, ...]]) -> None:
        if not rows:
            return
        numbers = [row[0] for row in rows]
        with transaction(self.con):
            self.con.execute("delete from folder where number in (select unnest(?))", [numbers])
            insert(self.con, "folder", rows)
            self.con.execute("insert into ingest select n, 0, -1, 0, 0, '', null, 0 from (select unnest(?) as n) "
                             "where n not in (select number from ingest)", [numbers])

    # Events --------------------------------------------------------------------------------------------------------

    def _read_events(self, runs: list[tuple[str, Position]]) -> None:
        """Reads the new lines of all `runs`; many small files share a transaction, a large one takes several."""
        self.batch, self.moved = Batch(), {}
        for name, position in runs:
            path = f"{self.root}/{name}/events.jsonl"
            try:
                found = os.stat(path)
            except OSError:
                if position.bytes_done:
                    self._reset(position)
                continue
            if (found.st_size, found.st_mtime_ns, found.st_ino) != (position.size, position.mtime_ns, position.inode):
                self._read_run(Path(path), found, position)
        self._commit()

    def _read_run(self, path: Path, found: os.stat_result, position: Position) -> None:
        try:
            if position.bytes_done and is_replaced(path, found, position):
                self._reset(position)
            position.inode, position.head = found.st_ino, head_of(path)
            self._load_progress(position)
            for start, chunk in chunks(path, position.bytes_done, self.chunk_bytes):
                add_lines(self.batch, position.number, start, chunk)
                position.bytes_done = start + len(chunk)
                self.moved[position.number] = position
                if self.batch.bytes >= self.chunk_bytes:
                    self._commit()
                    self._load_progress(position)
        except OSError:
            return  # deleted or made unreadable at this moment; the next look finds out which
        # Noted last: a file that grew in between has another size or time at the next look.
        position.size, position.mtime_ns = found.st_size, found.st_mtime_ns
        self.moved[position.number] = position
        self.report.runs += 1

    def _load_progress(self, position: Position) -> None:
        if position.bytes_done:
            self.batch.load_progress(self.con, position.number)

    def _commit(self) -> None:
        """Rows and offsets, together or not at all."""
        batch, moved = self.batch, self.moved
        self.batch, self.moved = Batch(), {}
        if not moved:
            return
        with transaction(self.con):
            batch.write(self.con)
            for number, position in moved.items():
                latest = [t for t in (position.last_t, batch.last_t.get(number)) if t is not None]
                position.last_t = max(latest, default=None)
            self._write_positions(list(moved.values()))
        self.report.events += batch.events
        self.report.faults += batch.faults

    def _write_positions(self, positions: list[Position]) -> None:
        columns = [list(values) for values in zip(*((p.number, p.bytes_done, p.size, p.mtime_ns, p.inode, p.head, p.last_t)
                                                    for p in positions), strict=True)]
        self.con.execute(
            "update ingest set bytes_done = new.b, size = new.s, mtime_ns = new.m, inode = new.i, head = new.h, "
            "last_t = new.t from (select unnest(?) as n, unnest(?) as b, unnest(?) as s, unnest(?) as m, unnest(?) as i, "
            "unnest(?) as h, unnest(?::double[]) as t) new where ingest.number = new.n", columns)

    def _reset(self, position: Position) -> None:
        """Forgets everything read from a file that was replaced or cut."""
        with transaction(self.con):
            for table in schema.TABLES:
                if table not in ("folder", "ingest", "worst"):
                    self.con.execute(f"delete from {table} where number = ?", [position.number])
            self.con.execute("update ingest set bytes_done = 0, size = -1, head = '', last_t = null, summarised = -1 "
                             "where number = ?", [position.number])
        position.bytes_done, position.size, position.head, position.last_t = 0, -1, "", None

    # What is derived from rows and files ----------------------------------------------------------------------------

    def _read_outcomes(self, runs: list[tuple[str, int]]) -> None:
        stamps = dict(self.con.execute("select number, stamp from worst").fetchall())
        for name, number in runs:
            path = self.root / name / "results" / "outcomes.parquet"
            stamp = stamp_of(path)
            if stamps.get(number, "") == stamp:
                continue
            images, correct = self._worst_of(path) if stamp else (None, None)
            low, high = wilson(correct, images) if images else (None, None)
            with transaction(self.con):
                self.con.execute("delete from worst where number = ?", [number])
                self.con.execute("delete from faults where number = ? and seq = ?", [number, OUTCOMES_FAULT])
                self.con.execute("insert into worst values (?, ?, ?, ?, ?, ?)", [number, stamp, images, correct, low, high])
                if stamp and images is None:
                    self.con.execute("insert into faults values (?, ?, ?)", [number, OUTCOMES_FAULT, (
                        "results/outcomes.parquet must be a Parquet table of image, label, attack and correct, and cannot be "
                        "read; the worst case per image is left out.")])

    def _worst_of(self, path: Path) -> tuple[int | None, int | None]:
        """(images that every attack saw, how many of them withstood all); (None, None) for an unreadable file."""
        # A part of a suite is called "autoattack/apgd-ce"; the suite itself stands for all its parts.
        sql = """
            with outcome as (select image, attack, correct from read_parquet($path) where not contains(attack, '/')),
            image as (select image, bool_and(correct) as withstood, count(distinct attack) as attacks from outcome group by image)
            select count(*), count(*) filter (withstood) from image
            where attacks = (select count(distinct attack) from outcome)"""
        try:
            row = self.con.execute(sql, {"path": str(path)}).fetchone()
        except duckdb.Error:
            return None, None
        return (int(row[0]), int(row[1])) if row else (None, None)

    def _summarise(self) -> None:
        """Brings the table `accuracy` up to date for every run that has new rows."""
        stale = [row[0] for row in self.con.execute("select number from ingest where summarised <> bytes_done").fetchall()]
        if not stale:
            return
        # A constant list of numbers (they are our own) reaches the scan inside the view; a subquery would not.
        chosen = f"number in ({', '.join(map(str, stale))})"
        with transaction(self.con):
            self.con.execute(f"delete from accuracy where {chosen}")
            self.con.execute(f"""
                insert into accuracy
                select number, split, epoch, avg(value) filter (name = 'natural_accuracy'),
                       avg(value) filter (name = 'adversarial_accuracy')
                from metric
                where {chosen} and split in ('alphas', 'select') and name in ('natural_accuracy', 'adversarial_accuracy')
                group by number, split, epoch""")
            self.con.execute(f"update ingest set summarised = bytes_done where {chosen}")


@contextmanager
def transaction(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """All statements inside take effect together, or none of them."""
    con.execute("begin")
    try:
        yield
    except BaseException:
        con.execute("rollback")
        raise
    con.execute("commit")


def stamp_of(path: Path | str) -> str:
    """Text that changes when a file is replaced or written; empty when there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return ""
    return f"{found.st_ino}-{found.st_size}-{found.st_mtime_ns}"


def document_row(folder: RunFolder) -> tuple[Any, ...]:
    """Columns of the table `folder` behind `stamp`; a run.json that cannot be used gives a sentence in the last."""
    nothing = (None,) * 7
    try:
        run = folder.read_run()
    except RunError as problem:
        return (*nothing, None, None, None, str(problem))
    config = run["config"]
    names = [run.get(key) for key in ("kind", "method", "title", "preset")]
    return (*names, config.get("dataset"), run.get("parent"), float(run.get("created") or 0), run.get("command"),
            json.dumps(config), json.dumps(run), None)


def is_replaced(path: Path, found: os.stat_result, position: Position) -> bool:
    """True when the file is not the one that was read before: shorter than the offset, new inode, other beginning."""
    return (found.st_size < position.bytes_done or found.st_ino != position.inode
            or head_of(path) != position.head)


def head_of(path: Path) -> str:
    """Hash of the first line of a file (of its first `HEAD_BYTES` bytes if that is longer); empty before it is complete."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    end = head.find(b"\n") + 1 or (HEAD_BYTES if len(head) == HEAD_BYTES else 0)
    return hashlib.sha256(head[:end]).hexdigest()[:16] if end else ""


def chunks(path: Path, offset: int, chunk_bytes: int) -> Iterator[tuple[int, bytes]]:
    """(offset, complete lines) pairs behind `offset`; a torn tail is left for the next time.

    Reads `chunk_bytes` at once, and more where a single line is longer than that.
    """
    with path.open("rb") as file:
        size = chunk_bytes
        while True:
            file.seek(offset)
            data = file.read(size)
            end = data.rfind(b"\n") + 1
            if end:
                yield offset, data[:end]
                offset, size = offset + end, chunk_bytes
            elif len(data) == size:
                size *= 2
            else:
                return


def add_lines(batch: Batch, number: int, start: int, chunk: bytes) -> None:
    """Adds every line of a chunk that begins at byte `start` of its file."""
    seq = start
    for line in chunk.split(b"\n")[:-1]:
        if line.strip():
            batch.add_line(number, seq, line)
        seq += len(line) + 1
