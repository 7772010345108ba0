"""Tables and views of the run log.

Every event of events.jsonl becomes rows of one `*_raw` table, whose columns `engine.run.event_kinds` declares. Queries read the
view of the same name without `_raw`, which holds each step once: an event drops out when a later attempt resumed from an earlier
step, and of two events for the same step the one written last counts. `number` is a run's row number inside one index and never
leaves it.
"""

from __future__ import annotations

import duckdb

from engine.run.event_fields import columns_of
from engine.run.event_kinds import KINDS, Progress, Stamp

# Raised whenever a table changes; an index of another version is deleted and rebuilt from the folders.
VERSION = 4

# First columns of every event table. seq: byte offset of the line in events.jsonl, so its order is the order of writing.
EVENT = {"number": "INTEGER", "seq": "BIGINT"} | columns_of(Stamp)

TABLES: dict[str, dict[str, str]] = {
    # One row per run folder. problem: why run.json cannot be used, as a sentence; NULL when it can.
    "folder": {"number": "INTEGER", "run": "VARCHAR", "stamp": "VARCHAR", "kind": "VARCHAR", "method": "VARCHAR",
               "title": "VARCHAR", "preset": "VARCHAR", "dataset": "VARCHAR", "parent": "VARCHAR", "created": "DOUBLE",
               "command": "VARCHAR", "config": "VARCHAR", "document": "VARCHAR", "problem": "VARCHAR"},
    # How much of events.jsonl is read (bytes_done) and what the file looked like then. summarised: how much of it the table
    # `accuracy` covers.
    "ingest": {"number": "INTEGER", "bytes_done": "BIGINT", "size": "BIGINT", "mtime_ns": "BIGINT", "inode": "BIGINT",
               "head": "VARCHAR", "last_t": "DOUBLE", "summarised": "BIGINT"},
    # Lines that cannot be used.
    "faults": {"number": "INTEGER", "seq": "BIGINT", "sentence": "VARCHAR"},
    # Latest progress of each phase of each attempt, with a thinned trail of the last two minutes for the rate.
    "progress": {"number": "INTEGER", "seq": "BIGINT", "attempt": "INTEGER", "t": "DOUBLE", **Progress.columns(),
                 "trail_t": "DOUBLE[]", "trail_done": "DOUBLE[]"},
    # Mean accuracies of each epoch of searches and retrainings, so that the list of runs need not read every metric.
    "accuracy": {"number": "INTEGER", "split": "VARCHAR", "epoch": "INTEGER", "natural_accuracy": "DOUBLE",
                 "adversarial_accuracy": "DOUBLE"},
    # Worst case per image over all attacks of an attack run, from results/outcomes.parquet.
    "worst": {"number": "INTEGER", "stamp": "VARCHAR", "images": "BIGINT", "correct": "BIGINT", "low": "DOUBLE",
              "high": "DOUBLE"},
    **{f"{kind.table}_raw": EVENT | kind.columns() for kind in KINDS.values() if kind is not Progress},
}

# Key of each view: of several rows with the same key, the one written last counts. The other tables keep every row, whichever
# attempt wrote it.
KEYS = {
    "alpha": ("step", "cell"),
    "genotype": ("step",),
    "objective": ("step", "objective"),
    "candidate": ("candidate",),
    "network": (),
    "attack": ("attack", "part_of"),
}

# An event stays unless a later attempt resumed from before its step.
_CURRENT = """not exists (select 1 from resumed_raw r
              where r.number = e.number and r.attempt > e.attempt and e.step > r.from_step)"""

# There are many metrics, and a hash aggregate is several times cheaper than a window.
_METRIC_VIEW = f"""
create view metric as
select number, split, statistics, name, step, arg_max(epoch, seq) as epoch, arg_max(t, seq) as t,
       arg_max(attempt, seq) as attempt, arg_max_null(value, seq) as value
from metric_raw e where {_CURRENT}
group by number, split, statistics, name, step"""


def create(con: duckdb.DuckDBPyConnection) -> None:
    """Create every table and view in an empty database and note the version, in one transaction."""
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
    """Return the version of a database's tables; None when it is empty or not an index of ours."""
    try:
        row = con.execute("select version from about").fetchone()
    except (duckdb.CatalogException, duckdb.BinderException):
        return None
    return None if row is None else int(row[0])


def is_empty(con: duckdb.DuckDBPyConnection) -> bool:
    """Return True for a database without tables."""
    row = con.execute("select count(*) from duckdb_tables()").fetchone()
    return row is not None and row[0] == 0
