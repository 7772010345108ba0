"""Files of run folders that come from someone else: nothing is written through links, and nobody waits for pipes."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from app.components.log_tail import read_tail
from engine import requests
from engine.errors import CheckpointError, RunError, RunLogError
from engine.files import (
    atomic_write_bytes,
    atomic_write_json,
    entry_that_is_no_plain_file,
    make_folder,
    open_to_append,
    open_to_read,
    touch,
)
from engine.log.runlog import RunLog
from engine.report.samples import read_samples
from engine.run import checkpoint, marks
from engine.run.events import EventWriter, read_events
from engine.run.folder import RunFolder, read_json
from engine.run.launchers.contract import Start
from engine.run.launchers.local import LocalLauncher
from engine.run.loop_verdict import worst_cases
from engine.run.state import compute
from engine.run.supervisor import Supervisor
from tests.engine.run.processes import without_supervisor

FILES = ("events.jsonl", "log.txt", "heartbeat", "worker.lock", "process.json", "exit.json", "environment.json", "marks.json",
         "results/ended.json", "results/genotype.json", "checkpoint/last.pt", "control/stop")
FOLDERS = ("results", "checkpoint", "control")


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """Return the folder of a launched run that no supervisor starts."""
    runs = without_supervisor(tmp_path / "runs")
    (run_id,) = requests.submit(runs, "search", {"threads": 1}, method="arnas", preset="smoke")
    return RunFolder(runs, run_id)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Return a folder outside of the runs folder, with a file that nobody may change."""
    place = tmp_path / "outside"
    place.mkdir()
    (place / "kept").write_text("kept")
    return place


def content_of(place: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in place.iterdir()}


def in_time(action: Callable[[], object]) -> None:
    """Call `action` in a thread, and assert that it ends instead of waiting for a pipe."""
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    thread.join(timeout=20)
    assert not thread.is_alive()


@pytest.mark.parametrize("name", FILES)
def test_a_run_with_a_linked_file_never_starts_and_the_target_stays_as_it_was(folder: RunFolder, outside: Path, name: str
                                                                             ) -> None:
    path = folder.path / name
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(outside / "kept")
    (outside / "kept").write_text("{}" if name.endswith(".json") else "kept")
    before = content_of(outside)
    with pytest.raises(RunError, match=f"must hold only plain files and folders, and {name} is a symbolic link"):
        LocalLauncher().start(folder, Start(1, "cpu", 1))
    supervisor = Supervisor(folder.runs)
    supervisor.tick()
    assert not supervisor.workers and content_of(outside) == before
    if name not in ("process.json", "control/stop", "worker.lock"):  # with the first two, the run does not wait
        assert f"{name} is a symbolic link" in read_json(folder.runs / "queue.json")["why"][folder.id]


@pytest.mark.parametrize("name", ["events.jsonl", "log.txt", "worker.lock"])
def test_a_run_with_a_folder_in_place_of_a_file_never_starts(folder: RunFolder, name: str) -> None:
    (folder.path / name).unlink(missing_ok=True)
    (folder.path / name).mkdir()
    with pytest.raises(RunError, match=f"{name} is a folder instead of a file; replace it"):
        LocalLauncher().start(folder, Start(1, "cpu", 1))
    supervisor = Supervisor(folder.runs)
    supervisor.tick()
    assert not supervisor.workers
    assert f"{name} is a folder instead of a file" in read_json(folder.runs / "queue.json")["why"][folder.id]


@pytest.mark.parametrize("name", FOLDERS)
def test_nothing_is_written_into_a_linked_folder(folder: RunFolder, outside: Path, name: str) -> None:
    path = folder.path / name
    if path.exists():
        path.rmdir()
    path.symlink_to(outside)
    for write in (lambda: atomic_write_json(path / "new", {}, inside=folder.path), lambda: touch(path / "new", folder.path),
                  lambda: open_to_append(path / "kept", folder.path), lambda: make_folder(path, folder.path),
                  lambda: make_folder(path / "new", folder.path)):
        with pytest.raises(OSError, match=f"{name} is a symbolic link"):
            write()
    if name == "checkpoint":
        with pytest.raises(OSError, match="checkpoint is a symbolic link"):
            checkpoint.save(path, {"step": 1})
    if name == "control":
        with pytest.raises(RunError, match="control is a symbolic link"):
            requests.request_stop(folder.runs, folder.id)
    assert content_of(outside) == {"kept": "kept"}


def test_files_themselves_are_opened_through_no_link(folder: RunFolder, outside: Path) -> None:
    folder.events.symlink_to(outside / "kept")
    with pytest.raises(OSError, match="events.jsonl is a symbolic link"):
        EventWriter(folder.events, folder.id, 1)
    (folder.path / "dangling").symlink_to(outside / "new")
    with pytest.raises(OSError, match="dangling is a symbolic link"):
        touch(folder.path / "dangling", folder.path)
    (folder.path / marks.MARKS).symlink_to(outside / "new.json")
    folder.write_json(folder.path / marks.MARKS, {})  # the link is replaced, not followed
    assert not (folder.path / marks.MARKS).is_symlink() and content_of(outside) == {"kept": "kept"}


def test_a_run_folder_that_is_a_link_is_not_written_to(folder: RunFolder, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    folder.path.rename(elsewhere)
    folder.path.symlink_to(elsewhere)
    before = sorted(path.name for path in elsewhere.iterdir())
    with pytest.raises(RunError, match="is a symbolic link"):
        LocalLauncher().start(folder, Start(1, "cpu", 1))
    for write in (lambda: folder.write_json(folder.exit_json, {}), lambda: EventWriter(folder.events, folder.id, 1)):
        with pytest.raises(OSError, match="is a symbolic link"):
            write()
    assert sorted(path.name for path in elsewhere.iterdir()) == before


def test_links_to_folders_of_the_users_own_are_followed(tmp_path: Path, outside: Path) -> None:
    """An export may go to a linked folder, and the runs folder may be one."""
    (tmp_path / "link").symlink_to(outside)
    atomic_write_bytes(tmp_path / "link" / "export.csv", b"1")
    assert (outside / "export.csv").read_bytes() == b"1"
    assert sorted(os.listdir(outside)) == ["export.csv", "kept"]  # no temporary file is left


@pytest.mark.parametrize("name", ["events.jsonl", "log.txt", "run.json", "exit.json", "checkpoint/last.pt"])
def test_a_pipe_in_a_run_folder_is_refused_at_once(folder: RunFolder, name: str) -> None:
    path = folder.path / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    assert entry_that_is_no_plain_file(folder.path) == f"{name} is not a plain file"

    def use() -> None:
        for refused in (lambda: open_to_read(path), lambda: open_to_append(path, folder.path), lambda: read_events(path)):
            with pytest.raises(OSError, match="not a plain file"):
                refused()
        with pytest.raises(RunError, match="not a plain file"):
            read_json(path)
        with pytest.raises(CheckpointError, match="not a plain file"):
            checkpoint.read(path)
        assert read_tail(path).text == "" and folder.last_lines() == []
        compute(folder)
        Supervisor(folder.runs).tick()
        log = RunLog.open(folder.runs, in_memory=True)
        log.ingest()
        log.close()
        done.append(True)

    done: list[bool] = []
    in_time(use)
    assert done


@pytest.mark.parametrize("name", ["outcomes.parquet", "samples.parquet"])
def test_a_pipe_in_place_of_results_is_refused_at_once(folder: RunFolder, name: str) -> None:
    folder.results.mkdir()
    os.mkfifo(folder.results / name)
    log = RunLog.open(folder.runs, in_memory=True)

    def use() -> None:
        for read in (lambda: log.outcomes(folder.id), lambda: read_samples(folder.results / name), lambda: worst_cases(folder)):
            with pytest.raises((RunLogError, RunError), match="cannot be read"):
                read()
        done.append(True)

    done: list[bool] = []
    in_time(use)
    log.close()
    assert done


def test_a_device_is_no_plain_file() -> None:
    with pytest.raises(OSError, match="not a plain file"):
        open_to_read(Path("/dev/zero"))
