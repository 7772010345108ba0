"""The Runs page: every run with its status and accuracies, filters, and the buttons of the selected one."""

from __future__ import annotations

from pathlib import Path

from streamlit.testing.v1 import AppTest

from tests import sample_runs
from tests.app.conftest import Samples
from tests.app.pages import component_data, open_page, table_rows, text_of


def select(page: AppTest, run: str) -> AppTest:
    """Select a run as a click on its row does."""
    page.session_state["runs.selected"] = run
    return page.run()


def test_an_empty_folder_explains_itself_and_offers_one_button(empty: Path) -> None:
    page = open_page("runs")
    assert not page.exception
    assert [button.key for button in page.button] == ["first_run_launch"]


def test_each_run_says_what_it_is_and_what_was_measured(samples: Samples) -> None:
    page = open_page("runs")
    assert not page.exception
    rows = table_rows(page, "runs_table")
    assert set(samples.ids.values()) <= set(rows)
    attack = rows[samples.ids["attack"]]
    assert attack["title"] == f"ARNAS {samples.ids['attack']}"
    assert attack["status"] == "Finished" and attack["kind"] == "Attack quick" and attack["dataset"] == "Digits 8x8"
    assert attack["natural"] == "96.4 % 93.9 to 97.9 %, 360 images" and attack["progress"] == "100 %"
    assert attack["adversarial"] == "48.4 % 36.6 to 60.4 %, 64 images"
    assert attack["badge"] == "Green" and rows[samples.ids["retrain"]]["badge"] == rows[samples.ids["search"]]["badge"] == ""
    cells = {row["id"]: row["cells"] for row in component_data(page, "rampart_table", "runs_table")[0]["rows"]}
    assert cells[samples.ids["attack"]]["badge"]["hint"] == "4 checks passed."
    assert rows[samples.ids["search"]]["adversarial"].endswith("PGD-7, alphas split, not a result")
    assert rows[samples.ids["retrain"]]["adversarial"].endswith("PGD-20, select split, not a result")


def test_status_is_a_word_with_its_cause(samples: Samples) -> None:
    rows = table_rows(open_page("runs"), "runs_table")
    assert rows[samples.ids["running"]]["status"].startswith("Running")
    assert rows[samples.ids["stopped"]]["status"].startswith("Stopped")
    assert rows[samples.ids["failed"]]["status"].lower().startswith("failed out of memory")
    assert rows[samples.ids["failed"]]["title"].startswith("ARNAS, images clipped")


def test_a_corrupt_run_is_listed_with_its_sentence(samples: Samples) -> None:
    page = open_page("runs")
    row = table_rows(page, "runs_table")[samples.ids["corrupt"]]
    assert row["title"].startswith("Unreadable run") and row["status"].startswith("Failed")
    assert row["natural"] == "not measured"
    select(page, samples.ids["corrupt"])
    assert not page.exception
    assert "run.json" in text_of(page)
    assert "Traceback" not in text_of(page)


def test_filters_by_word_status_and_kind(samples: Samples) -> None:
    page = open_page("runs")
    page.text_input(key="runs.text").set_value("clipped").run()
    assert set(table_rows(page, "runs_table")) == {samples.ids["failed"]}
    page.text_input(key="runs.text").set_value("").run()
    page.multiselect(key="runs.statuses").set_value(["stopped"]).run()
    assert set(table_rows(page, "runs_table")) == {samples.ids["stopped"]}
    page.multiselect(key="runs.statuses").set_value([]).run()
    page.multiselect(key="runs.kinds").set_value(["attack"]).run()
    assert set(table_rows(page, "runs_table")) == {samples.ids["attack"]}
    page.text_input(key="runs.text").set_value("nothing is called this").run()
    assert not page.exception and "No run matches the filter" in text_of(page)


def test_a_running_run_can_be_stopped_and_then_forced(samples: Samples) -> None:
    page = select(open_page("runs"), samples.ids["running"])
    assert not page.button(key="runs.stop").disabled and page.button(key="runs.resume").disabled
    page.button(key="runs.stop").click().run()
    assert not page.exception
    assert (samples.root / samples.ids["running"] / "control" / "stop").exists() or list(
        (samples.root / samples.ids["running"] / "control").glob("stop*"))
    assert page.button(key="runs.stop").label == "Kill now"
    assert table_rows(page, "runs_table")[samples.ids["running"]]["status"].startswith("Stopping")


def test_a_stopped_run_can_be_resumed(samples: Samples) -> None:
    page = select(open_page("runs"), samples.ids["stopped"])
    assert page.button(key="runs.stop").disabled
    page.button(key="runs.resume").click().run()
    assert not page.exception
    assert "Resuming: the run continues" in text_of(page)
    assert list((samples.root / samples.ids["stopped"] / "control").glob("resume*"))


def test_ages_grow_in_the_browser(samples: Samples) -> None:
    """The cell carries the time of the launch, so an idle list still shows the true age."""
    data = component_data(open_page("runs"), "rampart_table", "runs_table")[0]
    ages = {row["id"]: row["cells"]["age"] for row in data["rows"]}
    assert ages[samples.ids["search"]]["since"] == sample_runs.START
    assert ages[samples.ids["corrupt"]]["text"] == "–"


def test_open_goes_to_the_run(samples: Samples) -> None:
    page = select(open_page("runs"), samples.ids["search"])
    page.button(key="runs.open").click().run()
    assert not page.exception
    assert page.query_params["id"] == samples.ids["search"]


def test_the_selected_row_is_marked_by_its_id(samples: Samples) -> None:
    page = select(open_page("runs"), samples.ids["stopped"])
    assert component_data(page, "rampart_table", "runs_table")[0]["selected"] == samples.ids["stopped"]
