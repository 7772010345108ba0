"""The System tab of the Run page, and the chart of the machine's load."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from app import session
from app.charts.frame import BLANK_HEIGHT
from app.charts.system import system
from app.components.run_system import data
from engine.log import snapshot
from tests import sample_runs
from tests.app.conftest import Samples
from tests.app.pages import component_data, open_page, text_of
from tests.sample_runs import EventsFile, write_random_search, write_telemetry

RUN = "20261118-0914-random-search-digits-0a05"


@pytest.fixture
def load(tmp_path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The measurements of a run on a GPU whose second attempt began an hour after the first."""
    events = EventsFile(sample_runs.write_run_json(tmp_path, RUN, "search"))
    write_telemetry(events, 4, gpu="cuda:0")
    events.t += 3600
    write_telemetry(events, 3, gpu="cuda:0")
    with snapshot(tmp_path) as log:
        return log.telemetry(RUN), log.gpu_telemetry(RUN)


def test_every_quantity_has_its_own_chart_with_its_unit_and_newest_value(load: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    figure = system(*load)
    assert [note["text"] for note in figure["layout"]["annotations"]] == [
        "Throughput, steps  <b>2.50 per s</b>", "Forward passes  <b>82.0 per s</b>", "CPU of the worker  <b>1.70 cores</b>",
        "CPU of the machine  <b>75 %</b>", "Memory of the worker  <b>0.684 GiB</b>",
        "Memory of the machine in use  <b>10.0 of 24.0 GiB</b>", "Free disk  <b>41.0 GiB</b>",
        "NVIDIA H100 (cuda:0), busy  <b>90 %</b>", "NVIDIA H100 (cuda:0), memory  <b>8.0 of 80.0 GiB</b>",
        "NVIDIA H100 (cuda:0), temperature  <b>57 °C</b>"]
    assert {trace["xaxis"] for trace in figure["data"]} == {"x", "x2"} and figure["layout"]["xaxis2"]["matches"] == "x"
    assert len({trace["yaxis"] for trace in figure["data"]}) == len(figure["data"]) == 10


def test_a_line_breaks_between_two_attempts_and_nowhere_else(load: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    for trace in system(*load)["data"]:
        assert len(trace["x"]) == len(trace["y"]) == 8
        assert [place for place, value in enumerate(trace["y"]) if value is None] == [4]


def test_the_figure_brings_its_height_so_that_a_chart_grows_when_its_first_data_arrive(
        load: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    heights = [system(table, gpus)["layout"]["height"]
               for table in (load[0].head(0), load[0]) for gpus in (load[1].head(0), load[1])]
    assert heights[0] == heights[1] == BLANK_HEIGHT < heights[2] < heights[3]


def test_a_run_in_every_state_shows_its_machine_or_says_why_not(samples: Samples) -> None:
    write_random_search(samples.root, RUN)
    for run in (samples.ids["running"], samples.ids["search"], samples.ids["attack"], RUN):
        write_telemetry(EventsFile(samples.root / run), gpu="cuda:0")
    for run in (samples.ids["running"], samples.ids["search"], samples.ids["attack"], RUN):
        test = open_page("run", id=run, tab="system")
        (plot,) = component_data(test, "rampart_live_plot", "run_system")
        uses = "uses" if run == samples.ids["running"] else "used"
        assert not test.exception and f"worker {uses} 1.7 CPU cores and 700 MiB of memory" in text_of(test)
        assert "include other programs" in text_of(test)
        assert len(json.loads(plot["figure"])["data"]) == 10 and bool(plot["feed"]) == (run == samples.ids["running"])
    for run in (samples.ids["failed"], samples.ids["retrain"]):
        test = open_page("run", id=run, tab="system")
        assert not test.exception and "No measurements" in text_of(test) and not component_data(test, "rampart_live_plot")


def test_a_run_that_has_just_started_waits_for_its_first_measurement(samples: Samples) -> None:
    test = open_page("run", id=samples.ids["running"], tab="system")
    assert "has no measurement yet" in text_of(test)
    hub, topic = session.hub(), f"machine:{samples.ids['running']}"
    before = hub.signature(topic), hub.signature(f"head:{samples.ids['running']}")
    write_telemetry(EventsFile(samples.root / samples.ids["running"]))
    hub.refresh()
    assert hub.signature(topic) != before[0] and hub.signature(f"head:{samples.ids['running']}") == before[1]


def test_the_saved_data_hold_the_gpu_beside_the_machine(samples: Samples) -> None:
    write_telemetry(EventsFile(samples.root / samples.ids["search"]), gpu="cuda:0")
    session.run_log()
    session.hub().refresh()
    table = data(session.run_log(), samples.ids["search"])
    assert len(table) == 6 and table["temperature_c"].tolist() == [55.0, 56.0, 57.0, 58.0, 59.0, 60.0]
    assert {"memory_bytes", "memory_bytes_gpu"} <= set(table)
