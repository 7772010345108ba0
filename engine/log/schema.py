"""Tables and views of the run log.

Every event of events.jsonl becomes rows of one `*_raw` table; the view of the same name without `_raw` is what queries
read: each step stands once in it. An event drops out when a later attempt resumed from an earlier step, and of two events
for the same step the one written last counts. `number` is a run's row number inside one index and never leaves it.
"""

from __future__ import annotations

import duckdb

# Raised whenever a table changes; an index of another version is deleted and rebuilt from the folders.
VERSION = 3

# Columns that every event table begins with. seq: byte offset of the line in events.jsonl, so order is order of writing.
EVENT = {"number": "INTEGER", "seq": "BIGINT", "attempt": "INTEGER", "step": "BIGINT", "epoch": "INTEGER", "t": "DOUBLE"}

TABLES: dict[str, dict[str, str]] = {
    # One row per run folder; `problem` is the sentence when run.json cannot be used, else NULL.
    "folder": {"number": "INTEGER", "run": "VARCHAR", "stamp": "VARCHAR", "kind": "VARCHAR", "method": "VARCHAR",
               "title": "VARCHAR", "preset": "VARCHAR", "dataset": "VARCHAR", "parent": "VARCHAR", "created": "DOUBLE",
               "command": "VARCHAR", "config": "VARCHAR", "document": "VARCHAR", "problem": "VARCHAR"},
    # How far events.jsonl was read (bytes_done), what it looked like then, and up to where accuracies were summed up.
    "ingest": {"number": "INTEGER", "bytes_done": "BIGINT", "size": "BIGINT", "mtime_ns": "BIGINT", "inode": "BIGINT",
               "head": "VARCHAR", "last_t": "DOUBLE", "summarised": "BIGINT"},
    "faults": {"number": "INTEGER", "seq": "BIGINT", "sentence": "VARCHAR"},
    # Latest progress of every phase of every attempt, with a thinned trail of the last two minutes for the rate.
    "progress": {"number": "INTEGER", "attempt": "INTEGER", "phase": "VARCHAR", "seq": "BIGINT", "t": "DOUBLE",
                 "done": "DOUBLE", "total": "DOUBLE", "unit": "VARCHAR", "passes": "BIGINT", "detail": "VARCHAR",
                 "trail_t": "DOUBLE[]", "trail_done": "DOUBLE[]"},
    # Mean accuracies of each epoch of searches and retrainings, so that the list of runs need not read every metric.
    "accuracy": {"number": "INTEGER", "split": "VARCHAR", "epoch": "INTEGER", "natural_accuracy": "DOUBLE",
                 "adversarial_accuracy": "DOUBLE"},
    # Worst case per image over all attacks of an attack run, from results/outcomes.parquet.
    "worst": {"number": "INTEGER", "stamp": "VARCHAR", "images": "BIGINT", "correct": "BIGINT", "low": "DOUBLE",
              "high": "DOUBLE"},
    "resumed_raw": EVENT | {"from_step": "BIGINT"},
    "metric_raw": EVENT | {"split": "VARCHAR", "statistics": "VARCHAR", "name": "VARCHAR", "value": "DOUBLE"},
    # alpha and weight (softmax of alpha over operations): [edges * operations], edge by edge. edge_weight: [edges] softmax of
    # beta over the edges into a node, [] where the method has none; where it has, weight is multiplied by it.
    "alpha_raw": EVENT | {"cell": "VARCHAR", "primitives": "VARCHAR[]", "alpha": "FLOAT[]", "weight": "FLOAT[]",
                          "edge_weight": "FLOAT[]"},
    "genotype_raw": EVENT | {"genotype": "VARCHAR", "hash": "VARCHAR"},
    # One row per objective; cosine: the smallest cosine between its gradient and any other objective's.
    "objective_raw": EVENT | {"objective": "VARCHAR", "position": "INTEGER", "loss": "DOUBLE", "weight": "DOUBLE",
                              "norm": "DOUBLE", "cosine": "DOUBLE"},
    # Networks that a search trained and measured by themselves; low and high: 95 % Wilson.
    "candidate_raw": EVENT | {"candidate": "INTEGER", "genotype": "VARCHAR", "hash": "VARCHAR", "parameters": "BIGINT",
                              "macs": "BIGINT", "images": "BIGINT", "natural_correct": "BIGINT", "natural_low": "DOUBLE",
                              "natural_high": "DOUBLE", "adversarial_correct": "BIGINT", "adversarial_low": "DOUBLE",
                              "adversarial_high": "DOUBLE", "ranking": "VARCHAR"},
    # hand_made: name of a network that has neither channels and layers nor a genotype; else NULL.
    "network_raw": EVENT | {"parameters": "BIGINT", "macs": "BIGINT", "channels": "INTEGER", "layers": "INTEGER",
                            "genotype": "VARCHAR", "hash": "VARCHAR", "hand_made": "VARCHAR"},
    "attack_raw": EVENT | {"attack": "VARCHAR", "title": "VARCHAR", "part_of": "VARCHAR", "epsilon": "DOUBLE",
                           "images": "BIGINT", "correct": "BIGINT", "accuracy": "DOUBLE", "low": "DOUBLE", "high": "DOUBLE",
                           "fingerprint": "VARCHAR", "fields": "VARCHAR", "duration_s": "DOUBLE", "complete": "BOOLEAN"},
    # What happened, whichever attempt counts: never superseded.
    "opened_raw": EVENT | {"split": "VARCHAR", "images": "BIGINT", "purpose": "VARCHAR"},
    "alert_raw": EVENT | {"level": "VARCHAR", "text": "VARCHAR"},
    "mark_raw": EVENT | {"kind": "VARCHAR", "detail": "VARCHAR"},
}

# What identifies one thing at one step in each table: of several rows with the same key the last written counts.
KEYS = {
    "alpha": ("step", "cell"),
    "genotype": ("step",),
    "objective": ("step", "objective"),
    "candidate": ("candidate",),
    "network": (),
    "attack": ("attack", "part_of"),
}

# An event stays unless a later attempt went back behind its step.
_CURRENT = """not exists (select 1 from resumed_raw r
              where r.number = e.number and r.attempt > e.attempt and e.step > r.from_step)"""

# Metrics are many: a hash aggregate is several times cheaper than a window over them.
_METRIC_VIEW = f"""
create view metric as
select number, split, statistics, name, step, arg_max(epoch, seq) as epoch, arg_max(t, seq) as t,
       arg_max(attempt, seq) as attempt, arg_max_null(value, seq) as value
from metric_raw e where {_CURRENT}
group by number, split, statistics, name, step"""


def create(con: duckdb.DuckDBPyConnection) -> None:
    """Makes every table and view in an empty database and notes the version, in one transaction."""
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
    """Version of the tables in a database; None when it is empty or not an index of ours."""
    try:
        row = con.execute("select version from about").fetchone()
    except (duckdb.CatalogException, duckdb.BinderException):
        return None
    return None if row is None else int(row[0])


def is_empty(con: duckdb.DuckDBPyConnection) -> bool:
    """True for a database without any table."""
    row = con.execute("select count(*) from duckdb_tables()").fetchone()
    return row is not None and row[0] == 0
