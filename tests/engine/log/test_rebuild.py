"""The index is derived: after deletion, damage, a version change, piecewise reading or a copy, queries give the same."""

from __future__ import annotations

import inspect
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import pytest

from engine.errors import RunLogError
from engine.log import RunLog, reindex
from engine.log.index import INDEX
from tests.engine.log.conftest import assert_same, every_query, revisions, without_revisions
from tests.sample_runs import EventsFile, write_finished_chain, write_resumed_retrain, write_search_steps


def answers_of(root: Path, *, in_memory: bool = False) -> dict[str, Any]:
    log = RunLog.open(root, in_memory=in_memory)
    log.ingest()
    found = every_query(log)
    log.close()
    return found


def revisions_of(root: Path) -> dict[str, Any]:
    log = RunLog.open(root)
    log.ingest()
    found = revisions(log)
    log.close()
    return found


def test_every_public_query_is_compared(answers: dict[str, Any]) -> None:
    queries = {name for name, _ in inspect.getmembers(RunLog, inspect.isfunction) if not name.startswith("_")}
    asked = {name.split()[0] for name in answers} | {"events_revision"}
    from_files = {"outcome_bits", "outcomes", "correct_images", "distances"}  # which the index does not hold
    assert queries - asked - from_files == {"checkpoint", "close", "cursor", "ingest", "kept", "release_memory", "revision",
                                            "shared", "write_copy"}


def test_a_deleted_index_is_rebuilt_identically(ids: dict[str, str], root: Path, answers: dict[str, Any]) -> None:
    before = revisions_of(root)
    (root / INDEX).unlink()
    assert_same(answers | before, answers_of(root))


def test_reopening_reads_nothing_again(log: RunLog, root: Path, answers: dict[str, Any]) -> None:
    before = revisions(log)
    log.close()
    again = RunLog.open(root)
    assert again.ingest().events == 0
    assert_same(answers | before, every_query(again))
    again.close()


def test_a_checkpoint_leaves_nothing_in_the_log_of_changes(tmp_path: Path) -> None:
    """All changes are in the file, also while another query is open, and the index goes on."""
    write_finished_chain(tmp_path)
    log = RunLog.open(tmp_path)
    log.ingest()
    changes = tmp_path / f"{INDEX}.wal"
    assert changes.stat().st_size > 0
    with log.cursor() as reader:
        reader.execute("select run from folder")
        log.checkpoint()
        assert reader.fetchall()
    log.checkpoint()
    assert not changes.exists() or changes.stat().st_size == 0
    log.close()
    without_file = RunLog.open(tmp_path, in_memory=True)
    without_file.checkpoint()
    without_file.close()


def log_with_large_table(root: Path, rows: int) -> RunLog:
    """Return a run log whose database file also holds a table with random numbers."""
    write_finished_chain(root)
    log = RunLog.open(root)
    log.ingest()
    with log.cursor() as cursor:
        cursor.execute(f"create table large as select random() as number from range({rows})")
    log.checkpoint()
    return log


def test_released_memory_is_that_of_blocks_that_can_be_read_again(tmp_path: Path) -> None:
    log = log_with_large_table(tmp_path, rows=2_000_000)
    with log.cursor() as cursor:
        before = cursor.execute("select sum(number) from large").fetchall()
        assert kept_bytes(cursor) > 10e6
        log.release_memory()
        assert kept_bytes(cursor) < 8e6
        assert cursor.execute("select sum(number) from large").fetchall() == [(pytest.approx(before[0][0]),)]
        assert cursor.execute("select current_setting('memory_limit')").fetchall() == [("122.0 MiB",)]
    log.close()
    in_memory = RunLog.open(tmp_path, in_memory=True)
    in_memory.release_memory()
    in_memory.close()


def test_queries_while_memory_is_released_are_repeated(tmp_path: Path) -> None:
    log = log_with_large_table(tmp_path, rows=600_000)
    over = threading.Event()

    def release() -> None:
        while not over.is_set():
            log.release_memory()

    with ThreadPoolExecutor(1) as pool:
        releasing = pool.submit(release)
        try:
            for _ in range(10):
                assert log._rows("select count(distinct number) > 500_000 from large") == [(True,)]
        finally:
            over.set()
        releasing.result()
    log.close()


def test_every_query_waits_until_memory_has_been_released(ids: dict[str, str], root: Path, answers: dict[str, Any]) -> None:
    log = RunLog.open(root)
    log.ingest()
    over = threading.Event()

    def release() -> None:
        while not over.is_set():
            log.release_memory()

    with ThreadPoolExecutor(1) as pool:
        releasing = pool.submit(release)
        try:
            found = without_revisions(every_query(log))
            for _ in range(20):  # these answers are not kept
                assert len(log.outcomes(ids["attack"])) and log.alpha_courses(ids["search"], log.alpha_cells(ids["search"])[0])
            log.write_copy(root / "copy.duckdb")
        finally:
            over.set()
        releasing.result()
    assert_same(answers, found)
    log.close()


def kept_bytes(cursor: duckdb.DuckDBPyConnection) -> int:
    return int(cursor.execute("select sum(memory_usage_bytes) from duckdb_memory()").fetchall()[0][0])


def test_updated_rows_can_be_written_to_the_file(log: RunLog) -> None:
    log.ingest()  # updates rows of the table `ingest`
    log.runs()
    with log.cursor() as cursor:
        cursor.execute("checkpoint")  # fails if a transaction is open


def test_memory_and_file_answer_alike(ids: dict[str, str], root: Path, answers: dict[str, Any]) -> None:
    assert_same(answers | revisions_of(root), answers_of(root, in_memory=True))


def test_reindex_answers_alike_and_reports(ids: dict[str, str], root: Path, answers: dict[str, Any]) -> None:
    before = revisions_of(root)
    report = reindex(root)
    assert report.runs == 7 and report.events > 500 and report.faults == 0
    assert_same(answers | before, answers_of(root))


def test_an_index_of_another_version_is_rebuilt(log: RunLog, root: Path) -> None:
    with log.cursor() as cursor:
        cursor.execute("update about set version = 0")
    log.close()
    again = RunLog.open(root)
    assert again.owner and again.ingest().runs == 7 and len(again.evaluations()) == 1
    again.close()


@pytest.mark.parametrize("content", [b"", b"no database at all" * 1000])
def test_a_damaged_index_is_rebuilt(ids: dict[str, str], root: Path, content: bytes) -> None:
    (root / INDEX).write_bytes(content)
    log = RunLog.open(root)
    assert log.owner and log.ingest().runs == 7 and len(log.evaluations()) == 1
    log.close()


def test_a_database_of_somebody_else_is_rebuilt(ids: dict[str, str], root: Path) -> None:
    with duckdb.connect(str(root / INDEX)) as con:
        con.execute("create table about (something text)")
    log = RunLog.open(root)
    assert log.owner and log.ingest().runs == 7
    log.close()


def test_a_copied_runs_folder_with_its_index_answers_alike(log: RunLog, root: Path, tmp_path: Path,
                                                           answers: dict[str, Any]) -> None:
    log.close()
    shutil.copytree(root, tmp_path / "elsewhere")
    assert_same(answers, without_revisions(answers_of(tmp_path / "elsewhere")))


@pytest.mark.slow
def test_pieces_of_any_size_answer_alike(ids: dict[str, str], root: Path) -> None:
    """Each file arrives in seven pieces, most of them cut inside a line, and is read in chunks smaller than most lines."""
    whole = answers_of(root, in_memory=True)
    contents = {run: (root / run / "events.jsonl").read_bytes() for run in ids.values()}
    times = {run: (root / run / "events.jsonl").stat() for run in ids.values()}
    log = RunLog.open(root, in_memory=True, chunk_bytes=700)
    for run in ids.values():
        (root / run / "events.jsonl").write_bytes(b"")
    for piece in range(1, 8):
        for run, content in contents.items():
            with (root / run / "events.jsonl").open("r+b") as file:
                file.write(content[: len(content) * piece // 7])
        log.ingest()
    assert all((root / run / "events.jsonl").stat().st_ino == times[run].st_ino for run in contents)
    assert_same(whole, every_query(log))


def test_reindex_of_a_folder_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(RunLogError, match="there is none; pass the right one"):
        reindex(tmp_path / "nowhere")


def test_superseded_events_are_rebuilt_alike_when_they_come_in_one_by_one(tmp_path: Path) -> None:
    """A log that followed a run through two crashes gives the same answers as one that reads it afterwards."""
    source = write_resumed_retrain(tmp_path / "source")
    lines = (tmp_path / "source" / source / "events.jsonl").read_bytes().splitlines(keepends=True)
    shutil.copytree(tmp_path / "source", tmp_path / "live")
    target = tmp_path / "live" / source / "events.jsonl"
    target.write_bytes(b"")
    log = RunLog.open(tmp_path / "live")
    for line in lines:
        with target.open("ab") as file:
            file.write(line)
        log.ingest()
    live = every_query(log)
    log.close()
    (tmp_path / "live" / INDEX).unlink()
    assert_same(live, answers_of(tmp_path / "live"))


def test_a_long_line_is_read_whole(tmp_path: Path) -> None:
    run = write_resumed_retrain(tmp_path)
    events = EventsFile(tmp_path / run)
    events.write("alert", level="info", text="x" * 5000)
    write_search_steps(events, 1)
    log = RunLog.open(tmp_path, in_memory=True, chunk_bytes=64)
    assert log.ingest().faults == 0
    assert [len(text) for text in log.alerts(run)["text"]] == [5000]
