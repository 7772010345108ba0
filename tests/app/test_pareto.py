"""The Pareto page: networks in free measures, their standing, the linked selection, numbers of runs, and search epochs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from app import session
from app.charts.attainment import attainment_figure, volume_figure
from app.charts.categories import looks_of
from app.charts.pareto import LARGEST, SMALLEST, Mark, View, marker_sizes, networks_figure
from app.charts.search_epochs import MOST_TRAILS, epochs_figure
from engine.report.dominance import Standing
from engine.report.pareto import Measure, Value
from tests import sample_runs
from tests.app.conftest import Samples
from tests.app.pages import component_data, open_page, table_rows, text_of

NATURAL = Measure("natural", "Natural accuracy", "%", True, 360, "360 images of the test split")
PGD = Measure("pgd-20", "PGD-20 accuracy", "%", True, 64, "L∞ 0.15, 64 images of the test split")
MACS = Measure("macs", "MACs per image", "", False)
MEASURES = {one.name: one for one in (NATURAL, PGD, MACS)}
VIEW = View(NATURAL, PGD)


def mark(name: str, natural: float, adversarial: float, macs: float = 1e6, *, standing: Standing = Standing.FRONT,
         **more: Any) -> Mark:
    values = {"natural": Value(natural, natural - 0.02, natural + 0.01),
              "pgd-20": Value(adversarial, adversarial - 0.1, adversarial + 0.1), "macs": Value(macs, macs, macs)}
    return Mark(**{"run": f"run-{name}", "label": name, "title": "ARNAS", "badge": "green", "reasons": "12 checks passed.",
                   "values": values, "standing": standing, **more})


MARKS = [mark("A", .95, .50), mark("B", .90, .60, 2e6), mark("C", .89, .45, 3e6, standing=Standing.DOMINATED),
         mark("D", .94, .49, standing=Standing.OPEN)]


def figures(page: Any) -> dict[str, dict[str, Any]]:
    """Return the figures of a page by name."""
    return {data["name"]: json.loads(data["figure"]) for data in component_data(page, "rampart_live_plot")}


def figure_of(page: Any, start: str) -> dict[str, Any]:
    return next(figure for name, figure in figures(page).items() if name.startswith(start))


def traces(figure: Any) -> dict[str, Any]:
    return {trace.name: trace for trace in figure.data if trace.name}


def written(figure: Any) -> list[str]:
    """Return the labels that are written beside points."""
    return [text for trace in figure.data if trace.mode == "text" for text in trace.text]


def test_an_empty_folder_gives_the_first_page(empty: Path) -> None:
    page = open_page("pareto")
    assert not page.exception and page.button(key="first_run_launch")


def test_a_folder_without_attacks_explains_what_will_be_here(empty: Path) -> None:
    sample_runs.write_failed_search(empty)
    page = open_page("pareto")
    assert not page.exception and "No attacked network yet" in text_of(page)


def test_one_network(samples: Samples) -> None:
    page = open_page("pareto")
    assert not page.exception
    titles = [figure_of(page, "pareto_networks")["layout"][axis]["title"]["text"].replace("<br>", " ")
              for axis in ("xaxis", "yaxis")]
    assert titles[0] == "Natural accuracy, 360 images of the test split (%)"
    assert titles[1] == "Worst case accuracy, L∞ 0.15, 64 images of the test split (%)"
    text = text_of(page)
    assert "Attack a second network to compare" in text and "A point is a checkpoint, not its method" in text
    assert "4 searches: Digits 8x8 · PGD-7" in text and "✓ green, ! amber, ✕ red" in text


@pytest.fixture(scope="module")
def written_many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with 31 attacked networks of three searches, of which several have equal accuracies."""
    root = tmp_path_factory.mktemp("many")
    chains = [sample_runs.write_finished_chain(root, name=f"c{seed}", seed=seed, autoattack=20 + seed) for seed in range(3)]
    for k in range(28):
        folder, events = sample_runs._begun_attack(
            root, f"20261118-1000-attack-digits-{k:04x}", parent=chains[k % 3][1], t=sample_runs.START, epsilon=0.15,
            created=sample_runs.START + k, title="ARNAS", network=f"weights {k}")
        right = {"natural": 347, "pgd-20": 210 + k % 6, "worst-case": 22 + k % 6}
        for attack, correct in right.items():
            sample_runs.write_attack(events, attack, attack, 64 if attack == "worst-case" else 360, correct)
        sample_runs.write_outcomes(folder, {"natural": np.arange(360) < 347, "autoattack": np.arange(64) < right["worst-case"]})
        sample_runs.write_finished(folder, events)
    return root


@pytest.fixture
def many(written_many: Path, empty: Path) -> list[str]:
    """Return the ids of the attack runs in a copy of `written_many`."""
    shutil.copytree(written_many, empty, dirs_exist_ok=True)
    return sorted(folder.name for folder in empty.glob("*-attack-*"))


def test_many_networks_are_all_reachable_and_the_selection_links_plot_table_and_cells(many: list[str]) -> None:
    page = open_page("pareto", selected=f"{many[3]},{many[4]}", rows="all", colour="title")
    assert not page.exception
    figure = figure_of(page, "pareto_networks")
    points = [(x, y, custom[0]) for trace in figure["data"] if trace.get("customdata")
              for x, y, custom in zip(trace["x"], trace["y"], trace["customdata"], strict=True)]
    assert {run for _, _, run in points} == set(many) and len({(x, y) for x, y, _ in points}) == 31
    assert sum("error_y" in trace for trace in figure["data"]) == 1  # of the selected networks only
    assert [trace["name"] for trace in figure["data"] if trace.get("showlegend", True)] == ["ARNAS"]
    (table,) = component_data(page, "rampart_table")
    assert [row["id"] for row in table["rows"] if row["picked"]] == [row["id"] for row in table["rows"][:2]]
    assert {row["id"] for row in table["rows"][:2]} == set(many[3:5]) and len(table["rows"]) == 31
    text = text_of(page)
    assert "are not told apart in natural accuracy and worst case accuracy" in text or "better" in text
    cells = [data["html"] for data in component_data(page, "rampart_cell_graph")]
    assert sum("rp-cells" in html for html in cells) == 2
    assert "Networks with equal values stand side by side" in text
    assert "Kendall's tau of supernet accuracy and worst case accuracy" in text


def test_axes_and_third_objective_come_from_the_address(many: list[str]) -> None:
    page = open_page("pareto", x="macs", y="pgd-20", third="natural", show="front")
    assert not page.exception
    layout = figure_of(page, "pareto_networks")["layout"]
    assert layout["xaxis"]["title"]["text"] == "MACs per image, smaller is better"
    assert "Natural accuracy" in layout["coloraxis"]["colorbar"]["title"]["text"]
    assert "The reference point is fixed: 0 % in both accuracies" in text_of(page)
    page.selectbox(key="pareto.third").set_value("").run()
    assert not page.exception and "third" not in page.query_params
    assert "coloraxis" not in figure_of(page, "pareto_networks")["layout"]


def test_numbers_of_runs_are_equal_for_all_methods(many: list[str]) -> None:
    page = open_page("pareto", runs="4")
    assert not page.exception and "pareto_attainment_4" in figures(page)
    assert "the front that 4 runs, drawn at random with replacement" in text_of(page)
    assert page.selectbox(key="pareto.runs").options[:2] == ["31 runs", "30 runs"]


def test_networks_of_other_protocols_are_never_drawn_together(samples: Samples) -> None:
    sample_runs.write_finished_attack(samples.root, "20261118-0920-attack-digits-7f41", parent=samples.ids["resumed"],
                                      created=sample_runs.START + 900, epsilon=8 / 255)
    page = open_page("pareto")
    box = page.selectbox(key="pareto.protocol")
    assert any("8/255" in name for name in box.options) and any("0.15" in name for name in box.options)
    for protocol in session.run_log().evaluations()["protocol"].unique():
        page = open_page("pareto", protocol=protocol)
        drawn = {point[0] for trace in figure_of(page, "pareto_networks")["data"] for point in trace.get("customdata", [])}
        assert len(drawn) == 1


def test_networks_of_unequal_size_are_said_to_be(samples: Samples) -> None:
    assert "differ in size" not in text_of(open_page("pareto"))
    sample_runs.write_finished_attack(samples.root, "20261118-0921-attack-digits-7f42", parent=samples.ids["resumed"],
                                      created=sample_runs.START + 901, macs=526_000_000, autoattack=9)
    session.hub().refresh()
    assert "These networks differ in size: 1.20 million to 526 million MACs. Retrain with matched" in text_of(open_page("pareto"))
    # The weaker network is dominated: hiding it removes the difference in size from the plot.
    page = open_page("pareto", show="front", y="worst-case")
    assert not page.exception and "differ in size" not in text_of(page)


def test_the_badge_of_the_page_is_that_of_the_list_of_runs(samples: Samples) -> None:
    sample_runs.write_checks(sample_runs.EventsFile(samples.root / samples.ids["attack"]), gradients="failed")
    page = open_page("pareto")
    assert any("✕ Red: Gradients: Gradients was measured." in text for trace in figure_of(page, "pareto_networks")["data"]
               for text in trace.get("hovertext", []))
    assert table_rows(page)[samples.ids["attack"]]["network"].startswith("ARNAS ✕")


def test_the_legend_says_what_is_known_about_each_network() -> None:
    figure = go.Figure(networks_figure(MARKS, VIEW, MEASURES))
    assert list(traces(figure)) == ["on the front", "not told apart from the front", "dominated"]
    looks = {(trace.marker.color, trace.marker.symbol) for trace in traces(figure).values()}
    assert len({symbol for _, symbol in looks}) == 3
    assert "natural accuracy: 89.0 % (87.0 to 90.0 %)" in traces(figure)["dominated"].hovertext[0].lower()


def test_names_are_those_of_the_front_and_of_selected_networks() -> None:
    assert written(go.Figure(networks_figure(MARKS, VIEW, MEASURES))) == ["A ✓", "B ✓"]
    chosen = [*MARKS[:2], mark("C", .89, .45, standing=Standing.DOMINATED, selected=True, badge="red")]
    figure = go.Figure(networks_figure(chosen, VIEW, MEASURES))
    assert written(figure)[0] == "C ✕"
    bars = [trace.error_y for trace in figure.data if trace.error_y.array is not None]
    assert len(bars) == 1 and bars[0].array[0] == pytest.approx(10) and bars[0].arrayminus[0] == pytest.approx(10)


def test_labels_of_250_networks_on_the_front_do_not_overlap() -> None:
    marks = [mark(f"ARNAS, seed {k}", 0.5 + k / 1000, 0.9 - k / 1000) for k in range(250)]
    assert 2 <= len(written(go.Figure(networks_figure(marks, VIEW, MEASURES)))) <= 24


def test_the_browser_gets_run_and_intervals_of_each_point() -> None:
    point = traces(go.Figure(networks_figure(MARKS, VIEW, MEASURES)))["on the front"].customdata[0]
    assert point[0] == "run-A" and list(point[1:]) == pytest.approx([95, 93, 96, 50, 40, 60])


def test_the_front_has_a_band_only_with_two_objectives() -> None:
    filled = [trace for trace in go.Figure(networks_figure(MARKS, VIEW, MEASURES)).data if trace.fill == "toself"]
    assert len(filled) == 1 and max(filled[0].y) == pytest.approx(70)
    three = go.Figure(networks_figure(MARKS, View(NATURAL, PGD, MACS), MEASURES))
    assert not [trace for trace in three.data if trace.fill == "toself" or trace.mode == "lines"]
    assert three.layout.coloraxis.colorbar.title.text.startswith("MACs per image")


def test_the_area_of_a_marker_grows_with_its_value() -> None:
    sizes = [size for trace in traces(go.Figure(networks_figure(MARKS, View(NATURAL, PGD, size="macs"), MEASURES))).values()
             for size in trace.marker.size]
    assert max(sizes) == LARGEST and min(sizes) == SMALLEST
    assert marker_sizes([None, float("nan")])[0] == marker_sizes([2.0, 2.0])[0] and marker_sizes([1.0, None, 3.0])[1] == SMALLEST


def test_rare_titles_share_a_look() -> None:
    marks = [mark(f"N{k}", .9 + k / 1000, .5, title=f"Method {k:02}") for k in range(14)] + [
        mark(f"M{k}", .9, .5 + k / 1000, title=f"Method {k:02}") for k in range(10)]
    found = traces(go.Figure(networks_figure(marks, View(NATURAL, PGD, colour="title"), MEASURES)))
    assert len(found) == 11 and list(found)[-1] == "others" and len(found["others"].x) == 4


def test_bands_and_hypervolumes_of_groups() -> None:
    groups = {"ARNAS": [(.9, .4), (.95, .3), (.92, .35)], "Random search": [(.8, .3), (.85, .2)]}
    looks = looks_of(groups)
    bands = [trace for trace in go.Figure(attainment_figure(groups, looks, NATURAL, PGD, 2)).data if trace.fill == "toself"]
    assert len(bands) == 2
    curves = traces(go.Figure(volume_figure(groups, looks, 2)))
    assert [len(curves[name].x) for name in groups] == [3, 2] and list(curves["ARNAS"].y) == sorted(curves["ARNAS"].y)
    assert "1 run: 33.5 % of the unit square" not in curves["Random search"].hovertext[0]
    assert "1 run: 20.5 % of the unit square" in curves["Random search"].hovertext[0]  # the mean of 24 and 17 %


def epochs(searches: int) -> pd.DataFrame:
    return pd.DataFrame([(f"run-{k:03}", f"S{k}", "ARNAS" if k % 2 else "DARTS", epoch, .5 + epoch / 10,
                          .3 + k / 5000 + epoch / 10, "PGD-7", 8 / 255) for k in range(searches) for epoch in (1, 2, 3)],
                        columns=["run", "label", "kind", "epoch", "natural", "adversarial", "attack_title", "epsilon"])


def test_a_search_is_a_line_with_a_marker_at_its_latest_epoch() -> None:
    figure = go.Figure(epochs_figure(epochs(1), "Adversarial"))
    line, latest = figure.data[0], traces(figure)["DARTS"]
    assert len(line.x) == 3 and list(latest.x) == [pytest.approx(80)] and written(figure) == ["S0"]
    assert "natural 60.0 %<br>PGD-7, epsilon 8/255: 40.0 %<br>alphas split, batch statistics, not a result" in line.hovertext[0]


def test_a_thousand_searches_have_a_legend_of_methods_and_few_lines() -> None:
    figure = go.Figure(epochs_figure(epochs(1000), "Adversarial"))
    assert [trace.name for trace in figure.data if trace.showlegend is not False] == ["ARNAS", "DARTS"]
    assert sum(trace.mode == "lines+markers" for trace in figure.data) == MOST_TRAILS
    assert sum(len(trace.x) for trace in traces(figure).values()) == 1000
    chosen = go.Figure(epochs_figure(epochs(1000), "Adversarial", ["run-007"]))
    assert [trace.customdata[0][0] for trace in chosen.data if trace.mode == "lines+markers"] == ["run-007"]
