"""Pages of a search without architecture weights: its candidates on the Run page, one of them on Launch."""

from __future__ import annotations

import json
import re
from pathlib import Path

import plotly.graph_objects as go
import pytest

from app import session
from app.charts.candidates import inherited_scatter, scatter
from app.components.run_figures import mean_of
from engine import requests
from engine.architecture.canonical import canonical
from engine.architecture.genotype import Genotype
from engine.search.methods.random_search.config import RandomSearchConfig
from tests import sample_runs
from tests.app.pages import WholeRun, component_data, open_launch, open_page, table_rows, text_of

WEIGHTS = ("run_heat_accurate", "run_river_accurate", "run_mgda")


def figure_of(test, key: str) -> dict:
    return json.loads(component_data(test, "rampart_live_plot", key)[0]["figure"])


def test_finished_search_shows_its_candidates_and_no_architecture_weights(empty: Path):
    run = sample_runs.write_random_search(empty)
    whole = WholeRun(run)
    test, words = whole.tabs["candidates"], text_of(whole)
    assert not whole.exception
    assert list(whole.tabs) == ["overview", "candidates", "system", "log", "settings", "lineage"]
    assert "4 of 4 candidates measured" in words and "same 64 images" in words and "may not differ" in words
    # 31 of 64: Wilson's interval by its formula
    assert "48.4 %" in words and "36.6 to 60.4 %" in words
    assert words.count(f'href="launch?kind=retrain&amp;parent={run}&amp;candidate=') == 4
    assert not any(component_data(test, "rampart_live_plot", key) for key in WEIGHTS)
    about = RandomSearchConfig.model_fields["inherit_from"].description or ""
    assert about in words and "batch statistics" not in words and "supernet" not in words.replace(about, "")
    assert "measured on the select split" in words and "of the select split after its own" in words
    assert "No paper fixes the settings of Random search" in words
    assert "<th scope=\"col\">Default</th>" in words
    points = figure_of(test, "run_candidates")["data"]
    assert [point["text"] for point in points] == [["3"], ["2", "1", "4"]]
    of_candidates = [trace for trace in figure_of(whole, "run_trade_off")["data"] if trace.get("name") == "natural"]
    assert [trace["mode"] for trace in of_candidates] == ["markers"] * 2
    cells = {data["html"] for data in component_data(test, "rampart_cell_graph", "run_candidate_cells")}
    assert test.selectbox(key=f"run_candidate.{run}").value == 3  # of equals the one of greater natural accuracy
    test.selectbox(key=f"run_candidate.{run}").set_value(4).run()
    assert {data["html"] for data in component_data(test, "rampart_cell_graph", "run_candidate_cells")} != cells


def test_inherited_accuracies_are_shown_with_their_split_and_as_no_result(empty: Path):
    run = sample_runs.write_random_search(empty, inherit_from="20261118-0900-arnas-digits-0a04")
    test = open_page("run", id=run, tab="candidates")
    words = text_of(test)
    assert not test.exception
    assert "computed by the supernet of 20261118-0900-arnas-digits-0a04" in words and "not a result either" in words
    assert ">Inherited natural</th>" in words and ">Inherited PGD-10</th>" in words
    assert "40.6 %" in words and "29.5 to 52.9 %" in words  # 26 of 64
    figure = figure_of(test, "run_inherited")
    axes = [figure["layout"][axis]["title"]["text"] for axis in ("xaxis", "yaxis")]
    assert axes == ["Accuracy with inherited weights, select split (%)", "PGD-10 accuracy after training, select split (%)"]
    series = go.Figure(inherited_scatter(session.run_log().candidates(run), "PGD-10", "select")).data
    assert [one.name for one in series] == ["inherited natural", "inherited PGD-10"]
    for one, correct in zip(series, ((36, 34, 26, 17), (13, 13, 15, 17)), strict=True):
        assert list(one.text) == ["3", "2", "1", "4"] and list(one.x) == [100 * number / 64 for number in correct]
        assert list(one.y) == [100 * number / 64 for number in (31, 31, 20, 12)]
    for plot in ("run_candidates", "run_inherited"):
        hover = figure_of(test, plot)["data"][0]["hovertext"][0]
        assert "inherited: PGD-10 20.3 %" in hover and "of the select split, not a result" in hover


def test_a_search_without_inherited_weights_shows_no_such_column_or_plot(empty: Path):
    test = open_page("run", id=sample_runs.write_random_search(empty), tab="candidates")
    assert "nherited" not in text_of(test) and not component_data(test, "rampart_live_plot", "run_inherited")


def test_an_older_run_is_labelled_with_the_split_it_was_measured_on(empty: Path):
    run = sample_runs.write_random_search(empty, split="alphas")
    test = open_page("run", id=run, tab="candidates")
    words = text_of(test)
    assert not test.exception and "measured on the alphas split" in words and "measured on the select split" not in words
    assert "alphas split" in json.dumps(figure_of(test, "run_candidates")["layout"])
    assert session.run_log().runs()["accuracy_of"].tolist() == ["alphas split, best candidate"]
    assert table_rows(open_page("runs"), "runs_table")[run]["adversarial"].endswith("PGD-10, alphas split, not a result")


@pytest.mark.parametrize(("measured", "ended"), [(0, ""), (2, "failed")])
def test_a_search_that_has_not_finished_offers_no_candidate_to_retrain(empty: Path, measured: int, ended: str):
    test = open_page("run", id=sample_runs.write_random_search(empty, measured=measured, ended=ended), tab="candidates")
    words = text_of(test)
    assert not test.exception and "candidate=" not in words
    if measured:
        assert f"{measured} of 4 candidates measured" in words
    else:
        assert "No candidate measured yet" in words and "no architecture weights" in words


def test_an_unranked_search_that_is_running_says_so(empty: Path):
    run = sample_runs.write_random_search(empty, measured=2, ended="", ranking="none")
    words = text_of(open_page("run", id=run, tab="candidates"))
    assert "Unranked: the result is the first candidate" in words and "candidate=" not in words
    assert session.run_log().runs()["accuracy_of"].tolist() == ["select split, first candidate"]


@pytest.mark.parametrize(("asked", "candidate"), [("2", 2), ("x", 0)])
def test_launch_retrains_the_candidate_of_the_address_or_the_result(empty: Path, asked: str, candidate: int):
    run = sample_runs.write_random_search(empty)
    test = open_launch(kind="retrain", parent=run, preset="smoke", candidate=asked)
    assert not test.exception
    assert test.selectbox(key=f"launch.candidate.{run}.{asked}").value == candidate
    test.button(key="launch.go").click().run()
    ids = [one.name for one in empty.iterdir() if "retrain" in one.name or one.name != run and (one / "run.json").exists()]
    (found,) = [json.loads((empty / one / "run.json").read_text()) for one in ids]
    assert found["kind"] == "retrain" and found["parent"] == run
    expected = sample_runs.genotype_at(10, seed=candidate)
    assert (found["config"]["genotype"] is None) == (candidate == 0)
    assert candidate == 0 or Genotype.from_json(found["config"]["genotype"]) == expected


def test_launch_says_that_no_paper_fixes_the_settings(empty: Path):
    test = open_launch(preset="paper")
    assert "The published settings for CIFAR-10, adapted to Digits 8x8" in text_of(test)
    test.selectbox(key="launch.method").set_value("random_search").run()
    words = text_of(test)
    assert "Our default settings for CIFAR-10, adapted to Digits 8x8" in words and "Random search as published" not in words
    assert not test.exception


def test_launch_refuses_a_search_without_supernet_as_source_of_weights(empty: Path):
    run = sample_runs.write_random_search(empty)
    test = open_launch(preset="smoke")
    test.selectbox(key="launch.method").set_value("random_search").run()
    (field,) = [one for one in test.text_input if one.key.endswith(".inherit_from")]
    assert field.placeholder == "not measured"
    field.set_value(run).run()
    test.button(key="launch.go").click().run()
    assert not test.exception and f"got {run}, which has no supernet" in text_of(test)
    assert len(list(empty.glob("*/run.json"))) == 1


def test_the_list_of_runs_shows_the_best_candidate_and_pareto_no_trail(empty: Path):
    run = sample_runs.write_random_search(empty)
    open_page("runs")
    row = session.run_log().run(run)
    assert (row["natural_accuracy"], row["adversarial_accuracy"]) == (60 / 64, 31 / 64)
    assert row["accuracy_of"] == "select split, best candidate" and row["adversarial_attack"] == "PGD-10"
    assert table_rows(open_page("runs"), "runs_table")[run]["adversarial"].endswith("PGD-10, select split, not a result")
    test = open_page("pareto")
    assert not test.exception and "No search epoch yet" in text_of(test)
    assert requests.status(empty, run).status == "finished"


def test_the_plot_is_empty_without_a_candidate(empty: Path):
    open_page("runs")
    candidates = session.run_log().candidates("20261118-0914-random-search-digits-0a05")
    assert not scatter(candidates, "PGD-10", "select")["data"]


def test_the_note_on_the_newest_numbers_names_each_place_once():
    assert mean_of([4, 4]) == "mean of epoch 4"
    assert mean_of([3, 4]) == "means of epochs 3 and 4"


def test_every_candidate_of_the_list_opens_in_full_and_leads_back(empty: Path):
    run = sample_runs.write_random_search(empty)
    links = re.findall(r'href="architectures\?show=(\w+)&amp;of=([\w.-]+)"', text_of(open_page("run", id=run, tab="candidates")))
    assert [name.rpartition(".")[2] for _, name in links] == ["3", "2", "1", "4"]  # best first
    found = {int(name.rpartition(".")[2]): (shown, name) for shown, name in links}
    for number, title in ((2, "candidate 2 · 0a05"), (3, "Random search · 0a05")):  # the best one is the result
        shown, name = found[number]
        assert shown == canonical(sample_runs.genotype_at(10, seed=number)).hash
        test = open_page("architectures", show=shown, of=name)
        assert not test.exception and f">{title}</h2>" in text_of(test)
    assert "measured by 20261118-0914-random-search-digits-0a05, not its result" in text_of(
        open_page("architectures", show=found[2][0], of=found[2][1]))
    (link,) = [one.proto for one in open_page("architectures", show=found[2][0], of=found[2][1]).get("page_link")
               if "Measured as" in one.proto.label]
    assert f"id={run}" in link.query_string and "tab=candidates" in link.query_string
    for wrong in (f"{run}.9", f"{run}.x", "nonsense", "."):
        test = open_page("architectures", show=found[2][0], of=wrong)
        assert not test.exception and "neither published nor in this folder" in text_of(test)
