"""Latencies on the pages: as a measure of one named device, with those of other devices and older runs left out and counted."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from app import session
from app.downloads import file_at
from engine.paper.methods import methods
from engine.report.latency import Latency, common_place, latencies_of, milliseconds
from engine.report.pareto import measures_of, value_of
from engine.report.robustness import robustness_tables
from engine.study.results import ArmResult
from tests import sample_runs
from tests.app.conftest import Samples
from tests.app.pages import component_data, open_page, text_of
from tests.app.test_downloads import files_of

PLACE = "AMD EPYC 7B13, 1 thread"


@pytest.fixture
def attacked(samples: Samples) -> tuple[Samples, list[str]]:
    """One network without latency, two measured on one processor, one measured on another."""
    made = [("7f41", 0.002, "AMD EPYC 7B13"), ("7f42", 0.004, "AMD EPYC 7B13"), ("7f43", 0.001, "Apple M4")]
    runs = [sample_runs.write_finished_attack(samples.root, f"20261118-0920-attack-digits-{end}", parent=samples.ids["retrain"],
                                              created=sample_runs.START + number, autoattack=30 + number, latency_s=seconds,
                                              hardware=hardware) for number, (end, seconds, hardware) in enumerate(made)]
    session.hub().refresh()
    return samples, runs


def test_pareto_compares_latencies_of_one_device_only(attacked: tuple[Samples, list[str]]) -> None:
    samples, runs = attacked
    page = open_page("pareto", x="latency", y="worst-case")
    assert not page.exception
    (plot,) = [one for one in component_data(page, "rampart_live_plot") if one["name"].startswith("pareto_networks")]
    figure = json.loads(plot["figure"])
    title = figure["layout"]["xaxis"]["title"]["text"].replace("<br>", " ")
    assert title == f"Latency of 1 image, {PLACE}, smaller is better (ms)"
    assert figure["layout"]["xaxis"]["ticksuffix"] == " ms"
    drawn = {one[0]: x for trace in figure["data"] for one, x in zip(trace.get("customdata") or (), trace.get("x") or ())}
    assert {run: pytest.approx(x) for run, x in drawn.items()} == {runs[0]: 2.0, runs[1]: 4.0}
    words = text_of(page)
    assert f"median computing time of repeated passes in evaluation mode on {PLACE}." in words
    assert f"mode on {PLACE}. 1 network measured on another device is left out of it." in words
    assert "1 network of older runs has no latency; attack it again to measure it." in words
    (address,) = [one for name, one in files_of(page).items() if name.endswith("-networks.parquet")]
    content = file_at(address)
    assert content is not None
    rows = {row["run"]: row for row in pq.read_table(io.BytesIO(content.make())).to_pylist()}
    assert rows[runs[1]]["latency_ms"] == 4.0 and rows[runs[1]]["latency_device"] == PLACE


def test_a_run_names_its_latency_and_an_older_one_says_how_to_measure_it(attacked: tuple[Samples, list[str]]) -> None:
    samples, runs = attacked
    assert f"Latency: 2 ms for 1 image on {PLACE}; 32 ms for a batch of 64 on {PLACE}." in text_of(open_page("run", id=runs[0]))
    assert "older run; attack the network again to measure it" in text_of(open_page("run", id=samples.ids["attack"]))
    compared = text_of(open_page("compare", runs=",".join([*runs, samples.ids["attack"]])))
    assert "it compares only on one device" in compared and "Apple M4, 1 thread" in compared and ">1 ms<" in compared
    sentences = methods(session.run_log(), [session.run_log().run(runs[2])], [])
    assert any("1 ms for 1 image on Apple M4, 1 thread" in one and runs[2] in one for one in sentences)


def test_a_measure_takes_the_device_of_most_networks(attacked: tuple[Samples, list[str]]) -> None:
    (table, *_) = robustness_tables(session.run_log())
    measure = measures_of(table)["latency-batch"]
    values = {row.run[-4:]: value_of(row, measure, {}) for row in table.rows}
    assert measure.where == PLACE and measure.factor == 1000
    assert {end: value.value for end, value in values.items() if value} == {"7f41": 0.032, "7f42": 0.064}
    assert len(latencies_of(session.run_log())) == 3


def test_an_arm_averages_the_networks_of_one_device(sample_studies: Samples) -> None:
    results = session.hub().studies.overview(sample_studies.ids["finished"]).results
    assert results.latency_place == "" and not any(results.latency(arm) for arm in results.arms.values())
    name, arm = next(iter(results.arms.items()))
    assert len(arm.cells) > 2
    places = ["c", *["b"] * (len(arm.cells) - 1)]
    cells = tuple(replace(cell, latencies={1: Latency(1, 0.001 * (number + 1), 0.0, 1.0, place)})
                  for number, (cell, place) in enumerate(zip(arm.cells, places)))
    timed = replace(results, arms={**results.arms, name: ArmResult(name, cells)})
    kept = [0.001 * (number + 1) for number, place in enumerate(places) if place == "b"]
    assert timed.latency_place == "b" and timed.latency(timed.arms[name]) == pytest.approx(sum(kept) / len(kept))


def test_words_of_latencies() -> None:
    assert [milliseconds(one) for one in (0.0023123, 0.0000456, 0.2314, 1.234)] == ["2.31 ms", "0.0456 ms", "231 ms", "1.23 s"]
    here, there = ({1: Latency(1, 0.1, 0.1, 0.1, place)} for place in ("b", "a"))
    assert common_place([here, {}, there, here]) == "b" and common_place([here, there]) == "a" and common_place([{}]) == ""
