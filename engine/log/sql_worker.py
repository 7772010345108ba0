"""The process that runs one query of a user on a copy of the index.

    python -I engine/log/sql_worker.py < request.json

The script imports nothing from this project, because the imports would take longer than most queries.

The request is a JSON object with the keys copy (path of the copy), sql (the query), and rows, seconds and megabytes (limits). The
answer on stdout is one line with a JSON object, followed by the rows as a Parquet file. The object has these keys:

* refusal: a sentence that says why there is no result. All other keys and the rows are then missing.
* cut: true if rows were left out.
* seconds: duration of the query.

Six barriers keep a query from doing harm. Each works without the others:

* The query runs in a separate process, on a copy of the index. The process can be killed without harm to the dashboard.
* DuckDB opens the copy for reading only.
* DuckDB may open no other file, attach no database and load no extension, and these options are locked.
* Only one statement is accepted, which must be a query.
* DuckDB is interrupted when the time is over, and the parent kills the process a little later.
* The operating system lets the process write no file, and limits its memory and processor time.
"""

from __future__ import annotations

import io
import json
import math
import os
import resource
import sys
import threading
import time
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

LARGEST_ANSWER = 64 * 2**20  # bytes of a result in memory
ADDRESS_SPACE = 4 * 2**30  # bytes that the process may map; a small query maps 2.6 GB and uses 0.13 GB of it
MORE_CPU_S = 5  # processor time in addition to the time limit, for imports and for the end of an interrupted query
QUERIES = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
THREADS = 2
BATCH = 2048


class Refusal(Exception):
    """An error that says why a query was rejected or not finished. The text is a sentence for the user."""


def confine(seconds: float) -> None:
    """Forbid this process to write files, and limit its memory and processor time.

    The answer can still be written, because it goes to a pipe.

    Args:
        seconds: time limit of the query.
    """
    processor = THREADS * math.ceil(seconds) + MORE_CPU_S
    resource.setrlimit(resource.RLIMIT_CPU, (processor, processor))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))


def connect(copy: str, megabytes: int) -> duckdb.DuckDBPyConnection:
    """Open the copy of the index read-only, with at most `megabytes` of memory and without access to other files."""
    con = duckdb.connect(copy, read_only=True, config={
        "enable_external_access": "false", "autoinstall_known_extensions": "false", "autoload_known_extensions": "false",
        "allow_community_extensions": "false", "python_enable_replacements": "false", "memory_limit": f"{megabytes}MB",
        "temp_directory": "", "threads": str(THREADS)})
    con.execute("set lock_configuration = true")
    return con


def checked(sql: str) -> str:
    """Return the query if it is a single statement that only reads.

    Raises:
        Refusal: there is no statement, there are several, or the statement is of another kind.
    """
    statements = duckdb.extract_statements(sql)
    if len(statements) != 1:
        raise Refusal(f"The text must hold one query, got {len(statements) or 'none'}; "
                      f"{'leave one of them' if statements else 'write one that begins with SELECT'}.")
    if statements[0].type not in QUERIES:
        raise Refusal(f"The statement must be a query, such as SELECT, DESCRIBE or EXPLAIN, got {statements[0].type.name}; "
                      "the tables can only be read.")
    return sql


def rows_of(con: duckdb.DuckDBPyConnection, sql: str, most: int) -> tuple[pa.Table, bool]:
    """Run a query and return (its first `most` rows, True if there are more).

    If several columns have the same name, numbers are appended to the names.

    Raises:
        Refusal: the rows take too much memory.
    """
    reader = con.sql(sql).to_arrow_reader(BATCH)  # produces rows only as they are read
    batches, rows, size = [], 0, 0
    for batch in reader:
        batches.append(batch)
        rows, size = rows + len(batch), size + batch.nbytes
        if size > LARGEST_ANSWER:
            raise Refusal(f"The result must be at most {LARGEST_ANSWER >> 20} MB and is larger; choose fewer columns or rows.")
        if rows > most:
            break
    table = pa.Table.from_batches(batches, reader.schema)
    names: list[str] = []
    for name in table.column_names:
        names.append(name if name not in names else f"{name}_{len(names) + 1}")
    return table.rename_columns(names).slice(0, most), rows > most


def answer(request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Run the query of a request, and return both parts of the answer.

    Returns:
        The JSON object of the first line.
        The rows, as the content of a Parquet file; empty if the query was refused.
    """
    started = time.monotonic()
    try:
        con = connect(request["copy"], request["megabytes"])
        timer = threading.Timer(request["seconds"], con.interrupt)
        timer.daemon = True
        timer.start()
        table, cut = rows_of(con, checked(request["sql"]), request["rows"])
        timer.cancel()
        content = io.BytesIO()
        pq.write_table(table, content)
    except Refusal as refusal:
        return {"refusal": str(refusal)}, b""
    except duckdb.InterruptException:
        return {"refusal": f"The query must end within {request['seconds']:g} s and did not; ask for fewer runs or steps."}, b""
    except (duckdb.OutOfMemoryException, MemoryError):
        return {"refusal": f"The query must need at most {request['megabytes']} MB of memory and needs more; ask for fewer runs, "
                           "steps or columns."}, b""
    except pa.ArrowNotImplementedError as problem:
        return {"refusal": f"Each column must have a type that Parquet knows, and one has not ({problem}); cast it, for example "
                           "column::VARCHAR."}, b""
    except (duckdb.Error, pa.ArrowInvalid, UnicodeError) as problem:
        return {"refusal": f"The query cannot be run: {sentence(str(problem))}"}, b""
    return {"cut": cut, "seconds": time.monotonic() - started}, content.getvalue()


def sentence(message: str) -> str:
    """Convert a message of DuckDB to one line that ends as a sentence does. The excerpt of the query is left out."""
    text, _, place = message.partition("\n\nLINE ")
    line = place.partition(":")[0]
    text = " ".join(text.split()).rstrip(".")
    return f"{text} (line {line})." if line.isdigit() else text if text.endswith(("?", "!")) else f"{text}."


def main() -> None:
    """Read one request from stdin and write the answer to stdout."""
    request = json.load(sys.stdin)
    confine(request["seconds"])
    head, content = answer(request)
    sys.stdout.buffer.write(json.dumps(head).encode() + b"\n" + content)
    sys.stdout.buffer.flush()
    os._exit(0)  # without the interpreter's clean-up, during which threads of an unfinished DuckDB result sometimes abort


if __name__ == "__main__":
    main()
