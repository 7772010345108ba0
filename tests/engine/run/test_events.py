from __future__ import annotations

import json
import resource
import zlib
from pathlib import Path

import pytest

from engine.run.event_kinds import Metric, Progress, Resumed
from engine.run.events import EventWriter, Extent, begins_with, read_events

PROGRESS = Progress(phase="search", done=0, total=1)


def test_header_common_fields_and_nan(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    writer = EventWriter(path, "a-run", 1)
    writer.write(Metric(split="alphas", values={"loss": float("nan"), "rate": float("inf")}), step=3, epoch=1)
    writer.close()
    header, metric = (json.loads(line) for line in path.read_text().splitlines())
    assert header == {"event": "header", "schema": 1, "run": "a-run"}
    assert {name: metric[name] for name in ("event", "attempt", "step", "epoch")} == {
        "event": "metric", "attempt": 1, "step": 3, "epoch": 1}
    assert metric["values"] == {"loss": None, "rate": None}
    assert abs(metric["t"] - path.stat().st_mtime) < 60


@pytest.mark.parametrize("tail", [b'{"event":"metr', b"x" * 200_000, b"\x00\x00"])
def test_a_torn_tail_is_cut_when_the_file_is_opened_again(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "events.jsonl"
    first = EventWriter(path, "a-run", 1)
    first.write(PROGRESS, step=0, epoch=0)
    first.close()
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    second = EventWriter(path, "a-run", 2)
    second.write(Resumed(from_step=0), step=0, epoch=0)
    second.close()
    assert path.read_bytes().startswith(whole)
    assert [event["event"] for event in read_events(path)[0]] == ["header", "progress", "resumed"]


def test_a_file_that_is_all_torn_starts_again(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"event":"hea')
    EventWriter(path, "a-run", 1).close()
    assert [event["event"] for event in read_events(path)[0]] == ["header"]


def test_a_short_write_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    writer = EventWriter(path, "a-run", 1)
    writer.write(PROGRESS, step=0, epoch=0)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, hard))
    try:
        with pytest.raises(OSError, match="whole line"):
            writer.write(PROGRESS, step=1, epoch=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    writer.write(PROGRESS, step=1, epoch=0)
    assert len(read_events(path)[0]) == 3


def test_a_reader_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    assert read_events(path) == ([], 0)
    path.write_bytes(b'{"event":"a"}\nnot json\n{"event":"b"}\n{"event":"c')
    events, offset = read_events(path)
    assert [event["event"] for event in events] == ["a", "b"]
    with path.open("ab") as file:
        file.write(b'"}\n')
    assert [event["event"] for event in read_events(path, offset)[0]] == ["c"]


def test_missing_lines_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    assert begins_with(path, Extent(0)) and not begins_with(path, Extent(1)) and not begins_with(path, Extent(1, 0))
    writer = EventWriter(path, "a-run", 1)
    writer.write(PROGRESS, step=0, epoch=0)
    events = writer.sync()
    writer.close()
    assert events == (path.stat().st_size, zlib.crc32(path.read_bytes()))
    assert begins_with(path, events) and begins_with(path, Extent(events.length))
    content = path.read_bytes()
    for damaged in (content[:-1], content[:-1] + b"\x00", b""):
        path.write_bytes(damaged)
        assert not begins_with(path, events) and not begins_with(path, Extent(events.length))
    path.write_bytes(content.replace(b'"progress"', b'"prowress"'))  # a line that still is JSON
    assert not begins_with(path, events) and begins_with(path, Extent(events.length))


def test_what_follows_and_later_attempts_keep_the_earlier_checksum_right(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for attempt in (1, 2):
        writer = EventWriter(path, "a-run", attempt)
        writer.write(PROGRESS, step=0, epoch=0)
        events = writer.sync()
        writer.write(PROGRESS, step=1, epoch=0)
        writer.close()
        with path.open("ab") as file:
            file.write(b"torn")
        assert begins_with(path, events) and events.length < path.stat().st_size
