"""The Runs page: every run with its status and accuracies, filters, and the buttons of the selected one."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from streamlit.testing.v1 import AppTest

from app import session
from app.run_export import as_json
from app.run_list import View, selected_runs
from app.saved_views import saved_views
from engine.report.frames import frame_bytes
from engine.run.folder import RunFolder, run_ids
from engine.run.marks import read_marks
from engine.run.trash import put
from tests import sample_runs
from tests.app.conftest import Samples
from tests.app.pages import component_data, open_page, table_rows, text_of


def select(page: AppTest, run: str) -> AppTest:
    """Select a run as a click on its row does."""
    return pick(page, run)


def pick(page: AppTest, *runs: str) -> AppTest:
    """Select runs as ticking their checkboxes does."""
    page.session_state["runs.picked"] = list(runs)
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
    assert page.button(key="runs.stop").disabled and page.button(key="runs.kill").label == "Kill 1 run now"
    assert table_rows(page, "runs_table")[samples.ids["running"]]["status"].startswith("Stopping")


def test_a_stopped_run_can_be_resumed(samples: Samples) -> None:
    page = select(open_page("runs"), samples.ids["stopped"])
    assert page.button(key="runs.stop").disabled
    page.button(key="runs.resume").click().run()
    assert not page.exception
    assert f"Resuming: 1 run ({samples.ids['stopped']}: continues from its last checkpoint)." in text_of(page)
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


def test_selected_rows_are_ticked_by_their_ids(samples: Samples) -> None:
    page = select(open_page("runs"), samples.ids["stopped"])
    rows = component_data(page, "rampart_table", "runs_table")[0]["rows"]
    assert [row["id"] for row in rows if row["picked"]] == [samples.ids["stopped"]]


def rows_in_order(page: AppTest) -> list[str]:
    """Return the last four characters of the ids of the rows, and the text of each heading, from top to bottom."""
    rows = component_data(page, "rampart_table", "runs_table")[0]["rows"]
    return [row["cells"]["title"]["text"] if row.get("heading") else row["id"][-4:] for row in rows]


def test_an_expression_filters_and_a_wrong_one_says_which_names_exist(samples: Samples) -> None:
    page = open_page("runs", where='method == "arnas" and robust > 0.4')
    assert rows_in_order(page) == ["7f3c"] and page.text_input(key="runs.where").value.endswith("> 0.4")
    page.text_input(key="runs.where").set_value("robst > 0.4").run()
    assert not page.exception and "knows no name robst" in text_of(page) and "Did you mean robust?" in text_of(page)
    assert page.query_params["where"] == "robst > 0.4"


def test_sorting_by_accuracy_keeps_comparable_runs_together(samples: Samples) -> None:
    page = open_page("runs", sort="-adversarial")
    assert rows_in_order(page) == [
        "Digits 8x8, test split, L∞ 0.15, 360 images: FGSM, PGD-20, AutoAttack (1 run)", "7f3c",
        "Digits 8x8, select split, PGD-20: guides the run, not a result (2 runs)", "0a04", "7f3b",
        "Digits 8x8, alphas split, PGD-7: guides the run, not a result (4 runs)", "7f3a", "0a03", "0a01", "0a02",
        "Nothing measured (1 run)", "dead"]
    assert "Only accuracies under the same heading are comparable" in text_of(page)
    assert "comparable" in text_of(open_page("runs"))


def test_groups_and_columns_come_from_the_address(samples: Samples) -> None:
    page = open_page("runs", group="chain", columns="seed,device,duration", q="digits-7f3")
    assert rows_in_order(page) == ["ARNAS, 20261118-0906-arnas-digits-7f3a (3 runs)", "7f3c", "7f3b", "7f3a"]
    data = component_data(page, "rampart_table", "runs_table")[0]
    assert [column["key"] for column in data["columns"]] == ["title", "status", "device", "seed", "duration"]
    assert data["rows"][1]["cells"]["device"]["text"] == "CPU" and data["rows"][3]["cells"]["seed"]["text"] == "2"
    page = open_page("runs", group="chain", q="digits-7f3", folded=data["rows"][0]["id"])
    assert component_data(page, "rampart_table", "runs_table")[0]["rows"][0]["folded"]
    page = open_page("runs", sort="-title", group="nonsense", status="x,failed", columns="nonsense")
    assert rows_in_order(page) == ["0a02", "dead"]


def test_tags_and_note_are_written_and_shown(samples: Samples) -> None:
    search, failed = samples.ids["search"], samples.ids["failed"]
    page = pick(open_page("runs"), search, failed)
    page.text_input(key="runs.tag").set_value("baseline, +b2 -old")
    page.button(key="runs.tag_now").click().run()
    assert not page.exception and "Tagged: 2 runs" in text_of(page)
    assert read_marks(RunFolder(samples.root, failed)).tags == ("b2", "baseline")
    pick(page, failed).text_area(key=f"runs.note.{failed}").set_value("needs more memory")
    page.button(key="runs.note_now").click().run()
    rows = table_rows(page, "runs_table")
    assert rows[failed]["tags"] == "b2 · baseline needs more memory" and rows[search]["tags"] == "b2 · baseline"
    page.text_input(key="runs.tag").set_value("<b>")
    page.button(key="runs.tag_now").click().run()
    assert "A tag has 1 to 40 letters" in text_of(page)


def test_archived_runs_leave_the_list_and_come_back(samples: Samples) -> None:
    failed = samples.ids["failed"]
    page = pick(open_page("runs"), failed)
    page.button(key="runs.archive").click().run()
    assert failed not in table_rows(page, "runs_table")
    page.button(key="runs.undo").click().run()
    assert failed in table_rows(page, "runs_table") and "Undone: 1 run" in text_of(page)
    pick(page, failed).button(key="runs.archive").click().run()
    page = pick(open_page("runs", show="archived"), failed)
    assert set(table_rows(page, "runs_table")) == {failed} and page.button(key="runs.archive").label == "Take out of archive"
    page.button(key="runs.archive").click().run()
    assert "The archive is empty" in text_of(page)


def test_runs_that_others_need_go_to_the_trash_after_asking(samples: Samples) -> None:
    chain = [samples.ids[kind] for kind in ("search", "retrain", "attack")]
    page = pick(open_page("runs"), chain[0])
    page.button(key="runs.trash").click().run()
    assert "2 other runs would be left without a run that they need" in text_of(page) and (samples.root / chain[0]).is_dir()
    page.button(key="runs.trash_all").click().run()
    assert not page.exception and set(chain).isdisjoint(table_rows(page, "runs_table"))
    page.button(key="runs.undo").click().run()
    assert set(chain) <= set(table_rows(page, "runs_table"))


def test_one_run_that_refuses_does_not_stop_the_others(samples: Samples) -> None:
    running, failed = samples.ids["running"], samples.ids["failed"]
    page = pick(open_page("runs"), running, failed)
    page.button(key="runs.trash").click().run()
    assert f"{running} is running; stop it first" in text_of(page) and "Moved to the trash: 1 run" in text_of(page)
    assert running in table_rows(page, "runs_table") and failed not in table_rows(page, "runs_table")


def test_the_trash_restores_and_deletes_with_its_size(samples: Samples) -> None:
    failed, stopped = samples.ids["failed"], samples.ids["stopped"]
    put(samples.root, [failed, stopped])
    page = open_page("runs", show="trash")
    assert set(table_rows(page, "runs_trash")) == {failed, stopped}
    assert "2 runs in the trash take" in text_of(page) and "Deleting 2 runs frees" in text_of(page)
    page.session_state["runs.trash_picked"] = [failed]
    page.run().button(key="trash.restore").click().run()
    assert (samples.root / failed).is_dir() and set(table_rows(page, "runs_trash")) == {stopped}
    page.button(key="trash.empty.now").click().run()
    assert not page.exception and "The trash is empty" in text_of(page) and "Deleted for good: 1 run" in text_of(page)
    assert not (samples.root / "trash" / stopped).exists()


def test_with_every_run_in_the_trash_the_page_still_leads_there(samples: Samples) -> None:
    for run in run_ids(samples.root):
        (samples.root / run / "process.json").unlink(missing_ok=True)
        (samples.root / run / "control").mkdir(exist_ok=True)
        (samples.root / run / "control" / "stop").touch()
    assert all(one.done for one in put(samples.root, run_ids(samples.root)))
    page = open_page("runs")
    assert not page.exception and "All runs are archived or in the trash" in text_of(page)


def test_runs_are_launched_again_and_cloned(samples: Samples) -> None:
    page = select(open_page("runs"), samples.ids["stopped"])
    page.button(key="runs.rerun").click().run()
    assert not page.exception and "Launched again: 1 run" in text_of(page)
    rows = table_rows(page, "runs_table")
    assert [row["status"].split()[0] for row in rows.values()].count("Queued") == 1
    page.button(key="runs.clone").click().run()
    assert page.query_params["from"] == samples.ids["stopped"]


def test_attacked_networks_are_compared_under_one_protocol(samples: Samples) -> None:
    other = sample_runs.write_finished_attack(samples.root, "20261118-0920-attack-digits-0b01", parent=samples.ids["retrain"])
    unlike = sample_runs.write_finished_attack(samples.root, "20261118-0921-attack-digits-0b02", parent=samples.ids["retrain"],
                                               epsilon=0.1)
    page = pick(open_page("runs"), samples.ids["attack"], unlike)
    assert page.button(key="runs.compare").disabled
    assert "2 different protocols" in page.button(key="runs.compare").help
    pick(page, samples.ids["attack"], other).button(key="runs.compare").click().run()
    assert set(page.query_params["compare"].split(",")) == {other, samples.ids["attack"]}


def test_views_are_saved_opened_and_deleted(samples: Samples) -> None:
    page = open_page("runs", q="clipped", sort="-age", group="chain")
    page.text_input(key="runs.view_name").set_value(" Mine ").run()
    page.button(key="runs.save_view").click().run()
    assert saved_views(samples.root) == {"Mine": "q=clipped&group=chain&sort=-age"}
    page = open_page("runs", kind="attack")
    page.button(key="runs.view.Mine").click().run()
    assert set(table_rows(page, "runs_table")) >= {samples.ids["failed"]} and "kind" not in page.query_params
    assert page.text_input(key="runs.text").value == "clipped"
    page.button(key="runs.unsave.Mine").click().run()
    assert saved_views(samples.root) == {}
    page.button(key="runs.save_view").click().run()
    assert "The name of a view has 1 to 60 characters, got 0" in text_of(page)


def test_a_long_list_comes_in_pages(samples: Samples) -> None:
    for number in range(120):
        sample_runs.write_run_json(samples.root, f"20261119-0000-arnas-digits-{number:04x}", "search",
                                   created=sample_runs.START + number)
    page = open_page("runs")
    assert len(rows_in_order(page)) == 50 and "128 of 128 runs" in text_of(page) and "1 to 50 of 128" in text_of(page)
    page.button(key="runs.page.Next").click().run()
    page.button(key="runs.page.Next").click().run()
    assert len(rows_in_order(page)) == 28 and page.button(key="runs.page.Next").disabled and page.query_params["page"] == "3"
    page.button(key="runs.all").click().run()
    assert "128 runs selected" in text_of(page)


def test_the_list_is_exported_as_it_is_shown(samples: Samples) -> None:
    kept = selected_runs(session.run_log().runs(), View(text="7f3", sort="kind"))
    rows = json.loads(as_json(kept))
    assert [row["kind"] for row in rows] == ["attack", "retrain", "search"] and "group" not in rows[0]
    assert rows[0]["adversarial_accuracy"] == 31 / 64 and rows[2]["natural_low"] is None
    (attack, *_) = csv.DictReader(io.StringIO(frame_bytes(kept.drop(columns="group"), "csv").decode()))
    assert attack["id"] == samples.ids["attack"] and float(attack["adversarial_accuracy"]) == 31 / 64
