"""The index of a runs folder: a DuckDB database that all queries read. This module opens, fills and rebuilds it.

Everything in the database comes from the run folders, so the database can be deleted at any time and is then rebuilt identically.
DuckDB lets only one process at a time use a database file. Therefore the first process that opens `runs/index.duckdb` owns the
file, and every other process builds its own index in memory. If machines share the runs folder, $RAMPART_INDEX names a local
folder for the file.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, TypeVar

import duckdb
import numpy.typing as npt
import pandas as pd

from engine.errors import RunLogError
from engine.log import schema
from engine.log.ingest import CHUNK_BYTES, Ingester, IngestReport

INDEX = "index.duckdb"
VARIABLE = "RAMPART_INDEX"
MOST_ANSWERS = 64  # answers of queries that are kept
# Without a limit, DuckDB keeps everything that it has read or written in memory. Queries that need more than this limit use a
# temporary file. Every thread of a query reserves memory, so the number of threads is limited as well.
LIMITS: dict[str, str | bool | int | float | list[str]] = {"memory_limit": "128MB", "threads": 2}
# A limit that DuckDB can hardly keep. Trying to, it drops all that it can: cached parts of the file, and what queries leave in
# memory, which is 4 kB for each query with a join or a window in DuckDB 2.0, up to some 30 MB. If nothing is in use just then, it
# keeps the limit, and what queries have left stays until the next time (3 of 24 times, measured).
LEAST_MEMORY = "0B"
RETRY_S = 0.001
# Types of data frame columns: text, whole number, number that may be missing (NaN), and boolean.
TEXT, INT, NUMBER, FLAG = "str", "int64", "float64", "bool"
Answer = TypeVar("Answer")


class Turn:
    """A lock for writing to a database, and a counter of committed changes.

    Attributes:
        lock: lock to hold while copying new events into the database.
        changes: number of changes committed so far.
        latest: {(run id, table): number of the latest change of the run's rows in this table}. With "" in place of the run id,
            it is the latest change of any run.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.changes = 0
        self.latest: dict[tuple[str, str], int] = {}

    def count_change(self, changes: Iterable[tuple[str, str]] = ()) -> None:
        """Increase the count of changes by one. The caller must hold the lock.

        Args:
            changes: pairs of a run id and the name of a table in which rows of this run have changed.
        """
        self.changes += 1
        for run, table in changes:
            self.latest[run, table] = self.latest["", table] = self.changes


_guard = threading.Lock()
_turns: dict[Path, Turn] = {}  # one per runs folder, because two logs in one process share a database file
_owned: set[Path] = set()


class Index:
    """A database that indexes a runs folder.

    Several threads can share an index, because every query has its own cursor and only one thread at a time adds new events.

    Attributes:
        root: the runs folder.
        owner: True if this process owns the file `runs/index.duckdb`; False if the index is in memory.
        holder: id of the other process that owns the file; 0 if another process owns the file but the id is unknown. None if no
            other process owns the file.
        trouble: a sentence that explains why this process has stopped using the file, for example because the disk is full; "" if
            it has not.
    """

    def __init__(self, con: duckdb.DuckDBPyConnection, root: Path, *, owner: bool, holder: int | None = None,
                 chunk_bytes: int = CHUNK_BYTES) -> None:
        """Wrap a connection to a database that already has the tables of `schema`. Use `open` to create an index.

        The docstring of the class explains `root`, `owner` and `holder`. The docstring of `open` explains `chunk_bytes`.
        """
        self.root = root
        self.owner = owner
        self.holder = holder
        self.trouble = ""
        self._con = con
        self._answers: dict[object, tuple[object, Any]] = {}
        self._chunk_bytes = chunk_bytes
        with _guard:
            self._turn = _turns.setdefault(root, Turn()) if owner else Turn()

    @classmethod
    def open(cls, root: Path | str, *, in_memory: bool = False, chunk_bytes: int = CHUNK_BYTES) -> Self:
        """Open the index of a runs folder. An index file that is missing, damaged or of another version is replaced.

        Args:
            root: the runs folder; created if missing.
            in_memory: True to build the index in memory and leave the index file alone. The command line does this, so that a
                dashboard can own the file.
            chunk_bytes: number of bytes of an events.jsonl to read at once. A transaction has about the same size.

        Returns:
            An index that has not yet read the current content of the run folders. Call `ingest` before the first query.
        """
        root = Path(root).absolute()
        if in_memory:
            return cls(_in_memory(), root, owner=False, chunk_bytes=chunk_bytes)
        try:
            root.mkdir(parents=True, exist_ok=True)
            con = _open_file(file_of(root))
        except OSError:  # a read-only folder
            return cls(_in_memory(), root, owner=False, chunk_bytes=chunk_bytes)
        except duckdb.Error as problem:  # held by another process, or the disk is full
            return cls(_in_memory(), root, owner=False, holder=_holder(problem), chunk_bytes=chunk_bytes)
        _owned.add(root)
        return cls(con, root, owner=True, chunk_bytes=chunk_bytes)

    def close(self) -> None:
        """Close the database. Later queries on this index fail."""
        with self._turn.lock:
            self._con.close()
            self._answers.clear()  # so that kept answers are not returned after closing
            _owned.discard(self.root)

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Return a new database cursor for the caller alone."""
        return self._con.cursor()

    def checkpoint(self) -> None:
        """Write all changes to the database file, so that DuckDB need not keep them in memory. Do nothing without a file.

        If the file cannot be written, for example on a full disk, the index goes on in memory, as after `ingest`.
        """
        with self._turn.lock:
            if not self.owner:
                return
            try:
                with self.cursor() as cursor:
                    cursor.execute("checkpoint")
            except duckdb.TransactionException:  # a query is running; the next call writes the changes
                return
            except duckdb.Error as problem:
                self._leave_file(problem)
                self._ingest(None)

    def release_memory(self) -> None:
        """Free what DuckDB has cached of the database file, and what earlier queries have left in memory.

        The first queries about all runs read almost the whole file, and most of it is not needed again. Later queries read the
        parts that they need again, in milliseconds. A query that runs during this call and lacks memory is repeated afterwards.
        If the database has no file, do nothing.
        """
        if not self.owner:
            return
        with self._turn.lock, self.cursor() as cursor:
            with suppress(duckdb.OutOfMemoryException):  # DuckDB has dropped what it can, and keeps its earlier limit
                cursor.execute(f"set memory_limit = '{LEAST_MEMORY}'")
            # This needs a little memory itself, so it can fail while the query of another thread uses what there is.
            while not self._restored(cursor):
                time.sleep(RETRY_S)

    @staticmethod
    def _restored(cursor: duckdb.DuckDBPyConnection) -> bool:
        """Set the usual limit of memory. Return False if there is not enough memory to do so."""
        try:
            cursor.execute(f"set memory_limit = '{LIMITS['memory_limit']}'")
        except duckdb.OutOfMemoryException:
            return False
        return True

    def write_copy(self, path: Path) -> None:
        """Write all tables and views to a new database file.

        Args:
            path: the file, which must not exist.

        Raises:
            duckdb.Error: the file cannot be written, for example because the disk is full.
        """
        with self._turn.lock, self.cursor() as cursor:  # the lock keeps `release_memory` away
            own = cursor.execute("select current_database()").fetchone()
            place = str(path).replace("'", "''")
            cursor.execute(f"attach '{place}' as outgoing")
            try:
                cursor.execute(f'copy from database "{own[0] if own else ""}" to outgoing')
            finally:
                cursor.execute("detach outgoing")

    def ingest(self, runs: str | Collection[str] | None = None) -> IngestReport:
        """Read the new content of the folders of one or several runs, or of all run folders if `runs` is None.

        For an unchanged file, this takes only one `stat` call.

        Raises:
            RunError: one of `runs` is not a valid run id.
            RunLogError: DuckDB cannot store the new rows even in memory. The rows stored earlier are kept.
        """
        with self._turn.lock:
            try:
                return self._ingest([runs] if isinstance(runs, str) else runs)
            except duckdb.Error as problem:
                if not self.owner:
                    raise RunLogError(f"The index of {self.root} must take in new events and could not ({problem}); restart the "
                                      "dashboard. The runs themselves are not affected.") from problem
                self._leave_file(problem)
                return self._ingest(None)

    def _ingest(self, runs: Collection[str] | None) -> IngestReport:
        with self.cursor() as cursor:
            return Ingester(cursor, self.root, self._chunk_bytes, self._turn.count_change).ingest(runs)

    def kept(self, question: object, tables: Iterable[str], run: str, ask: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """Return a copy of the result that `shared` returns for the same arguments. The caller may change the copy."""
        return self.shared(question, tables, run, ask).copy()

    def shared(self, question: object, tables: Iterable[str], run: str, ask: Callable[[], Answer]) -> Answer:
        """Return the result of a query, cached until the tables change. The caller must not modify the result.

        Args:
            question: name of the query with its arguments.
            tables: names of the tables that the query reads, without the suffix `_raw`.
            run: id of the only run whose rows it reads; "" for all runs.
            ask: function that runs the query and returns the result.
        """
        # The revision is read before the query, so that a change during the query makes its answer out of date.
        state = self._con, self.revision(tables, run)
        known = self._answers.pop(question, None)
        if known is None or known[0] != state:
            known = state, ask()
        self._answers[question] = known
        while len(self._answers) > MOST_ANSWERS:
            self._answers.pop(next(iter(self._answers)), None)
        answer: Answer = known[1]
        return answer

    def revision(self, tables: Iterable[str], run: str = "") -> int:
        """Return a number that grows whenever `ingest` changes rows of a run in one of the named tables.

        The number has a meaning only within this process. No query is needed to compute it.

        Args:
            tables: names of tables, without the suffix `_raw`.
            run: id of the run; "" for all runs.
        """
        return max((self._turn.latest.get((run, table), 0) for table in tables), default=0)

    def _leave_file(self, problem: duckdb.Error) -> None:
        """Continue with an empty database in memory, because the file cannot be written, for example on a full disk."""
        self.trouble = (f"{file_of(self.root)} cannot be written ({problem}). The index is kept in memory; free disk space and "
                        "restart the dashboard.")
        file, self._con = self._con, _in_memory()
        self._turn.count_change()
        self.owner = False
        _owned.discard(self.root)
        file.close()  # queries that are still running have cursors of their own

    def _frame(self, sql: str, columns: Mapping[str, str], run: str | None = None, **parameters: Any) -> pd.DataFrame:
        """Run a query and return its rows as a data frame. The columns and their types do not depend on the number of rows.

        Args:
            sql: query that returns at least the columns in `columns`.
            columns: name and type of each column of the data frame, in order.
            run: id of a run. The run's row number is the value of $n in the query. None if the query does not contain $n.
            parameters: values of the other $names in the query.
        """
        if run is not None:
            parameters["n"] = self._number(run)
        found = self._ask(sql, parameters, lambda result: result.df())
        chosen = found if list(found) == list(columns) else found[list(columns)]
        other = {name: columns[name] for name, kind in chosen.dtypes.items() if kind != columns[name]}
        return chosen.astype(other) if other else chosen  # a conversion takes longer than many a query

    def _rows(self, sql: str, run: str | None = None, **parameters: Any) -> list[tuple[Any, ...]]:
        """Run a query and return its rows as tuples.

        Args:
            sql: the query.
            run: id of a run. The run's row number is the value of $n in the query. None if the query does not contain $n.
            parameters: values of the other $names in the query.
        """
        if run is not None:
            parameters["n"] = self._number(run)
        return self._ask(sql, parameters, lambda result: result.fetchall())

    def _records(self, sql: str) -> list[dict[str, Any]]:
        """Run a query without parameters and return its rows as dicts."""
        def records(result: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
            names = [column[0] for column in result.description or ()]
            return [dict(zip(names, row, strict=True)) for row in result.fetchall()]

        return self._ask(sql, {}, records)

    def _arrays(self, sql: str, run: str, **parameters: Any) -> dict[str, npt.NDArray[Any]]:
        """Run a query about a run and return its columns as arrays, ten times as fast as rows where a row holds many weights.

        Args:
            sql: the query, in which $n is the row number of the run.
            run: id of the run.
            parameters: values of the other $names in the query.
        """
        parameters["n"] = self._number(run)
        return self._ask(sql, parameters, lambda result: result.fetchnumpy())

    def _ask(self, sql: str, parameters: Mapping[str, Any], fetch: Callable[[duckdb.DuckDBPyConnection], Answer]) -> Answer:
        """Run a query and return what `fetch` makes of its result. All queries of pages come here (see `release_memory`)."""
        try:
            with self.cursor() as cursor:
                return fetch(cursor.execute(sql, parameters))
        except duckdb.OutOfMemoryException:  # memory was being released, which cannot happen while the lock is held
            with self._turn.lock, self.cursor() as cursor:
                return fetch(cursor.execute(sql, parameters))

    def _number(self, run: str) -> int:
        """Return the row number of a run in the index. For an unknown run, return -1, which matches no row."""
        return self._numbered().get(run, (-1, ""))[0]

    def _numbered(self) -> dict[str, tuple[int, str]]:
        """Return {run id: (row number in the index, kind of the run)} of all runs."""
        return self.shared("numbers", ("folder",), "", lambda: {
            run: (number, kind) for run, number, kind in self._rows("select run, number, coalesce(kind, '') from folder")})

    def _among(self, runs: Collection[str], kind: str | None = None) -> str:
        """Return an SQL condition that selects the rows of these runs. If `kind` is given, runs of other kinds are left out.

        The condition lists the row numbers of the runs as constants, because DuckDB filters the tables inside a view only by
        constants.
        """
        known = self._numbered()
        numbers = [str(known[run][0]) for run in runs if run in known and kind in (None, known[run][1])]
        return f"number in ({', '.join(numbers)})" if numbers else "false"


def file_of(root: Path) -> Path:
    """Return the path of the index file of a runs folder: in $RAMPART_INDEX, which is created, or else in the runs folder itself.

    DuckDB must not use a file on a network file system, whose locks and caches may fail it.
    """
    folder = os.environ.get(VARIABLE)
    if not folder:
        return root / INDEX
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder).absolute() / f"{hashlib.sha256(str(root).encode()).hexdigest()[:16]}.duckdb"


def reindex(root: Path | str) -> IngestReport:
    """Delete the index file and rebuild it from the run folders in `root`.

    Raises:
        RunLogError: the folder `root` does not exist, or a running dashboard owns the file.
    """
    root = Path(root).absolute()
    path = file_of(root)
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
    """Open the index file and return the connection. A file that is damaged or of another version is replaced.

    Raises:
        duckdb.IOException: another process owns the file.
        OSError: the file cannot be written.
    """
    con = None
    try:
        con = duckdb.connect(str(path), config=LIMITS)
        if schema.is_empty(con):
            schema.create(con)
        if schema.version_of(con) == schema.VERSION:
            return con
    except duckdb.Error as problem:
        if _holder(problem) is not None:
            raise
        # The file is damaged, or not a DuckDB file. Everything that was in it can be read from the run folders again.
    if con is not None:
        con.close()
    _delete(path)
    con = duckdb.connect(str(path), config=LIMITS)
    schema.create(con)
    return con


def _delete(path: Path) -> None:
    for name in (path, path.with_name(path.name + ".wal")):
        name.unlink(missing_ok=True)


def _holder(problem: duckdb.Error) -> int | None:
    """Return the id of the process that holds the lock on the database file, taken from DuckDB's error message.

    The message of DuckDB 2.0.0 is "Conflicting lock is held in ... (PID n)". Return 0 if the message mentions a lock but no
    process id. Return None if the message mentions no lock.
    """
    match = re.search(r"Conflicting lock is held.*?\(PID (\d+)\)", str(problem), re.DOTALL)
    if match:
        return int(match[1])
    return 0 if "Could not set lock" in str(problem) else None
