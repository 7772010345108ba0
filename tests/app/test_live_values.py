"""Charts and texts whose changes reach open pages without a rerun."""

from __future__ import annotations

import json
import os
import queue
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from app import session
from app.charts.frame import PlainFigure
from app.hub import OPEN_S, SOON_S
from app.live_channel import shown
from app.live_values import Feed, LiveValues, Value, figure_change
from tests import sample_runs
from tests.app.pages import WholeRun, component_data, open_page, text_of


def figure(*points: float | None, name: str = "natural", top: float = 1.0) -> PlainFigure:
    """Return a figure with a line through the points, and another line that never changes."""
    return {"data": [{"type": "scatter", "x": list(range(len(points))), "y": list(points), "name": name},
                     {"type": "scatter", "x": [0, 1], "y": [1, 2]}], "layout": {"yaxis": {"range": [0, top]}}}


def applied(before: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """Return a figure with a change, as the browser makes it."""
    traces = [trace | {name: trace[name][:keep] + more for name, (keep, more) in change["traces"].get(str(number), {}).items()}
              for number, trace in enumerate(before["data"])]
    return before | {"data": traces, "layout": change.get("layout", before["layout"])}


@pytest.mark.parametrize(("before", "after", "sent"), [
    (figure(1, 2), figure(1, 2, 3), {"traces": {"0": {"x": [2, [2]], "y": [2, [3.0]]}}}),
    (figure(1, 2, 3), figure(1, 5), {"traces": {"0": {"x": [2, []], "y": [1, [5.0]]}}}),
    (figure(1, 2), figure(1, 2), {"traces": {}}),
    (figure(3, 2, 1), figure(4, 5, 1), {"traces": {"0": {"y": [0, [4, 5, 1]]}}}),
])
def test_only_the_points_that_differ_are_sent(before: PlainFigure, after: PlainFigure, sent: dict[str, Any]):
    assert figure_change(before, after) == sent and applied(before, sent) == after


def test_a_layout_is_sent_whole_and_other_changes_need_the_whole_figure():
    change = figure_change(figure(1, 2), figure(1, 2, top=3))
    assert change and not change["traces"] and change["layout"]["yaxis"]["range"] == [0, 3]
    assert figure_change(figure(1, 2), figure(1, 2, name="adversarial")) is None
    assert figure_change(figure(1, 2), {"data": [], "layout": {}}) is None


def test_a_missing_value_is_a_gap_as_in_other_figures():
    value = Value.of(figure(1.0, float("nan")))
    assert "null" in value.text and value.figure() == figure(1.0, None)


def test_a_page_gets_the_difference_if_it_shows_the_value_before_and_else_the_whole_value():
    points, values = [1.0, 2.0], LiveValues()
    feed = Feed("training", lambda: figure(*points), "a")
    first = Value.of(feed.draw())
    values.offer("chart", feed, first)
    current, late = {"chart": first.revision, "gone": "x"}, {"chart": "an older revision"}
    assert values.due(["chart"], lambda topic: "a") == []  # nothing has happened to the data
    assert values.news(current) == {"gone": None} and current == {"chart": first.revision}

    points.append(3.0)
    (draw,) = values.due(["chart", "gone"], lambda topic: "b")
    draw()
    newest = Value.of(figure(*points))
    assert values.news(current)["chart"] == {"revision": newest.revision, "from": first.revision,
                                             "traces": {"0": {"x": [2, [2]], "y": [2, [3.0]]}}}
    assert values.news(late)["chart"] == {"revision": newest.revision, "text": newest.text}
    assert values.news(current) == values.news(late) == {}
    assert values.due(["chart"], lambda topic: "c") == []  # a figure rests after it has been drawn
    values.forget_replaced()  # all pages have been told
    assert values.news({"chart": first.revision})["chart"] == {"revision": newest.revision, "text": newest.text}


def test_the_first_number_of_a_launched_run_comes_without_a_rerun_and_soon(empty: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("app.hub.EAGER_S", 3600.0)
    folder = sample_runs.write_run_json(empty, "20261118-0910-arnas-digits-0a01", "search", created=time.time())
    session.hub().refresh()
    drawn = component_data(open_page("run", id=folder.name), "rampart_live_html")
    (progress,) = (data for data in drawn if data["feed"].startswith("run_progress"))
    assert "waiting" in progress["html"] and "data-measured" not in progress["html"]

    hub, inbox = session.hub(), queue.Queue[dict[str, Any]]()
    page = hub.connect(lambda text: inbox.put(json.loads(text)["values"]))
    hub.show(page, [f"head:{folder.name}"], {progress["feed"]: progress["revision"]})
    events = sample_runs.EventsFile(folder, t=time.time())
    sample_runs.write_process(folder, events, pid=os.getpid(), started=psutil.Process().create_time())
    sample_runs.write_search_steps(events, 1)
    while "42 forward passes" not in (message := inbox.get(timeout=20).get(progress["feed"], {"text": ""}))["text"]:
        pass  # the hub may read the events one by one
    assert "data-measured" in message["text"]
    assert hub._interval() == SOON_S < OPEN_S  # the reader has just acted, and waits for the effect
    hub.leave(page)


def test_memory_is_released_from_time_to_time_after_visits_and_while_a_page_is_open(empty: Path, monkeypatch: pytest.MonkeyPatch):
    hub, released = session.hub(), list[float]()
    assert hub.wait(20)
    release = hub.log.release_memory
    monkeypatch.setattr(hub.log, "release_memory", lambda: (release(), released.append(time.monotonic())))
    for visit in (hub.keep_fresh, lambda: hub.leave(hub.connect(lambda text: None))):
        released.clear()
        visit()
        monkeypatch.setattr("app.hub.RELEASE_S", 3600.0)
        hub.release_memory()
        assert not released
        monkeypatch.setattr("app.hub.RELEASE_S", 0.0)
        hub.release_memory()
        hub.release_memory()
        assert len(released) == 1  # nobody has been here since
    page = hub.connect(lambda text: None)
    released.clear()
    hub.release_memory()
    hub.release_memory()
    assert len(released) == 2
    hub.leave(page)


def test_a_malformed_message_of_a_page_shows_nothing():
    assert shown({"topics": ["runs", 3], "values": {"chart": "a", "text": 4}}) == (["runs"], {"chart": "a"})
    assert shown(["runs"]) == shown({"topics": "runs", "values": ["chart"]}) == ([], {})


def feeds(test: WholeRun) -> dict[str, str]:
    """Return {name: revision} of the values that all tabs of a run keep up to date."""
    drawn = component_data(test, "rampart_live_plot") + component_data(test, "rampart_live_html")
    return {data["feed"]: data["revision"] for data in drawn if data["feed"]}


def test_an_open_page_of_a_running_search_follows_it_without_a_rerun(empty: Path):
    folder = sample_runs.write_run_json(empty, "20261118-0910-arnas-digits-0a01", "search", created=time.time())
    events = sample_runs.EventsFile(folder, t=time.time())
    me = psutil.Process()
    sample_runs.write_process(folder, events, pid=me.pid, started=me.create_time())
    sample_runs.write_search_steps(events, 5)
    test = WholeRun(folder.name)
    values = feeds(test)
    assert {name.split()[0] for name in values} == {
        "run_progress", "run_told_overview", "run_figures", "run_trade_off", "run_heat_accurate", "run_cell_graph_live",
        "run_river_accurate", "run_edge_accurate_0", "run_told_objectives", "run_mgda", "run_vertices", "run_ignored",
        "run_gradients", "run_closed_form", "run_told_trade_off", "run_trail", "run_system", "run_system_words"}
    assert "5 of 40 steps" in text_of(test)

    hub, inbox = session.hub(), queue.Queue[dict[str, Any]]()
    before = [hub.signature(f"{kind}:{folder.name}") for kind in ("head", "series", "epochs")]
    page = hub.connect(lambda text: inbox.put(json.loads(text)["values"]))
    hub.show(page, [f"head:{folder.name}"], values)
    sample_runs.write_search_steps(events, 1)
    found: dict[str, Any] = {}
    while not {"run_progress", "run_trade_off", "run_river_accurate", "run_trail"} <= found.keys():
        found |= {name.split()[0]: message for name, message in inbox.get(timeout=20).items()}
    with suppress(queue.Empty):  # until nothing changes any more
        while True:
            inbox.get(timeout=6)
    hub.leave(page)
    for chart in ("run_trade_off", "run_river_accurate"):
        arrived = [lists["x"][1] for lists in found[chart]["traces"].values() if "x" in lists]
        assert arrived and all(6 in steps for steps in arrived) and "text" not in found[chart]
    assert "6 of 40 steps" in found["run_progress"]["text"]
    # Nothing that needs a rerun of a panel has happened.
    assert [hub.signature(f"{kind}:{folder.name}") for kind in ("head", "series", "epochs")] == before
    drawn, sent = ({name: revision for name, revision in one.items() if not name.startswith("run_progress")}
                   for one in (feeds(WholeRun(folder.name)), page.values))  # progress says for how long the run has been running
    assert drawn == sent
