"""The Compare page: results, settings, curves, parallel coordinates, seed groups, votes and cells of several runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from app.charts.categories import looks_of
from app.charts.comparison import Line, numbers_axis, overlay_figure, parallel_figure, words_axis
from tests import sample_runs
from tests.app.conftest import Samples
from tests.app.pages import component_data, open_page, text_of


def figures(page: Any) -> dict[str, dict[str, Any]]:
    return {data["name"]: json.loads(data["figure"]) for data in component_data(page, "rampart_live_plot")}


def test_without_runs_the_page_says_how_to_choose_them(samples: Samples) -> None:
    page = open_page("compare")
    assert not page.exception and "Nothing to compare yet" in text_of(page)
    page = open_page("compare", runs="gone,missing")
    assert not page.exception and "2 runs of the address are not in this folder: gone, missing." in text_of(page)


def test_one_run_and_runs_in_every_state(samples: Samples) -> None:
    page = open_page("compare", runs=samples.ids["search"])
    assert not page.exception and "Choose a second run." in text_of(page)
    page = open_page("compare", runs=",".join(samples.ids.values()))
    text = text_of(page)
    assert not page.exception and "do not compare them across rows" in text
    assert all(run in text for run in samples.ids.values())


def test_chains_of_several_seeds(empty: Path) -> None:
    chains = [sample_runs.write_finished_chain(empty, name=f"c{seed}", seed=seed, autoattack=28 + seed) for seed in (1, 2, 3)]
    attacks = [chain[2] for chain in chains]
    page = open_page("compare", runs=",".join(attacks), cells=f"{attacks[0]},{attacks[2]}",
                     metric="natural_accuracy.select.running")
    assert not page.exception
    text = text_of(page)
    assert "ARNAS, seed 2" in text and "46.9 %" in text and "± 1.6" in text  # mean and spread of 29, 30 and 31 of 64
    assert "Settings that differ" in text and ">Search<" in text and ">Seed<" in text
    drawn = figures(page)
    curves = next(figure for name, figure in drawn.items() if name.startswith("compare_curves"))
    assert [trace["name"] for trace in curves["data"]] == ["ARNAS, seed 1", "ARNAS, seed 2", "ARNAS, seed 3"]
    assert curves["layout"]["yaxis"]["title"]["text"] == "Natural accuracy (%)"
    assert "compare_coordinates" in drawn and sum(name.startswith("compare_votes") for name in drawn) == 3
    titles = [data["html"] for data in component_data(page, "rampart_cell_graph")]
    assert sum("rp-changed-halo" in html for html in titles) == 0  # these attacked networks have equal cells
    assert page.multiselect(key="compare.runs").value == attacks


def test_cells_that_differ_are_marked(empty: Path) -> None:
    searches = [sample_runs.write_finished_chain(empty, name=f"c{seed}", seed=seed)[0] for seed in (1, 2)]
    page = open_page("compare", runs=",".join(searches))
    marked = [data["html"] for data in component_data(page, "rampart_cell_graph") if "rp-changed-halo" in data["html"]]
    assert not page.exception and 1 <= len(marked) <= 3 and "changed" in marked[0]


def test_many_lines_share_the_look_of_their_group() -> None:
    frame = pd.DataFrame([(f"r{k}", step, 1, 0.5) for k in range(20) for step in (1, 2)],
                         columns=["run", "step", "epoch", "value"])
    lines = [Line(f"r{k}", f"Run {k}", "ARNAS" if k < 12 else "DARTS") for k in range(20)]
    figure = go.Figure(overlay_figure(frame, lines, looks_of(line.group for line in lines), "natural_accuracy"))
    assert len(figure.data) == 20 and [trace.name for trace in figure.data if trace.showlegend] == ["ARNAS", "DARTS"]
    assert list(figure.data[0].y) == [50, 50] and figure.layout.yaxis.ticksuffix == " %"
    loss = go.Figure(overlay_figure(frame, lines, looks_of(line.group for line in lines), "train_loss", "epoch"))
    assert loss.layout.yaxis.title.text == "Train loss (nats)" and loss.layout.xaxis.title.text == "Epoch"


def test_latencies_of_one_device_have_an_axis(empty: Path) -> None:
    """Latencies compare only on one device, so a third network, measured elsewhere, takes the axis away."""
    attacks = [sample_runs.write_finished_attack(empty, f"20261118-0906-attack-digits-7f3{k}", parent=None, latency_s=0.001 * k,
                                                 hardware=hardware) for k, hardware in ((1, "EPYC"), (2, "EPYC"), (3, "Xeon"))]

    def axes(runs: list[str]) -> list[str]:
        return list(figures(open_page("compare", runs=",".join(runs)))["compare_coordinates"]["layout"]["xaxis"]["ticktext"])

    assert axes(attacks[:2])[-1] == "Latency, 1 image" and "Latency, 1 image" not in axes(attacks)


def test_parallel_coordinates_place_numbers_and_words() -> None:
    numbers = numbers_axis("Epochs", [10, None, 30, 15], ["10", "–", "30", "15"])
    assert numbers.places == (0, None, 1, 0.25) and numbers.ends == {0.0: "10", 1.0: "30"}
    words = words_axis("Network", ["derived", "wide", "derived", "small"])
    assert words.places == (0, 0.5, 0, 1) and words.ends == {0: "derived", 0.5: "wide", 1: "small"}
    assert numbers_axis("Equal", [5, 5], ["5", "5"]).places == (0.5, 0.5)
    lines = [Line(f"r{k}", f"Run {k}", f"Run {k}") for k in range(4)]
    figure = go.Figure(parallel_figure([numbers, words], lines, looks_of(line.group for line in lines)))
    assert list(figure.layout.xaxis.ticktext) == ["Epochs", "Network"]
    # Values stand beside the lines: below the lower end, above the upper end, left of the axis between them.
    assert [(one.text, one.yshift, one.xshift) for one in figure.layout.annotations] == [
        ("10", -15, 0), ("30", 15, 0), ("derived", -15, 0), ("wide", 0, -8), ("small", 15, 0)]
    assert "Epochs: 30<br>Network: derived" in next(trace for trace in figure.data if trace.name == "Run 2").hovertext[0]
