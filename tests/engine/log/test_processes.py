"""Several processes and threads: ownership of the index file, and consistency after a killed ingest."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest

from engine.errors import RunLogError
from engine.log import RunLog, reindex
from engine.log.index import INDEX, VARIABLE
from engine.log.ingest import Ingester
from tests.engine.log.conftest import assert_same, every_query
from tests.sample_runs import EventsFile, write_run_json, write_search_steps

HOLD = """
import sys
from engine.log import RunLog
log = RunLog.open(sys.argv[1])
log.ingest()
print("owner" if log.owner else "memory", flush=True)
sys.stdin.readline()
"""
FOLLOW = """
import sys
from engine.log import RunLog
log = RunLog.open(sys.argv[1], chunk_bytes=20_000)
print("open", flush=True)
while True:
    log.ingest()
"""


@contextmanager
def process(code: str, root: Path) -> Iterator[subprocess.Popen[str]]:
    """Run `code` in a second Python process until the block ends."""
    child = subprocess.Popen([sys.executable, "-c", code, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe:
                pipe.close()


def first_word(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def test_a_second_process_uses_memory_and_answers_alike(ids: dict[str, str], root: Path) -> None:
    with process(HOLD, root) as child:
        assert first_word(child) == "owner"
        log = RunLog.open(root)
        assert (log.owner, log.holder) == (False, child.pid)
        log.ingest()
        mine = every_query(log)
        with pytest.raises(RunLogError, match=rf"a dashboard \(process {child.pid}\) owns it; close that dashboard"):
            reindex(root)
        assert (root / INDEX).exists()
    log = RunLog.open(root)
    assert log.owner
    log.ingest()
    assert_same(mine, every_query(log))
    log.close()


def test_a_process_that_may_not_have_the_file_leaves_it_to_others(ids: dict[str, str], root: Path) -> None:
    log = RunLog.open(root)
    with process(HOLD, root) as child:
        assert first_word(child) == "memory"
    log.close()
    quiet = RunLog.open(root, in_memory=True)
    with process(HOLD, root) as child:
        assert first_word(child) == "owner"
    quiet.close()


def test_reindex_refuses_in_the_process_that_owns_the_file(log: RunLog, root: Path) -> None:
    with pytest.raises(RunLogError, match="in use by this process"):
        reindex(root)
    log.close()
    assert reindex(root).runs == 7


def test_a_folder_that_may_only_be_read(ids: dict[str, str], root: Path) -> None:
    """A file in place of the folder simulates missing permissions, which do not bind root."""
    (root / INDEX).mkdir()
    log = RunLog.open(root)
    assert not log.owner
    log.ingest()
    assert len(log.runs()) == 7


def test_the_index_of_a_shared_folder_may_lie_on_a_local_disk(ids: dict[str, str], root: Path, tmp_path: Path,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    (root / INDEX).unlink(missing_ok=True)
    place = tmp_path / "local" / "index"
    monkeypatch.setenv(VARIABLE, str(place))
    log = RunLog.open(root)
    assert log.owner
    log.ingest()
    (file,) = place.glob("*.duckdb")
    with process(HOLD, root) as child:
        assert first_word(child) == "memory"
    log.close()
    assert reindex(root).runs == 7
    assert [one.name for one in place.glob("*.duckdb")] == [file.name] and not (root / INDEX).exists()


@pytest.mark.parametrize("rounds", [2, pytest.param(6, marks=pytest.mark.slow)])
def test_a_killed_ingest_leaves_rows_that_equal_the_offset(tmp_path: Path, rounds: int) -> None:
    """Kill -9 repeatedly while the worker keeps writing; afterwards the rest is read and every event exists once."""
    run = "20261118-1000-arnas-digits-1a01"
    events = EventsFile(write_run_json(tmp_path, run, "search"))
    chance = random.Random(1)
    for _ in range(rounds):
        with process(FOLLOW, tmp_path) as child:
            assert first_word(child) == "open"
            until = time.monotonic() + chance.uniform(0.05, 0.4)
            while time.monotonic() < until:
                write_search_steps(events, 2)
            child.send_signal(signal.SIGKILL)
            child.wait()
        assert_rows_equal_offset(tmp_path, run)
    log = RunLog.open(tmp_path)
    log.ingest()
    assert list(log.steps_curve(run, ["natural_loss"], 100_000)["step"]) == list(range(1, events.step + 1))
    assert log.progress(run)["done"] == events.step
    log.close()


def test_a_reading_cut_off_after_a_commit_does_not_stop_the_reading_of_other_runs(tmp_path: Path) -> None:
    """Each commit leaves the index complete: accuracies are those of a new index, and the next reading may be of another run."""
    cut, other = "20261118-1000-arnas-digits-1a01", "20261118-1000-arnas-digits-1a02"
    for run in (cut, other):
        write_search_steps(EventsFile(write_run_json(tmp_path, run, "search")), 3)
    log, fresh = RunLog.open(tmp_path), RunLog.open(tmp_path, in_memory=True)
    with pytest.raises(KeyboardInterrupt), log.cursor() as cursor:
        Ingester(cursor, tmp_path, on_change=interrupt_after_metrics).ingest([cut])
    log.ingest([other])
    fresh.ingest()
    sql = ("select run, split, epoch, round(natural_accuracy, 9), round(adversarial_accuracy, 9) "
           "from accuracy join folder using (number) order by all")
    rows = [one.cursor().execute(sql).fetchall() for one in (log, fresh)]
    assert rows[0] == rows[1] and {row[0] for row in rows[0]} == {cut, other}
    log.close()
    fresh.close()


def interrupt_after_metrics(changes: Iterable[tuple[str, str]]) -> None:
    if "metric" in {table for _, table in changes}:
        raise KeyboardInterrupt


def assert_rows_equal_offset(root: Path, run: str) -> None:
    """Assert that the index holds exactly the events of the bytes that it records as read."""
    with duckdb.connect(str(root / INDEX)) as con:
        row = con.execute("select bytes_done from ingest").fetchone()
        done = row[0] if row else 0
        rows = {table: con.execute(f"select count(*) from {table}_raw").fetchone()[0]  # type: ignore[index]
                for table in ("metric", "alpha", "objective", "genotype")}
        latest = con.execute("select max(done) from progress").fetchone()[0]  # type: ignore[index]
    text = (root / run / "events.jsonl").read_bytes()[:done]
    assert done == 0 or text.endswith(b"\n")
    found = [json.loads(line) for line in text.splitlines()]
    assert rows == {
        "metric": sum(len(event["values"]) for event in found if event["event"] == "metric"),
        "alpha": sum(event["event"] == "alpha" for event in found),
        "objective": sum(len(event["names"]) for event in found if event["event"] == "objectives"),
        "genotype": sum(event["event"] == "genotype" for event in found)}
    assert latest == max((event["done"] for event in found if event["event"] == "progress"), default=None)


def test_threads_that_ingest_and_ask_at_once(ids: dict[str, str], root: Path) -> None:
    log = RunLog.open(root)
    events = EventsFile(root / ids["running"])
    events.step, events.epoch = 13, 2
    problems: list[BaseException] = []
    over = threading.Event()

    def ask() -> None:
        try:
            while not over.is_set():
                log.ingest()
                steps = list(log.steps_curve(ids["running"], ["natural_loss"])["step"])
                assert steps == list(range(1, len(steps) + 1))
                log.runs()
        except BaseException as problem:  # noqa: BLE001  (handed to the test's own thread)
            problems.append(problem)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    write_search_steps(events, 25)
    over.set()
    for thread in threads:
        thread.join()
    log.ingest()
    assert not problems
    assert list(log.steps_curve(ids["running"], ["natural_loss"])["step"]) == list(range(1, 39))
    log.close()


def test_two_logs_of_one_process_share_the_index(ids: dict[str, str], root: Path) -> None:
    first, second = RunLog.open(root), RunLog.open(root)
    assert first.ingest().events > 0
    assert second.ingest().events == 0
    assert_same(every_query(first), every_query(second))
    first.close()
    second.close()


FULL_DISK = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
from engine.log import RunLog
log = RunLog.open(sys.argv[1])
assert log.owner
report = log.ingest()
assert not log.owner and "cannot be written" in log.trouble, log.trouble
assert report.runs == 7 and len(log.runs()) == 7 and log.ingest().runs == 0
print("fine", flush=True)
"""


def test_a_full_disk_moves_the_index_to_memory(ids: dict[str, str], root: Path) -> None:
    """A limit on file size simulates the full disk: writing fails in the same place."""
    with process(FULL_DISK, root) as child:
        assert first_word(child) == "fine"
    log = RunLog.open(root)
    assert log.owner and log.ingest().runs == 7
    log.close()


FULL_DISK_AT_CHECKPOINT = """
import resource, sys
from engine.log import RunLog
log = RunLog.open(sys.argv[1])
assert log.ingest().runs == 7 and log.owner
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, 1_000))
log.checkpoint()
assert not log.owner and "cannot be written" in log.trouble, log.trouble
assert len(log.runs()) == 7 and log.ingest().runs == 0
print("fine", flush=True)
"""


def test_a_disk_that_is_full_at_a_checkpoint_moves_the_index_to_memory(ids: dict[str, str], root: Path) -> None:
    with process(FULL_DISK_AT_CHECKPOINT, root) as child:
        assert first_word(child) == "fine"
    log = RunLog.open(root)
    assert log.owner and log.ingest() is not None and len(log.runs()) == 7
    log.close()


def test_the_log_imports_no_torch() -> None:
    code = "import sys, engine.log; sys.exit('torch' in sys.modules or 'streamlit' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
