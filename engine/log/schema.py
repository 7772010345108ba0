"""Tables and views of the run log.

Every event in events.jsonl becomes one or more rows of a table whose name ends in `_raw`. `engine.run.event_kinds` declares the
columns. For most of these tables, there is a view with the same name but without `_raw`. A resumed run repeats the steps that an
earlier attempt (start of the worker) made after the checkpoint. The view leaves out the earlier events of these steps. If several
events have the same key (`KEYS`), the view contains only the event that was written last.

The column `number` is the row number of a run. It is valid only within one index and is not shown to users.
"""

from __future__ import annotations

import duckdb

from engine.run.event import Stamp
from engine.run.event_fields import columns_of
from engine.run.event_kinds import KINDS, Progress

# Increase this number whenever a table changes. An index of another version is deleted and rebuilt from the folders.
VERSION = 15

# First columns of every event table. seq is the byte offset of the line in events.jsonl, so events ordered by it are in the order
# in which they were written.
EVENT = {"number": "INTEGER", "seq": "BIGINT"} | columns_of(Stamp)

TABLES: dict[str, dict[str, str]] = {
    # One row per run folder. stamp changes with run.json and marks.json. tags are separated by spaces. problem is a sentence that
    # explains why run.json cannot be used, or NULL if it can.
    "folder": {"number": "INTEGER", "run": "VARCHAR", "stamp": "VARCHAR", "kind": "VARCHAR", "method": "VARCHAR",
               "title": "VARCHAR", "preset": "VARCHAR", "dataset": "VARCHAR", "parent": "VARCHAR", "created": "DOUBLE",
               "command": "VARCHAR", "config": "VARCHAR", "document": "VARCHAR", "study": "VARCHAR",
               "example": "BOOLEAN", "problem": "VARCHAR", "tags": "VARCHAR", "note": "VARCHAR", "archived": "BOOLEAN"},
    # How many bytes of each events.jsonl have been read (bytes_done) and what the file looked like then.
    "ingest": {"number": "INTEGER", "bytes_done": "BIGINT", "size": "BIGINT", "mtime_ns": "BIGINT", "inode": "BIGINT",
               "head": "VARCHAR", "last_t": "DOUBLE"},
    # Lines of events.jsonl that cannot be used, and outcomes.parquet files that cannot be read, each with an explanation.
    "faults": {"number": "INTEGER", "seq": "BIGINT", "sentence": "VARCHAR"},
    # Latest progress in each phase of each attempt. The trail holds some progress points of the last two minutes, from which the
    # rate is computed.
    "progress": {"number": "INTEGER", "seq": "BIGINT", "attempt": "INTEGER", "t": "DOUBLE", **Progress.columns(),
                 "trail_t": "DOUBLE[]", "trail_done": "DOUBLE[]"},
    # Mean accuracies in each epoch of searches and retrainings, and the sums and counts of which they are made
    # (`engine.log.accuracies`). They save the list of runs from reading every metric.
    "accuracy": {"number": "INTEGER", "split": "VARCHAR", "epoch": "INTEGER", "natural_accuracy": "DOUBLE",
                 "adversarial_accuracy": "DOUBLE", "natural_sum": "DOUBLE", "natural_count": "BIGINT",
                 "adversarial_sum": "DOUBLE", "adversarial_count": "BIGINT", "last_step": "BIGINT"},
    **{f"{kind.table}_raw": EVENT | kind.columns() for kind in KINDS.values() if kind is not Progress},
}

# Tables that change with the files of runs, without the suffix `_raw`.
EVENTS = tuple(name.removesuffix("_raw") for name in TABLES if name not in ("ingest", "accuracy"))

# Key of each view. Of several rows with the same key, the view contains the one written last. Apart from `metric`, the other
# event tables have no view, so queries read all of their rows, including those of repeated attempts.
KEYS = {
    "alpha": ("step", "cell"),
    "genotype": ("step",),
    "objective": ("step", "objective"),
    "candidate": ("candidate",),
    "network": (),
    "attack": ("attack", "part_of"),
    "evaluation": (),
    "latency": ("batch",),
    "attack_check": ("check_name",),
    "verdict": (),
    "sweep": ("sweep", "attack", "norm", "epsilon", "steps"),
    "critical": ("attack", "norm"),
    "certified": ("norm", "epsilon"),
}

# Keeps an event unless a later attempt of the run resumed from a step before it.
_CURRENT = """not exists (select 1 from resumed_raw r
              where r.number = e.number and r.attempt > e.attempt and e.step > r.from_step)"""

# There are many metrics, so this view uses a hash aggregate, which is several times cheaper than a window function.
_METRIC_VIEW = f"""
create view metric as
select number, split, statistics, name, step, arg_max(epoch, seq) as epoch, arg_max(t, seq) as t,
       arg_max(attempt, seq) as attempt, arg_max_null(value, seq) as value
from metric_raw e where {_CURRENT}
group by number, split, statistics, name, step"""


def create(con: duckdb.DuckDBPyConnection) -> None:
    """Create all tables and views in an empty database and record the version, in one transaction."""
    con.execute("begin")
    con.execute("create table about (version INTEGER)")
    con.execute("insert into about values (?)", [VERSION])
    for table, columns in TABLES.items():
        con.execute(f"create table {table} ({', '.join(f'{name} {kind}' for name, kind in columns.items())})")
    for view, key in KEYS.items():
        partition = ", ".join(("number", *key))
        con.execute(f"create view {view} as select * from {view}_raw e where {_CURRENT} "
                    f"qualify row_number() over (partition by {partition} order by seq desc) = 1")
    con.execute(_METRIC_VIEW)
    con.execute("commit")


def version_of(con: duckdb.DuckDBPyConnection) -> int | None:
    """Return the version of the tables in a database, or None if the database is empty or is not an index of a runs folder."""
    try:
        rows = con.execute("select version from about").fetchall()  # `fetchone` would leave a transaction open, see `is_empty`
    except (duckdb.CatalogException, duckdb.BinderException):
        return None
    return int(rows[0][0]) if rows else None


def is_empty(con: duckdb.DuckDBPyConnection) -> bool:
    """Return True if the database has no tables.

    All rows of the query are fetched, because otherwise its transaction would stay open. While an older transaction is open,
    DuckDB does not write updated rows to the file, so the log of changes and the memory grow without bound.
    """
    return con.execute("select count(*) from duckdb_tables()").fetchall() == [(0,)]
