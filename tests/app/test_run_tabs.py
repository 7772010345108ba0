"""The tabs of the Run page in every state of a run: the sentence at their head, and what the best and the imported runs say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache

import pytest
from streamlit.testing.v1 import AppTest

from app import session
from app.formats import escape
from engine.architecture.catalogue import find_genotype
from engine.architecture.genotype import PRIMITIVES
from engine.exchange import entry
from engine.insight.collapse import last_healthy_epoch, radar
from engine.insight.sentences import sentence
from tests import sample_runs
from tests.app import pages
from tests.app.conftest import Samples, runs_folder
from tests.app.pages import component_data, text_of
from tests.engine.exchange.public_files import search_log
from tests.engine.insight.planted import alphas_of, write_search

PLOTS = ("run_trade_off", "run_mgda", "run_heat_accurate", "run_river_accurate")
EVERY = ("samples", "system", "log", "settings", "lineage")
SEARCHED = ("overview", "alphas", "genotype", "objectives", "trade-off", *EVERY)
TABS = {"search": SEARCHED, "running": SEARCHED, "failed": SEARCHED, "long": SEARCHED,
        "imported": ("overview", "genotype", "settings", "lineage"), "random": ("overview", "candidates", *EVERY[1:])}
# What a tab shows in every state: the end of a component's key, or the title of a section.
SHOWN = {"overview": "ticker_run_outcome", "alphas": "run_river_accurate", "genotype": "run_genotype", "objectives": "run_mgda",
         "trade-off": "run_trail", "samples": "Samples", "system": "System", "log": "run_log_lines", "settings": "Settings",
         "lineage": "Lineage", "candidates": "run_candidates"}
LONG = "20261118-1000-arnas-digits-1a03"  # 50 epochs of three kinds of cells
COLLAPSED = "20261118-1000-arnas-digits-1a01"  # whose robust cell consists of skip connections from epoch 3 on


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Samples]:
    """One runs folder for the module, with runs in every state, an imported log and a random search."""
    folder = tmp_path_factory.mktemp("tabs")
    with pytest.MonkeyPatch.context() as monkeypatch:
        for root in runs_folder(folder / "runs", monkeypatch):
            ids = sample_runs.write_sample_runs(root) | {"random": sample_runs.write_random_search(root)}
            (folder / "a<b>.txt").write_text(search_log([find_genotype("RACL"), find_genotype("DARTS_V2")]))
            write_search(root, [alphas_of()] + [alphas_of(strength) for strength in (1.6, 1.8)]
                         + [alphas_of(2.0 + place, robust="skip_connect") for place in range(3)], run=COLLAPSED)
            write_search(root, [alphas_of(0.04 * epoch, operation=PRIMITIVES[epoch % 7]) for epoch in range(51)], run=LONG)
            yield Samples(root, ids | {"imported": entry.take(root, folder / "a<b>.txt"), "collapsed": COLLAPSED,
                                       "long": LONG})


@cache
def opened(run: str, tab: str) -> AppTest:
    """A tab of a run as it opens; no test of this module changes it."""
    return pages.open_page("run", id=run, tab=tab)


@pytest.mark.parametrize(("role", "tab"), [(role, tab) for role, tabs in TABS.items() for tab in tabs])
def test_every_tab_opens_in_every_state(runs: Samples, role: str, tab: str) -> None:
    test = opened(runs.ids[role], tab)
    assert not test.exception and ('class="rp-problem"' in text_of(test)) == ((role, tab) == ("failed", "log"))  # its last error
    assert tuple(one.label.lower() for one in test.tabs) == TABS[role]
    keys = {str(one.proto.id).rpartition("-")[2] for one in test.get("bidi_component")}
    assert SHOWN[tab] in keys | set(re.findall(r'<h2 class="rp-section">([^<]*)</h2>', text_of(test)))


def test_a_long_search_shows_all_edges_of_each_of_its_cells_and_all_epochs(runs: Samples) -> None:
    for cell in ("accurate", "robust", "reduce"):
        test = pages.open_page("run", id=LONG, tab="alphas", cell=cell)
        (chart,) = component_data(test, "rampart_live_plot", f"run_river_{cell}")
        edges = {trace["meta"] for trace in json.loads(chart["figure"])["data"] if trace.get("meta")}
        assert not test.exception and edges == {str(edge) for edge in range(14)}
    (player,) = component_data(opened(LONG, "genotype"), "rampart_time_machine")
    assert [one["epoch"] for one in player["epochs"]] == list(range(51))


def told(test: AppTest) -> list[str]:
    """Return the sentences at the heads of a tab's panels, as HTML, without their non-breaking spaces."""
    return re.findall(r'<p class="rp-told">([^<]*)</p>', text_of(test).replace("\u00a0", " "))


@pytest.mark.parametrize(("role", "tab", "panel"), [
    *((role, "overview", "overview") for role in ("search", "running", "failed", "imported", "random", "attack")),
    *((role, "genotype", "genotype") for role in ("search", "running", "failed", "imported")),
    *((role, "objectives", "objectives") for role in ("search", "running", "failed")),
    *((role, "trade-off", "trade_off") for role in ("search", "running", "failed", "retrain")), ("running", "alphas", "alphas"),
    ("search", "settings", "settings"), ("search", "lineage", "lineage"),
    ("random", "candidates", "candidates")])
def test_the_head_of_a_tab_says_what_is_seen_now(runs: Samples, role: str, tab: str, panel: str) -> None:
    test = opened(runs.ids[role], tab)
    words = sentence(session.run_log(), runs.ids[role], panel)
    if role == "running" and panel == "overview":  # the time left passes between page and test
        assert words.startswith("Running after 13 of 40 steps") and told(test)[0].startswith("Running after 13 of 40 steps")
    else:
        assert words and told(test)[0] == escape(words)
    assert not test.exception


def test_a_random_search_leads_with_its_best_candidate_and_its_interval(runs: Samples) -> None:
    shown = re.search(r'<div class="rp-figures">.*', text_of(opened(runs.ids["random"], "overview")))
    assert shown is not None
    words = re.sub(r"<[^>]*>", " ", shown.group())
    # Candidate 3 has 60 and 31 right of 64, and the newest one 41 and 12.
    assert "93.8 %" in words and "48.4 %" in words and "64.1 %" not in words and "18.8 %" not in words
    assert "36.6 to 60.4 %, 64 images, under PGD-10, not a result" in words
    assert "Best of 4 candidates: candidate 3, select split, running statistics." in words
    for role, label in (("random", ">Retrain</a>"), ("search", ">Retrain again</a>")):
        assert label in text_of(opened(runs.ids[role], "overview"))


def test_the_head_of_an_imported_run_has_no_empty_pill(runs: Samples) -> None:
    for role in ("imported", "search"):
        tags = re.findall(r'<span class="rp-tag">([^<]*)</span>', text_of(opened(runs.ids[role], "overview")))
        assert tags and all(tag.strip() for tag in tags)
        assert tags == (["Search", "imported"] if role == "imported" else ["Search", "Digits 8x8", "preset quick"])


def test_the_radar_names_the_planted_collapse_and_leads_back_to_the_last_healthy_epoch(runs: Samples) -> None:
    test = pages.open_page("run", id=COLLAPSED, tab="genotype")
    assert "The robust cell has collapsed: 8 of 8 edges have no parameters. The last epoch without a sign was 2." in told(test)
    table = text_of(test)
    assert re.search(r"Robust cell</th>.*?8 of 8.*?Warning.*?>2</td>", table) and table.count(">Warning<") == 1
    (player,) = component_data(test, "rampart_time_machine")
    assert player["held"] is None and player["epochs"][-1]["words"] == "Epoch 5 of 5: unchanged for 2 epochs."
    assert player["epochs"][3]["words"] == ("Epoch 3 of 5: 8 edges changed: robust cell 8; accurate cell unchanged for 3 epochs; "
                                            "reduction cell unchanged for 3 epochs.")
    test.button(key="run_healthy_2").click().run()
    (player,) = component_data(test, "rampart_time_machine")
    assert test.query_params["epoch"] in ("2", ["2"]) and player["held"] == 2 and not test.exception


@pytest.mark.parametrize("role", ["search", "running", "failed", "imported"])
def test_the_radar_of_other_searches_offers_a_way_back_only_from_an_alarm(runs: Samples, role: str) -> None:
    test = opened(runs.ids[role], "genotype")
    assert not test.exception and component_data(test, "rampart_live_plot", "run_collapse")
    alarm = radar(session.run_log(), runs.ids[role])
    ways = {last_healthy_epoch(alarm, cell) for cell in alarm["cell"].unique()} - {None, -1}
    keys = [button.key for button in test.button if str(button.key).startswith("run_healthy_")]
    assert keys == [f"run_healthy_{epoch}" for epoch in sorted(ways)]


@pytest.mark.parametrize("role", ["search", "running", "failed"])
def test_the_cockpit_shows_weights_vertices_gradients_and_the_closed_form(runs: Samples, role: str) -> None:
    test = opened(runs.ids[role], "objectives")
    for key in ("run_mgda", "run_vertices", "run_ignored", "run_gradients"):
        assert json.loads(component_data(test, "rampart_live_plot", key)[0]["figure"])["data"], key
    words = text_of(test)
    # The samples' weights are not those of MGDA, which the page must not hide.
    assert "the natural loss is ignored exactly when cos θ ≥" in words and "in 0.0 % of " in words
    live = [data["feed"] for data in component_data(test, "rampart_live_html")]
    assert any("run_closed_form" in one for one in live) == (role == "running")


@pytest.mark.parametrize(("role", "measured"), [("running", "alphas split, batch statistics"), ("retrain", "select split")])
def test_the_trail_of_a_run_is_that_of_its_epochs_over_runs_like_it(runs: Samples, role: str, measured: str) -> None:
    test, kind = opened(runs.ids[role], "trade-off"), "retrain" if role == "retrain" else "search"
    (chart,) = component_data(test, "rampart_live_plot", "run_trail")
    traces = {trace["name"]: trace for trace in json.loads(chart["figure"])["data"]}
    own = session.run_log().pareto_epochs([runs.ids[role]], kind)
    assert traces["trail"]["x"] == pytest.approx(list(100 * own["natural"])) and len(own) > 1
    assert len(traces["others"]["x"]) == session.run_log().pareto_epochs(kind=kind)["run"].nunique() - 1
    words = text_of(test)
    assert measured in words and "not a result" in words and "have no interval" in words
    assert bool(chart["feed"]) == (role == "running")
    (link,) = [one.proto for one in test.get("page_link") if "Pareto page" in one.proto.label]
    assert (f"trails={runs.ids[role]}" in link.query_string) == (kind == "search")


def test_runs_without_such_epochs_have_no_trade_off(runs: Samples) -> None:
    for role in ("random", "imported", "attack"):
        assert "Trade-off" not in [tab.label for tab in opened(runs.ids[role], "overview").tabs]


def test_finished_chain_shows_cells_beside_the_attack_table_on_each_of_its_pages(runs: Samples):
    for role in ("search", "retrain", "attack"):
        test = opened(runs.ids[role], "overview")
        words = text_of(test)
        assert not test.exception
        assert "AutoAttack" in words and "36.6 to 60.4 %" in words and ">64<" in words and "0.15" in words
        graphs = [data["html"] for data in component_data(test, "rampart_cell_graph")]
        assert sum(html.count("<svg viewBox") for html in graphs) >= 3
        for other in ("search", "retrain", "attack"):
            assert (f'href="run?id={runs.ids[other]}"' in words) == (other != role)


def test_a_retrained_genotype_of_the_catalogue_shows_its_cells(runs: Samples):
    test = opened(runs.ids["resumed"], "overview")
    assert not test.exception and component_data(test, "rampart_cell_graph")
    assert "Not attacked yet" in text_of(test)


def test_finished_search_shows_everything_about_its_evolution(runs: Samples):
    tabs = {name: opened(runs.ids["search"], name) for name in SEARCHED}
    assert not any(tab.exception for tab in tabs.values())
    plots = {name: [key for key in PLOTS if component_data(tab, "rampart_live_plot", key)] for name, tab in tabs.items()}
    assert {name: keys for name, keys in plots.items() if keys} == {
        "overview": ["run_trade_off"], "alphas": ["run_heat_accurate", "run_river_accurate"], "objectives": ["run_mgda"]}
    words = {name: text_of(tab) for name, tab in tabs.items()}
    assert all("demonstration" in text for text in words.values())
    assert "alphas split, batch statistics" in words["overview"] and "Epoch 4" in words["alphas"]
    assert "The natural loss was ignored in" in words["objectives"]
    assert "Alpha learning rate" in words["settings"] and "1 pixel" in words["settings"] and "0.0003" in words["settings"]
    assert "rampart search" in words["settings"]
    assert all(runs.ids[role] in words["lineage"] for role in ("search", "retrain", "attack"))


def test_a_tab_that_a_run_lacks_opens_its_overview(runs: Samples) -> None:
    test = opened(runs.ids["attack"], "alphas")
    assert not test.exception and "AutoAttack" in text_of(test)
    assert [tab.label for tab in test.tabs] == ["Overview", "Samples", "System", "Log", "Settings", "Lineage"]


def test_the_menu_opens_the_run_that_was_open_last(runs: Samples) -> None:
    test = pages.open_page("run", id=runs.ids["search"], tab="log")
    test.query_params.clear()
    test.switch_page("views/runs.py").run().switch_page("views/run.py").run()
    assert runs.ids["search"] in text_of(test) and "No run selected" not in text_of(test)


def test_genotypes_are_played_in_the_browser_and_the_chosen_epoch_is_kept_in_the_address(runs: Samples) -> None:
    test = pages.open_page("run", id=runs.ids["search"], tab="genotype", epoch="2")
    (data,) = component_data(test, "rampart_time_machine")
    assert data["held"] == 2 and [one["epoch"] for one in data["epochs"]] == [0, 1, 2, 3, 4]
    assert data["epochs"][0]["words"] == "Epoch 0 of 4: the first genotype."
    changed = [one["words"] for one in data["epochs"][1:] if "changed: " in one["words"]]
    assert changed and all("rp-changed-halo" in data["frames"][one["frame"]] for one in data["epochs"] if one["words"] in changed)
    assert component_data(pages.open_page("run", id=runs.ids["search"], tab="genotype", epoch="9"), "rampart_time_machine")[0][
        "held"] is None


@pytest.mark.parametrize(("reference", "query", "expected"), [
    ("preset", {"preset": "paper"}, "settings differ from the preset paper"),
    ("preset", {"preset": "quick"}, "No setting differs from the preset quick"),
    ("run", {"other": "20261118-0911-arnas-digits-0a02"}, "from ARNAS, images clipped")])
def test_settings_are_compared_with_a_preset_or_another_run(runs: Samples, reference: str, query: dict[str, str],
                                                            expected: str) -> None:
    test = pages.open_page("run", id=runs.ids["search"], tab="settings", **{"with": reference}, **query)
    assert not test.exception and expected in text_of(test)


def test_epoch_scrubber_moves_heat_map_and_graph_together(runs: Samples):
    test = pages.open_page("run", id=runs.ids["search"], tab="alphas")
    slider = test.select_slider[0]
    assert slider.value == 4  # follows the newest
    before = component_data(test, "rampart_live_plot", "run_heat_accurate")[0]["revision"]
    slider.set_value(1).run()
    assert component_data(test, "rampart_live_plot", "run_heat_accurate")[0]["revision"] != before
    assert "Epoch 1" in text_of(test)


def test_another_cell_kind_can_be_chosen(runs: Samples):
    test = pages.open_page("run", id=runs.ids["search"], tab="alphas")
    test.segmented_control(key="run_cell").set_value("robust").run()
    assert component_data(test, "rampart_live_plot", "run_heat_robust")


def test_failed_search_names_the_cause_pins_the_error_and_can_be_resumed(runs: Samples):
    test = opened(runs.ids["failed"], "log")
    words = text_of(test)
    assert 'data-status="failed"' in words and "out of memory" in words.lower()
    assert "Last error" in words and "take a smaller batch" in words
    assert "ARNAS, images clipped" in words
    assert test.button(key="run_resume").label == "Resume"


def test_retraining_says_which_split_its_curves_are_of(runs: Samples):
    words = text_of(opened(runs.ids["retrain"], "overview"))
    assert "select split" in words


@pytest.mark.parametrize("name", ["../x", "nonsense", "20261118-0950-arnas-digits-ffff"])
def test_an_id_that_names_no_run_is_answered_with_a_sentence_and_a_way_on(runs: Samples, name: str):
    test = pages.open_page("run", id=name)
    assert not test.exception
    assert "This run cannot be shown" in text_of(test)
    assert [link.proto.label for link in test.get("page_link")] == ["Go to Runs"]


def test_no_id_asks_to_choose_a_run(runs: Samples):
    test = pages.open_page("run")
    assert "No run selected" in text_of(test) and not test.exception
