"""The Run page on searches of every method, each a real search of a few steps."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import psutil
import pytest
from streamlit.testing.v1 import AppTest

from app import session
from app.charts import alphas
from app.components.run_alphas import derived_cell
from engine import requests
from engine.architecture.genotype import Genotype
from engine.errors import StopRequested
from engine.log import RunLog
from engine.search.methods.registry import METHODS
from tests import sample_runs
from tests.app import pages
from tests.app.conftest import runs_folder
from tests.app.pages import WholeRun, component_data, text_of
from tests.engine.run.test_loops import attempt


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One runs folder for the module, empty at first: a search and the page of a run are made once for all tests."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield from runs_folder(tmp_path_factory.mktemp("methods") / "runs", monkeypatch)


@cache
def open_page(page: str, id: str, tab: str = "overview") -> AppTest:
    """The page as it opens; no test of this module changes it."""
    session.hub().refresh()
    return pages.open_page(page, id=id, tab=tab)


@cache
def whole(run: str) -> WholeRun:
    """All tabs of a run as they open."""
    session.hub().refresh()
    return WholeRun(run)


@cache
def searched(runs: Path, method: str, stop_at: int | None = None, **changes: object) -> str:
    """Run a search to its end, or leave it alive (as the test's own process) after this many forward passes."""
    (run_id,) = requests.submit(runs, "search", changes, method=method, preset="smoke")
    if stop_at is None:
        attempt(runs, run_id)
        sample_runs.write_exit(runs / run_id, sample_runs.EventsFile(runs / run_id), code=0, status="finished")
        return run_id
    with pytest.raises(StopRequested):
        attempt(runs, run_id, 1, stop_at)
    me = psutil.Process(os.getpid())
    sample_runs.write_process(runs / run_id, sample_runs.EventsFile(runs / run_id), pid=me.pid, started=me.create_time())
    return run_id


def drawn(test, key: str) -> str:
    """Return the data of a plot of the page, as text."""
    return str(component_data(test, "rampart_live_plot", key))


@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_has_a_page_without_a_problem(empty: Path, method: str) -> None:
    test = whole(searched(empty, method))
    words = text_of(test)
    assert not test.exception and 'class="rp-problem"' not in words
    assert METHODS[method].title in words and "Derived cells" in words
    assert component_data(test, "rampart_live_plot", "run_trade_off")


@pytest.mark.parametrize(("looks", "line"), [
    (5, "Stage 1 of 2: adversarial loss only, until epoch 1. PGD step"), (None, "")])
def test_the_stage_of_a_running_search_is_on_the_page(empty: Path, looks: int | None, line: str) -> None:
    words = text_of(open_page("run", id=searched(empty, "dsara", looks)))
    assert (line in words) if line else ("Stage" not in words)


def test_a_search_in_its_warm_up_says_so_and_draws_the_training_loss_alone(empty: Path) -> None:
    test = whole(searched(empty, "pcdarts", 8, epochs=4, warmup_epochs=3, steps_per_epoch=2))
    words, curves = text_of(test), drawn(test, "run_trade_off")
    assert not test.exception and "Warm-up: weights only, until epoch 3." in words
    assert "training batch" in curves and "natural" not in curves
    assert component_data(test, "rampart_live_plot", "run_edges_normal")


def test_a_search_in_stage_one_has_nothing_to_weigh(empty: Path) -> None:
    words = text_of(whole(searched(empty, "dsara", 15, epochs=3, steps_per_epoch=2, switch_epoch=1)))
    assert "Every step follows the adversarial loss alone." in words


def test_a_search_of_two_stages_draws_both_weights_and_their_angle(empty: Path) -> None:
    test = open_page("run", id=searched(empty, "dsara"), tab="objectives")
    assert all(name in drawn(test, "run_mgda") for name in ("natural", "adversarial", "angle"))
    assert "MGDA chooses the weights" in text_of(test)


def test_a_search_of_one_loss_shows_no_weights_and_nothing_adversarial(empty: Path) -> None:
    test = whole(searched(empty, "darts"))
    assert "objectives" not in test.tabs
    words = text_of(test)
    assert "Loss and accuracy" in words and "Natural versus adversarial" not in words and "Weights of the losses" not in words
    assert not component_data(test, "rampart_live_plot", "run_mgda")
    assert "adversarial" not in drawn(test, "run_trade_off")
    assert component_data(test, "rampart_live_plot", "run_heat_normal")


def test_an_inert_size_objective_is_said_once(empty: Path) -> None:
    run_id = searched(empty, "e2rnas", size_lower=1.0)
    # The bell lists the alerts of all runs on every page.
    own = [text for text in text_of(open_page("run", id=run_id)).split("\n") if 'class="rp-bell"' not in text]
    assert "\n".join(own).count("size objective of the parameters is inert") == 1
    assert "Weights of the losses" in text_of(open_page("run", id=run_id, tab="objectives"))


def test_a_search_of_five_losses_draws_all_weights_and_says_whereto_the_sizes_pull(empty: Path) -> None:
    run_id = searched(empty, "e2rnas2021")
    test = open_page("run", id=run_id)
    words, weights = text_of(test), open_page("run", id=run_id, tab="objectives")
    assert "Natural versus adversarial" in words and "MGDA chooses the weights" in text_of(weights)
    # Measurements of the supernet precede those of its training; the page links to the next step.
    shown = re.findall(r'<div class="rp-figure"><span class="rp-label">([^<]*)<', words)
    assert shown[-1] == "Training loss" and "MACs loss" in shown[:-1]
    assert f"kind=retrain&parent={run_id}" in [link.proto.query_string for link in test.get("page_link")]
    assert "has the target 400,000: this loss asks for a larger network" in words
    series = drawn(weights, "run_mgda")
    assert all(name in series for name in ("natural", "adversarial", "parameters", "MACs"))


def test_a_run_with_many_warnings_shows_the_newest(empty: Path) -> None:
    run_id = searched.__wrapped__(empty, "darts")  # one that no other test reads
    events = sample_runs.EventsFile(empty / run_id)
    for number in [*range(1, 7), 6]:
        events.write("alert", level="warning", text=f"Warning {number}.")
    test = open_page("run", id=run_id)
    lists = [one.proto.body for one in test.get("html") if one.proto.body.startswith('<ul class="rp-alertlist"')]
    told = [[number for number in range(6, 0, -1) if f"Warning {number}." in one] for one in lists]
    assert told == [[6, 5, 4, 3], [2, 1]] and lists[0].count("Warning 6.") == 1
    assert [box.label for box in test.expander if "alert" in box.label] == ["2 further alerts"]


def test_a_search_with_edge_weights_shows_them_and_derives_with_them(empty: Path) -> None:
    run_id = searched(empty, "pcdarts", alpha_learning_rate=0.5, steps_per_epoch=2)
    test = open_page("run", id=run_id, tab="alphas")
    assert "softmax(β)" in text_of(test) and "into node 3" in drawn(test, "run_edges_normal")
    log = RunLog.open(empty, in_memory=True)
    log.ingest()
    matrix = log.alpha_matrix(run_id, "normal")
    weights = matrix.groupby("edge")["edge_weight"].first()
    assert alphas.heat_map(matrix)["data"][0]["y"] == [
        f"{alphas.edge_title(edge)}   <b>{weight:.2f}</b>" for edge, weight in enumerate(weights)]
    genotype = Genotype.from_dict(log.genotype(run_id))
    cells = {kind: derived_cell(log.alpha_matrix(run_id, kind)) for kind in genotype.kinds}
    assert cells == {kind: genotype.cell(kind) for kind in genotype.kinds}
    alone = matrix.assign(weight=matrix["weight"] / matrix["edge_weight"])
    assert derived_cell(alone) != cells["normal"], "the edge weights must matter here"


@pytest.mark.parametrize("method", ["arnas", "darts"])
def test_a_search_without_edge_weights_shows_none(empty: Path, method: str) -> None:
    test = open_page("run", id=searched(empty, method), tab="alphas")
    assert "softmax(β)" not in text_of(test) and "each row adds up to 1" in text_of(test)
    assert not any(component_data(test, "rampart_live_plot", f"run_edges_{kind}") for kind in ("normal", "accurate"))


@pytest.mark.parametrize(("weighting", "words"), [("equal", "Every loss has the same weight"), ("adversarial", "alone")])
def test_another_weighting_is_in_the_name_and_in_the_words(empty: Path, weighting: str, words: str) -> None:
    text = text_of(open_page("run", id=searched(empty, "arnas", weighting=weighting), tab="objectives"))
    assert words in text and "chosen by MGDA" not in text and "was ignored in" not in text
    assert f"ARNAS, {'equal weights' if weighting == 'equal' else 'adversarial loss only'}" in text


def test_weights_off_the_simplex_are_drawn_and_named(empty: Path) -> None:
    test = open_page("run", id=searched(empty, "arnas", weighting="fairgrad"), tab="objectives")
    text = text_of(test)
    assert "chosen by FairGrad" in text and "the Nash bargaining solution" in text and "ARNAS, FairGrad" in text
    assert all(name in drawn(test, "run_mgda") for name in ("natural", "adversarial", "angle"))


def test_a_search_of_four_losses_has_a_line_a_title_and_a_unit_for_each(empty: Path) -> None:
    run_id = searched(empty, "arnas", added_objectives=("out_of_distribution", "parameter_share"), second_dataset="photographs")
    test = whole(run_id)
    words = text_of(test)
    assert not test.exception and 'class="rp-problem"' not in words
    assert "ARNAS, plus out-of-distribution KL on Photographs, plus parameter count" in words
    assert "Further losses" in words and "the largest between its gradient and any other" in words
    weighed, losses = drawn(test, "run_mgda"), drawn(test, "run_further_losses")
    for label in ("natural", "adversarial", "out-of-distribution KL", "parameter count"):
        assert label in weighed and f"{label}: largest angle" in weighed
    assert all(words in losses for words in ("out-of-distribution KL", "(nats)", "parameter count", "(share of the largest)"))
    assert "Further losses" not in text_of(open_page("run", id=searched(empty, "arnas"), tab="objectives"))
    # The numbers at the top include the newest values, with their units.
    assert re.search(r'Parameter count</span><span class="rp-value">0\.\d{3}</span><span class="rp-label">share of', words)


@pytest.mark.parametrize(("training", "words"), [("trades", "TRADES: natural + β KL"), ("natural", "on natural images"),
                                                 ("pgd_at", "on attacked images")])
def test_the_numbers_of_a_retraining_say_what_was_descended(empty: Path, training: str, words: str) -> None:
    (run,) = requests.submit(empty, "retrain", {"genotype": "ARNAS", "training": training}, preset="smoke")
    attempt(empty, run)
    text = text_of(open_page("run", id=run))
    assert f'<span class="rp-label">{words}</span>' in text and "under PGD-2, select split, not a result<" in text
    assert "Network: select split, running statistics, mean of epoch 1" in text


def test_darts_weighs_once_something_is_added_to_it(empty: Path) -> None:
    test = whole(searched(empty, "darts", added_objectives=("mac_share",), weighting="upgrad"))
    words = text_of(test)
    assert not test.exception and "DARTS, plus MAC count, UPGrad" in words and "chosen by UPGrad" in words
    assert all(label in drawn(test, "run_mgda") for label in ("natural", "MAC count", "angle"))
    assert "(share of the largest)" in drawn(test, "run_further_losses")
