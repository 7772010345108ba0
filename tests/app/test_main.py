"""Router and frame: the first page, navigation, and the files and signatures of this server."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from app import hub as hub_module
from app import session
from app.hub import Hub
from engine.log import RunLog
from tests.app.conftest import Samples
from tests.app.pages import PAGES, open_page, text_of
from tests.sample_runs import EventsFile, write_finished_attack, write_run_json, write_search_steps


def test_an_empty_studio_explains_itself_and_offers_one_button(empty: Path):
    for page in ("runs", "run", "pareto", "robustness"):
        test = open_page(page)
        assert not test.exception
        assert "stay accurate when their images are attacked" in text_of(test)
        assert [button.label for button in test.button] == ["Set up the first search"]


def test_every_page_opens_with_a_title(samples: Samples):
    for page in PAGES:
        test = open_page(page)
        assert not test.exception and "rp-title" in text_of(test), page


def test_plotly_is_written_from_the_installed_wheel(empty: Path):
    session.prepare_static.__wrapped__()
    written = session.STATIC / "plotly.min.js"
    before = written.stat().st_mtime_ns
    session.prepare_static.__wrapped__()
    assert written.stat().st_mtime_ns == before  # idempotent
    assert "plotly.js" in written.read_text(encoding="utf-8")[:300]


def test_signature_changes_with_the_run_and_only_then(samples: Samples):
    hub = hub_of(samples)
    finished, failed = f"log:{samples.ids['search']}", f"log:{samples.ids['failed']}"
    before = hub.signature(finished), hub.signature(failed)
    assert (hub.signature(finished), hub.signature(failed)) == before
    folder = samples.root / samples.ids["failed"]
    (folder / "log.txt").open("a").write("one more line\n")
    assert hub.signature(finished) == before[0] and hub.signature(failed) != before[1]


def test_progress_inside_a_step_changes_the_head_of_the_page_only(samples: Samples):
    hub, run = hub_of(samples), samples.ids["failed"]
    before = {topic: hub.signature(f"{topic}:{run}") for topic in ("run", "training", "architecture", "log")}
    events = EventsFile(samples.root / run)
    events.step, events.epoch = 6, 1
    events.write("progress", phase="search", done=6.5, total=40, unit="steps", passes=300, detail="PGD step 3 of 7")
    hub.refresh()
    assert {topic for topic, old in before.items() if hub.signature(f"{topic}:{run}") != old} == {"run"}
    write_search_steps(events, 1)
    hub.refresh()
    changed = {topic for topic, old in before.items() if hub.signature(f"{topic}:{run}") != old}
    assert changed == {"run", "training", "architecture"}


def test_results_of_attacks_and_no_other_events_change_the_robustness_page(samples: Samples):
    hub = hub_of(samples)
    before = hub.signature("robustness")
    write_search_steps(EventsFile(samples.root / samples.ids["running"]), 1)
    hub.refresh()
    assert hub.signature("robustness") == before
    write_finished_attack(samples.root, "20261119-0900-attack-digits-0b01", parent=samples.ids["retrain"])
    hub.refresh()
    assert hub.signature("robustness") != before


def hub_of(samples: Samples) -> Hub:
    """Return the hub of the sample runs once it has read them."""
    session.run_log()
    assert session.runs_root() == samples.root.resolve()
    return session.hub()


def test_an_open_page_is_told_what_has_changed_and_nothing_after_it_was_closed(samples: Samples):
    hub, run, other = hub_of(samples), samples.ids["failed"], samples.ids["search"]
    topics = [f"run:{run}", f"training:{other}"]
    inbox: queue.Queue[dict[str, dict[str, str]]] = queue.Queue()
    page = hub.connect(lambda text: inbox.put(json.loads(text)))
    hub.show(page, [*topics, "no such topic"])
    assert inbox.get(timeout=10) == {"signatures": {topic: hub.signature(topic) for topic in topics}, "values": {}}
    events = EventsFile(samples.root / run)
    events.step, events.epoch = 7, 1
    events.write("progress", phase="search", done=7, total=40, unit="steps", passes=999, detail="")
    assert list(inbox.get(timeout=10)["signatures"]) == [topics[0]]
    hub.show(page, [])
    hub.leave(page)
    events.write("progress", phase="search", done=8, total=40, unit="steps", passes=1000, detail="")
    hub.refresh()
    assert inbox.empty()


def test_nothing_is_read_while_nothing_changes(samples: Samples, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hub_module, "OPEN_S", 0.05)
    hub = hub_of(samples)
    asked: list[object] = []
    monkeypatch.setattr(hub.log, "ingest", lambda runs=None: asked.append(runs))
    looks = hub.looks
    page = hub.connect(lambda text: None)
    hub.show(page, [f"run:{samples.ids['search']}"])
    deadline = time.monotonic() + 20
    while hub.looks < looks + 5 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert hub.looks >= looks + 5 and asked == []
    hub.leave(page)


def test_runs_appear_in_batches_while_they_are_first_read(empty: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(session, "PATIENCE_S", 0.0)
    monkeypatch.setattr(hub_module, "BATCH_RUNS", 1)
    gate = threading.Semaphore(1)
    monkeypatch.setattr(RunLog, "ingest", held(RunLog.ingest, gate))
    for number in range(3):
        write_run_json(empty, f"20261118-091{number}-arnas-digits-0a0{number}", "search")
    page = open_page("runs")
    assert not page.exception
    deadline = time.monotonic() + 20
    while session.run_log().runs().empty and time.monotonic() < deadline:
        time.sleep(0.05)
    shown = open_page("runs")
    assert [bar.proto.text for bar in shown.get("progress")] == ["Reading the runs: 1 of 3. The page fills up meanwhile."]
    assert list(session.run_log().runs()["id"]) == ["20261118-0912-arnas-digits-0a02"]  # the newest run first
    gate.release(100)
    assert session.hub().wait(60.0)
    assert not open_page("runs").get("progress")
    monkeypatch.setattr(session.hub(), "loading", (3, 3))  # while the hub computes what pages show first
    (bar,) = open_page("runs").get("progress")
    assert bar.proto.text == "All runs have been read. Alerts and studies follow in a moment."
    assert len(session.run_log().runs()) == 3


def held(ingest: Callable[..., object], gate: threading.Semaphore) -> Callable[..., object]:
    """Return `ingest` with a gate in front of it."""
    def waiting(self: RunLog, runs: object = None) -> object:
        gate.acquire()
        return ingest(self, runs)
    return waiting


def test_silence_is_counted_in_whole_minutes():
    assert [hub_module.silence_minutes(s) for s in (None, 3.0, 61.0, 250.0, float("nan"))] == [0, 0, 1, 4, 0]
