"""Queries written by users. Each runs in a separate process, on a read-only copy of the index.

DuckDB lets one process at a time open a database file, and the dashboard keeps `index.duckdb` open for writing, so no second
process can read the file. A cursor in the dashboard's process would be able to write, would share its memory limit, and could not
be killed. Therefore a query runs on a copy of the index in a temporary file, which `engine/log/sql_worker.py` reads. The copy is
renewed only if the index has changed since the last query, and takes about 0.02 s per megabyte.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from engine.errors import RunLogError
from engine.log.index import Index
from engine.log.schema import TABLES
from engine.run.leftovers import remove_folders, scratch_prefix

ROWS, SECONDS, MEGABYTES = 10_000, 10.0, 512
LONGEST = 8000  # characters of a query, so that an address can hold it
START_S = 10.0  # time that the process may take on a busy machine in addition to the query
WORKER = Path(__file__).with_name("sql_worker.py")


@dataclass(frozen=True)
class Answer:
    """The result of a query.

    Attributes:
        table: rows of the result, at most the row limit.
        cut: True if the query has more rows than the row limit.
        seconds: duration of the query.
        parquet: the rows as a Parquet file.
    """

    table: pa.Table
    cut: bool
    seconds: float
    parquet: bytes


class Console:
    """A runner of users' queries on the current content of a run log. Queries of several threads run one after another.

    Example:
        Console(log).ask("select count(*) from folder").table
    """

    def __init__(self, log: Index) -> None:
        self._log = log
        self._lock = threading.Lock()
        remove_folders(Path(tempfile.gettempdir()))
        # deleted with the console, at the latest at exit
        self._folder = tempfile.TemporaryDirectory(prefix=scratch_prefix("sql"))
        self._changes = -1

    def ask(self, sql: str, *, rows: int = ROWS, seconds: float = SECONDS, megabytes: int = MEGABYTES) -> Answer:
        """Run a query and return its result.

        Args:
            sql: one statement that only reads.
            rows: row limit of the result. Further rows are left out.
            seconds: time limit of the query.
            megabytes: memory limit of the query.

        Raises:
            RunLogError: the query is refused, fails, or exceeds a limit.
        """
        if len(sql) > LONGEST:
            raise RunLogError(f"A query must have at most {LONGEST:,} characters, got {len(sql):,}; shorten it.")
        with self._lock:
            return _run({"copy": str(self._copy()), "sql": sql, "rows": rows, "seconds": seconds, "megabytes": megabytes})

    def _copy(self) -> Path:
        """Return the path of the copy of the index, after renewing the copy if the index has changed."""
        path = Path(self._folder.name) / "runs.duckdb"
        changes = self._log.revision(name.removesuffix("_raw") for name in TABLES)
        if changes != self._changes:
            path.unlink(missing_ok=True)
            try:
                self._log.write_copy(path)
            except duckdb.Error as problem:
                raise RunLogError(f"The copy of the index for queries must be written to {self._folder.name} and could not be "
                                  f"({' '.join(str(problem).split())}); free some disk space.") from problem
            self._changes = changes
        return path


def _run(request: dict[str, object]) -> Answer:
    # The process gets no variables of the environment, which might hold secrets.
    command = [sys.executable, "-I", str(WORKER)]
    environment = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    limit = float(str(request["seconds"])) + START_S
    try:
        done = subprocess.run(command, input=json.dumps(request).encode(), capture_output=True, timeout=limit, check=False,
                              env=environment | {"OMP_NUM_THREADS": "1"})
    except subprocess.TimeoutExpired:
        raise RunLogError(f"The query must end within {request['seconds']:g} s, did not, and was killed; ask for fewer runs or "
                          "steps.") from None
    if done.returncode != 0:
        raise RunLogError(f"The process of the query ended with code {done.returncode}, probably because it needed more than "
                          f"{request['megabytes']} MB of memory; ask for fewer runs, steps or columns.")
    head, _, content = done.stdout.partition(b"\n")
    facts = json.loads(head)
    if "refusal" in facts:
        raise RunLogError(facts["refusal"])
    import pyarrow.parquet as pq  # takes memory that most pages do not need

    return Answer(pq.read_table(io.BytesIO(content)), facts["cut"], facts["seconds"], content)
