"""Tables of the declared events: columns and rows of every kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from engine.log import RunLog, schema
from engine.run.event import Event
from engine.run.event_kinds import Progress
from engine.run.events import EventWriter
from tests.engine.run.event_examples import EXAMPLES
from tests.sample_runs import write_run_json

RUN = "20261118-1000-arnas-digits-1a01"
STAMP = {"number": "INTEGER", "seq": "BIGINT", "t": "DOUBLE", "attempt": "INTEGER", "step": "BIGINT", "epoch": "INTEGER"}
# Columns that queries rely on; a change here needs a new `schema.VERSION`.
COLUMNS = {
    "resumed_raw": {"from_step": "BIGINT"},
    "metric_raw": {"split": "VARCHAR", "statistics": "VARCHAR", "name": "VARCHAR", "value": "DOUBLE"},
    "alpha_raw": {"cell": "VARCHAR", "primitives": "VARCHAR[]", "alpha": "FLOAT[]", "weight": "FLOAT[]",
                  "edge_weight": "FLOAT[]"},
    "genotype_raw": {"genotype": "VARCHAR", "hash": "VARCHAR"},
    "objective_raw": {"objective": "VARCHAR", "position": "INTEGER", "loss": "DOUBLE", "weight": "DOUBLE", "norm": "DOUBLE",
                      "cosine": "DOUBLE", "cosines": "DOUBLE[]"},
    "candidate_raw": {"candidate": "INTEGER", "genotype": "VARCHAR", "hash": "VARCHAR", "parameters": "BIGINT", "macs": "BIGINT",
                      "images": "BIGINT", "natural_correct": "BIGINT", "natural_low": "DOUBLE", "natural_high": "DOUBLE",
                      "adversarial_correct": "BIGINT", "adversarial_low": "DOUBLE", "adversarial_high": "DOUBLE",
                      "inherited_natural_correct": "BIGINT", "inherited_natural_low": "DOUBLE",
                      "inherited_natural_high": "DOUBLE", "inherited_adversarial_correct": "BIGINT",
                      "inherited_adversarial_low": "DOUBLE", "inherited_adversarial_high": "DOUBLE", "ranking": "VARCHAR"},
    "network_raw": {"parameters": "BIGINT", "macs": "BIGINT", "channels": "INTEGER", "layers": "INTEGER", "genotype": "VARCHAR",
                    "hash": "VARCHAR", "hand_made": "VARCHAR"},
    "attack_raw": {"attack": "VARCHAR", "title": "VARCHAR", "part_of": "VARCHAR", "epsilon": "DOUBLE", "images": "BIGINT",
                   "correct": "BIGINT", "accuracy": "DOUBLE", "low": "DOUBLE", "high": "DOUBLE", "fingerprint": "VARCHAR",
                   "fields": "VARCHAR", "duration_s": "DOUBLE", "complete": "BOOLEAN"},
    "evaluation_raw": {"protocol": "VARCHAR", "title": "VARCHAR", "fields": "VARCHAR", "network": "VARCHAR",
                       "checkpoint": "VARCHAR", "preprocessing": "VARCHAR"},
    "attack_check_raw": {"check_name": "VARCHAR", "title": "VARCHAR", "finding": "VARCHAR", "measured": "VARCHAR",
                         "advice": "VARCHAR"},
    "sweep_raw": {"sweep": "VARCHAR", "attack": "VARCHAR", "title": "VARCHAR", "norm": "VARCHAR", "epsilon": "DOUBLE",
                  "steps": "BIGINT", "images": "BIGINT", "correct": "BIGINT", "low": "DOUBLE", "high": "DOUBLE",
                  "fingerprint": "VARCHAR"},
    "critical_raw": {"attack": "VARCHAR", "title": "VARCHAR", "norm": "VARCHAR", "images": "BIGINT", "median": "DOUBLE",
                     "low": "DOUBLE", "high": "DOUBLE", "fingerprint": "VARCHAR"},
    "certified_raw": {"norm": "VARCHAR", "epsilon": "DOUBLE", "images": "BIGINT", "correct": "BIGINT", "low": "DOUBLE",
                      "high": "DOUBLE", "method": "VARCHAR"},
    "verdict_raw": {"against": "VARCHAR", "protocol": "VARCHAR", "network": "VARCHAR", "other": "VARCHAR", "total": "BIGINT",
                    "images": "BIGINT", "both_correct": "BIGINT", "first_only": "BIGINT", "second_only": "BIGINT",
                    "neither": "BIGINT", "low": "DOUBLE", "high": "DOUBLE", "level": "DOUBLE", "verdict": "VARCHAR"},
    "latency_raw": {"batch": "BIGINT", "median_s": "DOUBLE", "low_s": "DOUBLE", "high_s": "DOUBLE", "repeats": "BIGINT",
                    "device": "VARCHAR", "hardware": "VARCHAR", "threads": "BIGINT"},
    "opened_raw": {"split": "VARCHAR", "images": "BIGINT", "purpose": "VARCHAR"},
    "alert_raw": {"level": "VARCHAR", "text": "VARCHAR"},
    "telemetry_raw": {"process_cores": "DOUBLE", "machine_cpu": "DOUBLE", "memory_bytes": "BIGINT",
                      "machine_free_bytes": "BIGINT", "machine_bytes": "BIGINT", "disk_free_bytes": "BIGINT",
                      "unit": "VARCHAR", "units_per_s": "DOUBLE", "passes_per_s": "DOUBLE"},
    "gpu_raw": {"device": "VARCHAR", "name": "VARCHAR", "utilisation": "DOUBLE", "memory_bytes": "BIGINT",
                "memory_total_bytes": "BIGINT", "temperature_c": "DOUBLE"},
    "mark_raw": {"kind": "VARCHAR", "detail": "VARCHAR"},
}


def test_the_tables_have_the_declared_columns() -> None:
    with duckdb.connect(":memory:") as con:
        schema.create(con)
        columns: dict[str, dict[str, str]] = {}
        for table, name, kind in con.execute("select table_name, column_name, data_type from duckdb_columns() "
                                             "where not internal order by column_index").fetchall():
            columns.setdefault(table, {})[name] = kind
    assert {table: columns[table] for table in schema.TABLES} == schema.TABLES
    assert {table: columns[table] for table in columns if table.endswith("_raw")} == {
        table: STAMP | expected for table, expected in COLUMNS.items()}
    assert columns["progress"] == {
        "number": "INTEGER", "attempt": "INTEGER", "phase": "VARCHAR", "seq": "BIGINT", "t": "DOUBLE", "done": "DOUBLE",
        "total": "DOUBLE", "unit": "VARCHAR", "passes": "BIGINT", "detail": "VARCHAR", "trail_t": "DOUBLE[]",
        "trail_done": "DOUBLE[]"}


def cells(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_event_becomes_its_rows(tmp_path: Path, name: str) -> None:
    event: Event = EXAMPLES[name]
    writer = EventWriter(write_run_json(tmp_path, RUN, "search") / "events.jsonl", RUN, 2)
    writer.write(event, step=5, epoch=1)
    writer.close()
    log = RunLog.open(tmp_path, in_memory=True)
    report = log.ingest()
    assert (report.events, report.faults) == (2, 0)
    table = "progress" if isinstance(event, Progress) else f"{event.table}_raw"
    columns = event.columns()
    with log.cursor() as cursor:
        rows = cursor.execute(f"select {', '.join(columns)} from {table}").fetchall()
        assert cursor.execute(f"select attempt from {table}").fetchall() == [(2,)] * len(rows)
    assert rows == [tuple(map(cells, row)) for row in event.rows()]
    log.close()


def test_rows_that_are_computed() -> None:
    """Softmax over operations times softmax over the edges into a node; the smallest cosine; intervals."""
    plain, weighted = EXAMPLES["alpha"].rows()[0], EXAMPLES["alpha with beta"].rows()[0]
    assert plain[3].reshape(14, 7).sum(axis=1) == pytest.approx(np.ones(14)) and plain[4].size == 0
    into_nodes = [weighted[4][start:end].sum() for start, end in ((0, 2), (2, 5), (5, 9), (9, 14))]
    assert into_nodes == pytest.approx([1] * 4)
    assert weighted[3].reshape(14, 7).sum(axis=1) == pytest.approx(weighted[4])
    assert [row[-2:] for row in EXAMPLES["objectives"].rows()] == [(0.5, [1.0, 0.5]), (0.5, [0.5, 1.0])]
