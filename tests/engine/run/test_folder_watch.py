"""The watch of a runs folder finds every change, also of files whose time and size stay the same."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from engine.run.folder_watch import COARSE_NS, FolderWatch

RUN = "20261118-0906-arnas-digits-7f3a"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / RUN).mkdir()
    path = tmp_path / RUN / "log.txt"
    path.write_text("old")
    return path


def quiet(watch: FolderWatch) -> None:
    """Wait until the watch reports nothing, which takes as long as a file counts as changing."""
    deadline = time.monotonic() + 60
    while watch.look(everything=True) and time.monotonic() < deadline:
        time.sleep(COARSE_NS / 4e9)
    assert not watch.look(everything=True)


def test_a_change_is_reported_until_its_time_is_past(tmp_path: Path, log: Path) -> None:
    watch = FolderWatch(tmp_path)
    assert watch.look() == {RUN}
    quiet(watch)
    log.write_text("new")
    assert watch.look() == {RUN}
    quiet(watch)
    log.unlink()
    (tmp_path / RUN).rmdir()
    assert watch.look() == {RUN}


def test_looks_right_after_writes_that_change_neither_time_nor_size_find_each(tmp_path: Path, log: Path) -> None:
    watch = FolderWatch(tmp_path)
    watch.look()
    for number in range(100):
        log.write_text(str(100 + number))
        assert watch.look([RUN]) == {RUN}


def test_a_look_that_is_held_up_leaves_no_change_out(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch, stat = FolderWatch(tmp_path, ["/log.txt"]), os.stat
    quiet(watch)
    log.write_text("new")
    seen = []

    def held_up(path: str) -> os.stat_result:
        if path.endswith("/log.txt"):
            log.touch()  # a write just before the file is looked at
            seen.append(stat(path).st_mtime_ns)
            time.sleep(2 * COARSE_NS / 1e9)
        return stat(path)

    monkeypatch.setattr(os, "stat", held_up)
    assert watch.look([RUN]) == {RUN}
    monkeypatch.undo()
    log.write_text("NEW")
    os.utime(log, ns=(seen[-1], seen[-1]))  # as after a second write in the same tick of a coarse clock
    assert watch.look([RUN]) == {RUN}
