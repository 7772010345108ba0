"""The Queue page: running and waiting runs, why they wait, the buttons of the order, the pause and the slots."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from engine import queueing, requests
from engine.files import atomic_write_json
from engine.run.folder import RunFolder, read_json
from engine.run.launchers.registry import choice_of, write_choice
from tests.app.pages import component_data, open_page, table_rows, text_of
from tests.engine.run.test_supervisor import submit


@pytest.fixture
def queued(empty: Path) -> tuple[Path, list[str]]:
    """A search that runs, its retraining that waits, and a second search that waits."""
    ids = [*submit(empty, then=("retrain",)), *submit(empty)]
    atomic_write_json(RunFolder(empty, ids[0]).process_json, {
        "attempt": 1, "pid": os.getpid(), "boot_id": "another", "started": time.time(), "device": "cpu", "threads": 1})
    RunFolder(empty, ids[0]).heartbeat.touch()
    return empty, ids


def places(page: AppTest) -> list[str]:
    return [row["id"] for row in component_data(page, "rampart_table", "queue_table")[0]["rows"]]


def click(page: AppTest, key: str) -> AppTest:
    next(button for button in page.button if button.key == key).click()
    page.run()
    assert not page.exception
    return page


def test_each_waiting_run_has_its_place_its_reason_and_its_start(queued: tuple[Path, list[str]]) -> None:
    _, (search, retrain, other) = queued
    page = open_page("queue")
    assert not page.exception
    rows = table_rows(page, "queue_table")
    assert list(rows) == [retrain, other]
    assert rows[retrain] == {"place": "1", "run": f"ARNAS {retrain}", "kind": "Retrain", "device": "auto",
                             "why": "Its search has not finished.", "start": "in under 1 min"}
    assert rows[other]["why"] == "Starts in a moment."
    assert "1 running, 2 waiting." in text_of(page) and search in text_of(page)
    assert "1 of 1 slot used" in text_of(page)


def test_buttons_move_the_selected_run(queued: tuple[Path, list[str]]) -> None:
    runs, (_, retrain, other) = queued
    page = open_page("queue")
    assert all(button.disabled for button in page.button if button.key in ("queue.first", "queue.up", "queue.stop"))
    page.session_state["queue.selected"] = other
    click(page.run(), "queue.up")
    assert places(page) == [other, retrain] == list(queueing.decisions_of(runs).order)
    assert places(click(page, "queue.last")) == [retrain, other]
    assert places(click(page, "queue.first")) == [other, retrain]
    assert places(click(page, "queue.stop")) == [retrain]
    assert requests.status(runs, other).status == "stopped"


def test_a_pause_shows_here_on_runs_and_on_launch_and_ends_by_one_button(queued: tuple[Path, list[str]]) -> None:
    runs, (_, _, other) = queued
    page = click(open_page("queue"), "queue.pause")
    assert queueing.decisions_of(runs).is_paused and "Running runs go on, nothing new starts; 2 runs wait." in text_of(page)
    assert table_rows(page, "queue_table")[other]["why"] == "The queue is paused."
    assert [button.key for button in page.button if button.key in ("queue.pause", "queue.continue")] == ["queue.continue"]
    for name in ("runs", "launch"):
        assert "Queue paused" in text_of(open_page(name))
    assert table_rows(open_page("runs"), "runs_table")[other]["status"] == "Queued the queue is paused."
    assert "Queue paused" not in text_of(click(page, "queue.continue"))
    page = click(page, "queue.after_chains")
    assert "Begun chains go on to their end, nothing else starts" in text_of(page)


def test_jobs_of_a_cluster_use_no_slot_of_this_machine_and_a_cluster_that_does_not_answer_says_why(
        queued: tuple[Path, list[str]]) -> None:
    runs, (search, *_) = queued
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        write_choice(runs, choice_of("ray", {"address": address}))
        record = read_json(RunFolder(runs, search).process_json) or {}
        atomic_write_json(RunFolder(runs, search).process_json, record | {
            "launcher": "ray", "job": "rampart-1", "ticket": "f", "cluster": address, "waits": "Its job waits."})
        text = text_of(open_page("queue"))
    assert "0 of 1 slot used" in text and "Its job waits." in text
    assert f"Ray (chosen). No Ray cluster answers at {address}" in text


def test_slots_are_stored_and_emptied(queued: tuple[Path, list[str]]) -> None:
    runs, _ = queued
    page = open_page("queue")
    slot = next(one for one in page.number_input if one.key == "queue.cpu")
    slot.set_value(3).run()
    assert queueing.decisions_of(runs).cpu_slots == 3
    next(one for one in page.number_input if one.key == "queue.cpu").set_value(None).run()
    assert not page.exception and queueing.decisions_of(runs).cpu_slots is None


def test_an_empty_queue_and_a_damaged_file_say_so(samples: object) -> None:
    page = open_page("queue")
    assert not page.exception and "Nothing waits" in text_of(page)
    root = requests.runs_root()
    (root / "control" / "queue.json").write_text("{")
    page = open_page("queue")
    assert not page.exception and "must be a JSON object" in text_of(page)


def test_a_run_that_finished_early_says_why_on_runs_and_on_its_page(samples: object) -> None:
    folder = RunFolder(requests.runs_root(), samples.ids["search"])  # type: ignore[attr-defined]
    reason = "Finished early: genotype unchanged for 5 epochs, after epoch 12 of 50."
    atomic_write_json(folder.exit_json, {"attempt": 1, "code": 0, "status": "finished", "cause": reason, "ended": time.time()})
    assert table_rows(open_page("runs"), "runs_table")[folder.id]["status"] == f"Finished {reason}"
    assert reason in text_of(open_page("run", id=folder.id))
