"""The index of a runs folder: opening, filling and rebuilding the DuckDB database that the queries read.

The run folders are the truth; the database can be deleted at any time and is rebuilt identically. DuckDB lets one process read
and write a file, so the first process that opens `runs/index.duckdb` owns it, and every other one builds an index in memory.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import duckdb
import pandas as pd

from engine.errors import RunLogError
from engine.log import schema
from engine.log.ingest import CHUNK_BYTES, Ingester, IngestReport

INDEX = "index.duckdb"
# Types of columns: text, whole number, number that may be missing, yes or no.
TEXT, INT, NUMBER, FLAG = "str", "int64", "float64", "bool"


class Turn:
    """One turn at a time to write a database, and a count of the changes.

    Attributes:
        lock: held during an ingest.
        changes: how many changes were committed. Answers from before the latest one are out of date.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.changes = 0

    def count_change(self) -> None:
        """Count a change; the caller holds the lock."""
        self.changes += 1


_guard = threading.Lock()
_turns: dict[Path, Turn] = {}  # one per runs folder: two logs of one process share a database file
_owned: set[Path] = set()


class Index:
    """The database of a runs folder.

    Safe to use from several threads: every query has its own cursor, and one ingest runs at a time.

    Attributes:
        root: the runs folder.
        owner: True when this process owns `runs/index.duckdb`; False when the index is in memory.
        holder: id of the process that owns the file, when that is another one and known.
        trouble: a sentence when the file had to be given up while in use (a full disk), else "".
    """

    def __init__(self, con: duckdb.DuckDBPyConnection, root: Path, *, owner: bool, holder: int | None = None,
                 chunk_bytes: int = CHUNK_BYTES) -> None:
        """Use `open` instead; `con` is a connection to a database with the tables of `schema`."""
        self.root = root
        self.owner = owner
        self.holder = holder
        self.trouble = ""
        self._con = con
        self._chunk_bytes = chunk_bytes
        with _guard:
            self._turn = _turns.setdefault(root, Turn()) if owner else Turn()

    @classmethod
    def open(cls, root: Path | str, *, in_memory: bool = False, chunk_bytes: int = CHUNK_BYTES) -> Self:
        """Open the index of a runs folder. One that is missing, damaged or of another version is built anew.

        Args:
            root: the runs folder; created when missing.
            in_memory: never take the file (the command line leaves it to a dashboard).
            chunk_bytes: how much of an events.jsonl to read at once; a transaction holds about as much.

        Returns:
            A log that has ingested nothing yet: call `ingest`.
        """
        root = Path(root).absolute()
        if in_memory:
            return cls(_in_memory(), root, owner=False, chunk_bytes=chunk_bytes)
        try:
            root.mkdir(parents=True, exist_ok=True)
            con = _open_file(root / INDEX)
        except OSError:  # a read-only folder
            return cls(_in_memory(), root, owner=False, chunk_bytes=chunk_bytes)
        except duckdb.Error as problem:  # held by another process, or the disk is full
            return cls(_in_memory(), root, owner=False, holder=_holder(problem), chunk_bytes=chunk_bytes)
        _owned.add(root)
        return cls(con, root, owner=True, chunk_bytes=chunk_bytes)

    def close(self) -> None:
        """Close the index; later queries fail."""
        with self._turn.lock:
            self._con.close()
            self._turn.count_change()  # answers from memory end too
            _owned.discard(self.root)

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Return a new cursor on the database, for the caller alone."""
        return self._con.cursor()

    def ingest(self, run: str | None = None) -> IngestReport:
        """Read what is new in the folder of one run, or in all folders. An unchanged file costs one `stat`.

        Raises:
            RunError: `run` is not a run id.
            RunLogError: DuckDB could not take in the rows even in memory; earlier rows are still there.
        """
        with self._turn.lock:
            try:
                return self._ingest(run)
            except duckdb.Error as problem:
                if not self.owner:
                    raise RunLogError(f"The index of {self.root} must take in new events and could not ({problem}); restart the "
                                      "dashboard. The runs themselves are not affected.") from problem
                self._leave_file(problem)
                return self._ingest(None)

    def _ingest(self, run: str | None) -> IngestReport:
        with self.cursor() as cursor:
            return Ingester(cursor, self.root, self._chunk_bytes, self._turn.count_change).ingest(run)

    def _leave_file(self, problem: duckdb.Error) -> None:
        """Continue in memory when the file cannot be written, so that a full disk never stops the pages."""
        self.trouble = (f"{self.root / INDEX} cannot be written ({problem}). The index is kept in memory; free disk space and "
                        "restart the dashboard.")
        file, self._con = self._con, _in_memory()
        self._turn.count_change()
        self.owner = False
        _owned.discard(self.root)
        file.close()  # queries in progress have their own cursors

    def _frame(self, sql: str, columns: Mapping[str, str], run: str | None = None, **parameters: Any) -> pd.DataFrame:
        """Return the rows of a query as exactly `columns` (name -> type), the same with and without rows.

        Args:
            sql: must yield every name of `columns`.
            run: binds $n to its row number.
            parameters: values of the other $names.
        """
        with self.cursor() as cursor:
            if run is not None:
                parameters["n"] = number_of(cursor, run)
            return cursor.execute(sql, parameters).df()[list(columns)].astype(dict(columns))

    def _rows(self, sql: str, run: str | None = None, **parameters: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query; arguments as of `_frame`."""
        with self.cursor() as cursor:
            if run is not None:
                parameters["n"] = number_of(cursor, run)
            return cursor.execute(sql, parameters).fetchall()


def number_of(cursor: duckdb.DuckDBPyConnection, run: str) -> int:
    """Return the row number of a run in this index; -1, which no row has, for an unknown run."""
    row = cursor.execute("select number from folder where run = ?", [run]).fetchone()
    return -1 if row is None else int(row[0])


def reindex(root: Path | str) -> IngestReport:
    """Delete `runs/index.duckdb` and rebuild it from the folders.

    Raises:
        RunLogError: there is no such folder, or a dashboard owns the file.
    """
    root = Path(root).absolute()
    path = root / INDEX
    if not root.is_dir():
        raise RunLogError(f"Expected a folder of runs at {root}, and there is none; pass the right one with --runs.")
    if root in _owned:
        raise RunLogError(f"{path} is in use by this process, so it cannot be rebuilt; close the dashboard first.")
    try:
        duckdb.connect(str(path)).close()
    except duckdb.IOException as problem:
        holder = _holder(problem)
        if holder is not None:
            raise RunLogError(f"Expected {path} to be free, but a dashboard (process {holder}) owns it; close that dashboard "
                              "and reindex again.") from None
    _delete(path)
    index = Index.open(root)
    try:
        if not index.owner:
            raise RunLogError(f"Expected {path} to be free, but process {index.holder or 'unknown'} has just taken it; close "
                              "the dashboard and reindex again.")
        return index.ingest()
    finally:
        index.close()


def _in_memory() -> duckdb.DuckDBPyConnection:
    con = duckdb.connect(":memory:")
    schema.create(con)
    return con


def _open_file(path: Path) -> duckdb.DuckDBPyConnection:
    """Return a connection to the index file, which is replaced by an empty one unless usable and of this version.

    Raises:
        duckdb.IOException: another process holds the file.
        OSError: the file cannot be written.
    """
    con = None
    try:
        con = duckdb.connect(str(path))
        if schema.is_empty(con):
            schema.create(con)
        if schema.version_of(con) == schema.VERSION:
            return con
    except duckdb.Error as problem:
        if _holder(problem) is not None:
            raise
        # Damaged, or not a DuckDB file. The folders hold everything that was in it.
    if con is not None:
        con.close()
    _delete(path)
    con = duckdb.connect(str(path))
    schema.create(con)
    return con


def _delete(path: Path) -> None:
    for name in (path, path.with_name(path.name + ".wal")):
        name.unlink(missing_ok=True)


def _holder(problem: duckdb.Error) -> int | None:
    """Return the process id in DuckDB's message about a held lock (2.0.0: "Conflicting lock is held in ... (PID n)")."""
    match = re.search(r"Conflicting lock is held.*?\(PID (\d+)\)", str(problem), re.DOTALL)
    if match:
        return int(match[1])
    return 0 if "Could not set lock" in str(problem) else None
