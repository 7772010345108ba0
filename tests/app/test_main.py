"""Router and frame: the first page, navigation, and the files and signatures of this server."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pandas as pd
import pytest

from app import session
from tests.app.conftest import Samples
from tests.app.pages import PAGES, open_page, text_of
from tests.sample_runs import EventsFile, write_search_steps


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
    session.prepare_static()
    written = session.STATIC / "plotly.min.js"
    before = written.stat().st_mtime_ns
    session.prepare_static()
    assert written.stat().st_mtime_ns == before  # idempotent
    assert "plotly.js" in written.read_text(encoding="utf-8")[:300]


def test_signature_changes_with_the_run_and_only_then(samples: Samples):
    hub = session.hub()
    finished, failed = f"log:{samples.ids['search']}", f"log:{samples.ids['failed']}"
    before = hub.watch(finished), hub.watch(failed)
    assert (hub.signature(finished), hub.signature(failed)) == before
    folder = samples.root / samples.ids["failed"]
    (folder / "log.txt").open("a").write("one more line\n")
    assert hub.signature(finished) == before[0] and hub.signature(failed) != before[1]


def test_progress_inside_a_step_changes_the_head_of_the_page_only(samples: Samples):
    hub, run = session.hub(), samples.ids["failed"]
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


def test_new_events_reach_the_browsers_file_within_seconds(samples: Samples, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(session, "PERIOD_S", 0.25)
    hub, topic = session.hub(), f"run:{samples.ids['failed']}"
    before = hub.watch(topic)
    path = session.STATIC / Path(hub.live_url).name
    assert json.loads(path.read_text())[topic] == before
    events = EventsFile(samples.root / samples.ids["failed"])
    events.step, events.epoch = 7, 1
    events.write("progress", phase="search", done=7, total=40, unit="steps", passes=999, detail="")
    deadline = time.monotonic() + 5
    while json.loads(path.read_text())[topic] == before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert json.loads(path.read_text())[topic] != before


def test_the_last_bits_of_a_mean_are_no_change():
    table = pd.DataFrame({"name": ["natural_loss"], "value": [2.3]})
    assert session.content_hash(table) == session.content_hash(table.assign(value=[2.3 + 4.4e-16]))
    assert session.content_hash(table) != session.content_hash(table.assign(value=[2.300001]))


def test_silence_is_counted_in_whole_minutes():
    assert [session.silence_minutes(s) for s in (None, 3.0, 61.0, 250.0, float("nan"))] == [0, 0, 1, 4, 0]
