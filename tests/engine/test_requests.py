from __future__ import annotations

import json
import secrets
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from engine import requests
from engine.command import program
from engine.configuring import build
from engine.errors import RunError
from engine.run.folder import RunFolder
from tests.engine.run.processes import without_supervisor


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return without_supervisor(tmp_path / "runs")


def test_a_chain_is_written_whole(runs: Path) -> None:
    config = build("search", "arnas", "digits", "smoke", {"seed": 7, "clip_images": True})
    ids = requests.submit(runs, "search", config, method="arnas", preset="smoke", then=("retrain", "attack"))
    search, retrain, attack = (RunFolder(runs, run_id).read_run() for run_id in ids)
    assert [run["kind"] for run in (search, retrain, attack)] == ["search", "retrain", "attack"]
    assert (search["parent"], retrain["parent"], attack["parent"]) == (None, ids[0], ids[1])
    assert search["children_of_chain"] == ids[1:] and attack["children_of_chain"] == []
    # The deviation stands in the name of everything that comes of it.
    assert {run["title"] for run in (search, retrain, attack)} == {"ARNAS, images clipped"}
    assert {run["method"] for run in (search, retrain, attack)} == {"arnas"}
    assert {run["split_seed"] for run in (search, retrain, attack)} == {7}
    assert {run["config"]["seed"] for run in (search, retrain, attack)} == {7}
    assert search["config"] == config.model_dump(mode="json")
    assert search["created"] < retrain["created"] < attack["created"]
    assert search["packages"]["torch"] and set(search["code"]) == {"version", "diff"}
    assert [requests.status(runs, run_id).status for run_id in ids] == ["queued"] * 3
    assert [entry["id"] for entry in requests.queue(runs)] == ids
    assert not [path for path in runs.iterdir() if path.name.startswith(".draft")]


@pytest.mark.parametrize(("chosen", "of_each"), [({}, [2, 1, 1]), ({"threads": 3}, [3, 3, 3])])
def test_followers_take_over_threads_that_were_chosen(runs: Path, chosen: dict[str, int], of_each: list[int]) -> None:
    """A preset's number of threads suits its own kind of run only."""
    ids = requests.submit(runs, "search", chosen, method="arnas", preset="quick", then=("retrain", "attack"))
    assert [RunFolder(runs, run_id).read_run()["config"]["threads"] for run_id in ids] == of_each


def test_a_double_click_launches_one_run(runs: Path) -> None:
    found: list[list[str]] = []

    def click() -> None:
        found.append(requests.submit(runs, "search", {}, method="arnas", preset="smoke", then=("retrain",), key="one click"))

    clicks = [threading.Thread(target=click) for _ in range(4)]
    for thread in clicks:
        thread.start()
    for thread in clicks:
        thread.join()
    assert len(found) == 4 and all(ids == found[0] for ids in found)
    assert len(list(runs.glob("2*"))) == 2
    assert requests.submit(runs, "search", {}, method="arnas", preset="smoke", key="another click") != found[0]


def test_a_deviation_of_the_training_stands_in_the_name_of_what_follows(runs: Path) -> None:
    (search,) = requests.submit(runs, "search", {"clip_images": True}, method="arnas", preset="smoke")
    ids = requests.submit(runs, "retrain", {"training": "trades"}, preset="smoke", parent=search, then=("attack",))
    ids += requests.submit(runs, "attack", {}, preset="smoke", parent=ids[0])
    ids += requests.submit(runs, "retrain", {"training": "natural", "genotype": "ARNAS"}, preset="smoke", parent=search)
    assert [RunFolder(runs, run_id).read_run()["title"] for run_id in ids] == [
        *["ARNAS, images clipped, TRADES"] * 3, "ARNAS, natural training"]


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_a_chain_is_there_whole_or_not_at_all(runs: Path, taken: int) -> None:
    ids = [f"20261120-0915-{kind}-digits-7f3a" for kind in ("search", "retrain", "attack")]
    (runs / ids[taken]).mkdir()
    (runs / ids[taken] / "note").write_text("of somebody else")
    with pytest.raises(FileExistsError):
        requests._publish(runs, [{"id": run_id} for run_id in ids], "click")
    assert {path.name for path in runs.iterdir()} == {"control", ids[taken]}
    assert not list((runs / "control" / "keys").iterdir())  # the click may be repeated
    assert [path.name for path in (runs / ids[taken]).iterdir()] == ["note"]


def test_an_id_that_another_request_takes_at_the_same_time_is_drawn_anew(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    token_hex = secrets.token_hex

    def taken_once(digits: int) -> str:
        if digits == 2:  # of an id
            drawn.append("abcd" if not drawn else token_hex(digits))
            return drawn[-1]
        # Between drawing the id and writing the run: somebody else's run of that name appears.
        for minute in (0, 60):
            name = time.strftime("%Y%m%d-%H%M", time.localtime(time.time() - minute)) + "-arnas-digits-abcd"
            (runs / name).mkdir(exist_ok=True)
            (runs / name / "note").write_text("of somebody else")
        return token_hex(digits)

    monkeypatch.setattr(secrets, "token_hex", taken_once)
    (run,) = requests.submit(runs, "search", {}, method="arnas", preset="smoke", key="click")
    assert drawn[0] == "abcd" and len(drawn) == 2 and not run.endswith("abcd")
    assert requests.status(runs, run).status == "queued"
    assert requests.submit(runs, "search", {}, method="arnas", preset="smoke", key="click") == [run]
    assert {path.read_text() for path in runs.glob("*-abcd/*")} == {"of somebody else"}


def test_a_token_whose_owner_died_launches_again(runs: Path) -> None:
    first = requests.submit(runs, "search", {}, method="arnas", preset="smoke", key="k")
    (runs / first[0] / "run.json").unlink()
    (runs / first[0] / "control").rmdir()
    (runs / first[0]).rmdir()
    second = requests.submit(runs, "search", {}, method="arnas", preset="smoke", key="k")
    assert second != first and requests.status(runs, second[0]).status == "queued"


def test_the_command_says_what_was_asked(runs: Path) -> None:
    line = requests.command_of("search", "arnas", "quick", "digits", {"epsilon": 8 / 255, "flip": True, "seed": 3},
                               ("retrain", "attack"))
    assert line == (f"{program()} search --method arnas --dataset digits --preset quick --epsilon 8/255 --flip --seed 3 "
                    "--then retrain,attack")
    ids = requests.submit(runs, "retrain", {"genotype": "ARNAS"}, preset="smoke", then=("attack",))
    run = RunFolder(runs, ids[0]).read_run()
    assert run["command"].startswith(f"{program()} retrain --dataset digits --preset smoke --genotype ARNAS --then attack")
    assert run["title"] == run["method"] == "ARNAS"
    assert f"--parent {ids[0]}" in RunFolder(runs, ids[1]).read_run()["command"]


def test_stop_and_resume_of_a_queued_run(runs: Path) -> None:
    (run_id,) = requests.submit(runs, "search", {}, method="arnas", preset="smoke")
    requests.request_stop(runs, run_id)
    assert requests.status(runs, run_id).status == "stopped" and requests.queue(runs) == []
    with pytest.raises(RunError, match="Only a queued or running run can be stopped"):
        requests.request_stop(runs, run_id)
    requests.resume(runs, run_id)
    assert requests.status(runs, run_id).status == "queued"
    with pytest.raises(RunError, match="Only a stopped or failed run can be resumed"):
        requests.resume(runs, run_id)
    with pytest.raises(RunError, match="There is no run"):
        requests.status(runs, "20200101-0000-arnas-digits-0000")


def test_runs_root_is_argument_then_environment_then_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAMPART_RUNS", raising=False)
    assert requests.runs_root() == Path("runs").absolute()
    monkeypatch.setenv("RAMPART_RUNS", str(tmp_path))
    assert requests.runs_root() == tmp_path
    assert requests.runs_root("elsewhere") == Path("elsewhere").absolute()


def test_requests_load_neither_torch_nor_numpy_nor_duckdb() -> None:
    code = "import sys, json, engine.requests, engine.api; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "duckdb", "streamlit"} & set(json.loads(done.stdout))
