"""Queries of users: every example runs, nothing can be written or read elsewhere, and the limits hold."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from engine.cli import main
from engine.errors import RunLogError
from engine.log import RunLog, sql_worker
from engine.log.schema_docs import tables
from engine.log.sql import LONGEST, Console
from engine.log.sql_examples import EXAMPLES
from tests.sample_runs import write_sample_runs


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunLog]:
    """A run log of finished and unfinished sample runs that owns its index file, as that of the dashboard does."""
    root = tmp_path_factory.mktemp("sql") / "runs"
    write_sample_runs(root)
    log = RunLog.open(root)
    log.ingest()
    yield log
    log.close()


@pytest.fixture(scope="module")
def console(log: RunLog) -> Console:
    return Console(log)


@pytest.fixture(scope="module")
def copy(log: RunLog, tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """The connection that the process of a query has, but in this process: a tenth of the time."""
    path = tmp_path_factory.mktemp("copy") / "it's a copy.duckdb"
    log.write_copy(path)
    with sql_worker.connect(str(path), 512) as con:
        yield con


@pytest.mark.parametrize("title", EXAMPLES)
def test_every_example_finds_rows_in_real_runs(copy: duckdb.DuckDBPyConnection, title: str) -> None:
    table, cut = sql_worker.rows_of(copy, sql_worker.checked(EXAMPLES[title]), 10_000)
    assert table.num_rows > 0 and not cut
    empty = [name for name in table.column_names if table[name].null_count == table.num_rows]
    assert empty in ([], ["spread_points"])  # one seed has no spread


def test_alphas_of_an_epoch_are_the_weights_of_its_last_step(copy: duckdb.DuckDBPyConnection) -> None:
    table, _ = sql_worker.rows_of(copy, EXAMPLES["Alphas over epochs"], 10_000)
    sums: dict[tuple[object, ...], float] = {}
    for row in table.to_pylist():
        place = row["run"], row["cell"], row["epoch"]
        sums[place] = sums.get(place, 0.0) + row["mean_weight"]
    assert sums and all(abs(total - 1) < 0.001 for total in sums.values())


WRITING = (
    "insert into folder (number) values (99)", "update folder set run = 'x'", "delete from folder", "drop table folder",
    "create table t (i int)", "copy (select 1) to '{outside}'", "export database '{outside}'", "attach '{outside}' as other",
    "set enable_external_access = true", "reset lock_configuration", "pragma memory_limit = '8GB'", "install httpfs",
    "load httpfs")
READING = (
    "select * from read_csv('/etc/passwd')", "select * from read_text('/etc/passwd')", "select * from '/etc/passwd'",
    "select * from read_blob('/proc/self/environ')", "select * from glob('/etc/*')", "select * from sniff_csv('/etc/passwd')",
    "select * from parquet_metadata('/etc/passwd')", "select * from query('insert into folder (number) values (99)')",
    "explain analyze insert into folder (number) values (99)", "select getenv('PATH')", "select * from copy",
    "select * from read_csv('https://example.org/x.csv')")


@pytest.mark.parametrize("sql", [*WRITING, *READING])
def test_duckdb_refuses_to_write_and_to_leave_the_copy(copy: duckdb.DuckDBPyConnection, tmp_path: Path, sql: str) -> None:
    """The connection refuses by itself, without the check of the statement's kind."""
    outside = tmp_path / "outside"
    with pytest.raises(duckdb.Error):
        copy.execute(sql.format(outside=outside)).fetchall()
    assert not outside.exists()


@pytest.mark.parametrize("sql", [
    *WRITING, "create temp table t (i int)", "checkpoint", "begin", "use folder", "prepare p as select 1", "pivot folder on kind",
    "select 1; select 2", "select 1; drop table folder", "", "-- nothing"])
def test_only_one_statement_that_reads_is_accepted(sql: str) -> None:
    with pytest.raises(sql_worker.Refusal, match=r"must hold one query|must be a query"):
        sql_worker.checked(sql)


def test_a_refusal_is_a_sentence_without_a_traceback(console: Console, log: RunLog) -> None:
    with pytest.raises(RunLogError, match=r"^The query cannot be run: .* file system operations are disabled.*\.$"):
        console.ask(READING[0])
    with pytest.raises(RunLogError, match="got DROP; the tables can only be read"):
        console.ask("drop table folder")
    assert console.ask("select count(*) as runs from folder where number <> 99").table.to_pylist() == [{"runs": len(log.runs())}]


def test_the_process_of_a_query_can_write_no_file(tmp_path: Path) -> None:
    code = "from engine.log.sql_worker import confine; confine(1)\nwith open('x', 'w') as file: file.write('x')"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(Path.cwd())},
                          capture_output=True, check=False)
    assert done.returncode != 0 and (tmp_path / "x").read_text() == ""


def test_an_endless_query_is_stopped(console: Console) -> None:
    started = time.monotonic()
    with pytest.raises(RunLogError, match="must end within 0.5 s"):
        console.ask("with recursive t(i) as (select 1 union all select i + 1 from t) select max(i) from t", seconds=0.5)
    assert time.monotonic() - started < 30


def test_a_huge_result_is_cut_or_refused(console: Console) -> None:
    answer = console.ask("select * from range(1000000000)")
    assert answer.cut and answer.table.num_rows == 10_000
    exact = console.ask("select * from range(5)", rows=5)
    assert not exact.cut and exact.table.num_rows == 5
    with pytest.raises(RunLogError, match="at most 64 MB"):
        console.ask("select repeat('x', 10000000) from range(20)")
    with pytest.raises(RunLogError, match="at most 64 MB of memory"):
        console.ask("select list(range) from range(100000000)", megabytes=64)


def test_a_wrong_query_is_explained_in_one_sentence(console: Console) -> None:
    with pytest.raises(RunLogError, match=r'syntax error at or near "selec" \(line 2\)\.$'):
        console.ask("-- a\nselec 1")
    with pytest.raises(RunLogError, match=f"at most {LONGEST:,} characters"):
        console.ask("select 1" + " " * LONGEST)
    with pytest.raises(RunLogError, match="cast it"):
        console.ask("select interval 1 day")
    assert console.ask("select 1 as a, 2 as a").table.column_names == ["a", "a_2"]


def test_a_query_sees_new_events_at_once(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    log = RunLog.open(root)
    try:
        console, count = Console(log), "select count(*) as n from folder"
        assert console.ask(count).table.to_pylist() == [{"n": 0}]
        write_sample_runs(root)
        log.ingest()
        assert console.ask(count).table.to_pylist() == [{"n": len(log.runs())}]
    finally:
        log.close()


def test_documentation_covers_the_tables_as_they_are(console: Console) -> None:
    real: dict[str, list[tuple[str, str]]] = {}
    for row in console.ask("select table_name, column_name, data_type from duckdb_columns() where not internal "
                           "order by table_name, column_index").table.to_pylist():
        real.setdefault(row["table_name"], []).append((row["column_name"], row["data_type"]))
    described = {table.name: [(column.name, column.type) for column in table.columns] for table in tables()}
    assert {name: sorted(columns) for name, columns in described.items()} == {name: sorted(real[name]) for name in described}
    assert {name for name in real if name.removesuffix("_raw") not in described and name not in described} == {"about"}
    assert all(column.meaning and "As in the event" not in column.meaning and "`values`" not in column.meaning
               for table in tables() for column in table.columns)


def test_documentation_needs_no_docstrings_in_memory() -> None:
    """The dashboard's Python drops docstrings."""
    command = [sys.executable, "-OO", "-c", "from engine.log.schema_docs import tables; print(tables())"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == str(tables())


def test_the_command_prints_text_json_and_csv(log: RunLog, capsys: pytest.CaptureFixture[str]) -> None:
    def rampart(*arguments: str) -> tuple[int, str, str]:
        return main(["sql", "--runs", str(log.root), *arguments]), *capsys.readouterr()

    _, text, _ = rampart("select kind, count(*) as n, null as x from folder group by kind order by kind", "--json")
    found = json.loads(text)
    assert found["columns"] == ["kind", "n", "x"] and not found["cut"] and found["rows"][0]["kind"] == "attack"
    assert rampart("select '=1' as a, 2 as b", "--csv")[1].splitlines() == ["a,b", "'=1,2"]
    code, _, refusal = rampart("drop table folder")
    assert code == 2 and "got DROP" in refusal
