"""Alerts on pages: the bell, the list in the overview of a run, and how they are kept up to date."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app import alerts as kept
from app import session
from app.components.alert_list import MOST, bell_html
from engine.insight.alerts import Alert
from tests import sample_runs
from tests.app.conftest import Samples
from tests.app.pages import open_page, text_of
from tests.sample_runs import EventsFile

NOW = "20261118-0910-arnas-digits-0a01"


def write_search(root: Path, run: str, *messages: tuple[str, str]) -> EventsFile:
    """Write a search that has just failed, with the given alerts (level, text)."""
    folder = sample_runs.write_run_json(root, run, "search", created=time.time())
    events = EventsFile(folder, t=time.time())
    sample_runs.write_search_steps(events, 3)
    for level, text in messages:
        events.write("alert", level=level, text=text)
    sample_runs.write_exit(folder, events, code=1, status="failed", cause="Out of memory.")
    return events


def bell_of(page: str, **query: str) -> str:
    """Return the HTML of the bell on a page."""
    test = open_page(page, **query)
    assert not test.exception
    (html,) = bodies(test, '<button class="rp-bell"')
    return html


def bodies(test: AppTest, beginning: str) -> list[str]:
    """Return the pieces of HTML on a page that begin with this text."""
    return [element.proto.body for element in test.get("html") if element.proto.body.startswith(beginning)]


def test_the_bell_counts_alerts_of_the_worst_level_on_every_page(empty: Path) -> None:
    write_search(empty, NOW, ("warning", "The loss <b>jumps</b>."), ("error", "Out of memory."), ("warning", "A second one."))
    for page in ("runs", "launch", "datasets", "run"):
        html = bell_of(page, id=NOW)
        assert 'aria-label="Alerts: 1 error, 2 warnings"' in html and '>✕</span> 1</span>' in html
    assert re.findall(r'data-level="(\w+)"', html) == ["error", "warning", "warning"]
    assert f'href="run?id={NOW}"' in html and "ARNAS · 0a01" in html and "&lt;b&gt;jumps" in html
    assert html.count("<b>Warning</b>") == 2 and "<b>Error</b>" in html


def test_a_quiet_folder_has_a_bell_without_a_number(samples: Samples) -> None:
    html = bell_of("runs")
    assert 'aria-label="Alerts: No alerts"' in html and "rp-bellcount" not in html and "<li" not in html


def test_a_long_list_of_alerts_says_what_it_leaves_out() -> None:
    html = bell_html([Alert("info", "collapse", "a-run", 3, 1, "Two skips.")] * (MOST + 5), {"a-run": "ARNAS"})
    assert html.count("<li") == MOST and "5 more are on the pages of their runs." in html and "55 notes" in html


def test_open_pages_learn_of_an_alert_and_nothing_is_computed_while_nothing_changes(
        empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "SOON_S", 0.0)
    events = write_search(empty, NOW)
    write_search(empty, NOW.replace("0a01", "0a02"))
    session.run_log()
    hub, topics = session.hub(), ("alerts", f"alerts:{NOW}", f"alerts:{NOW.replace('0a01', '0a02')}")
    before = [hub.signature(topic) for topic in topics]
    with monkeypatch.context() as patch:
        patch.setattr(hub.alerts, "_bell", None)  # asking it would fail
        assert [hub.signature(topic) for topic in topics] == before
    events.write("alert", level="warning", text="Something new.")
    hub.refresh()
    assert [hub.signature(topic) == old for topic, old in zip(topics, before)] == [False, False, True]
    assert [alert.sentence for alert in hub.alerts.now()] == ["Out of memory.", "Out of memory.", "Something new."]


def test_a_run_shows_its_alerts_once_and_those_of_its_files(empty: Path) -> None:
    texts = [("warning", f"Warning number {number}.") for number in range(5)]
    events = write_search(empty, NOW, ("error", "Out of memory: take a smaller batch."), *texts)
    events.write_raw("not JSON\n")
    test = open_page("run", id=NOW)
    shown, _ = bodies(test, '<ul class="rp-alertlist"')
    assert not test.exception and shown.count("<li") == 4 and "take a smaller batch" not in shown
    assert "Why it failed" in text_of(test) and "run?id" not in shown
    (box,) = (box for box in test.expander if "further alert" in box.label)
    hidden = "".join(element.proto.body for element in box.get("html"))
    assert box.label == "2 further alerts" and "events.jsonl" in hidden
    assert not bodies(open_page("run", id=NOW, tab="log"), '<ul class="rp-alertlist"')
