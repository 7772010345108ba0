from __future__ import annotations

import json
import secrets
import shlex
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from engine import requests
from engine.cli.flags import parse
from engine.command import command_of, program
from engine.configuring import build, recorded
from engine.data.splits import splits_of
from engine.errors import ConfigError, RunError
from engine.queueing import waiting_list
from engine.run import publishing
from engine.run.folder import RunFolder
from engine.search.methods.registry import METHODS
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
    assert {run["config"]["split_seed"] for run in (search, retrain, attack)} == {0}
    assert [run["config"]["seed"] for run in (search, retrain, attack)] == [7, 7, 0]
    assert search["config"] == config.model_dump(mode="json")
    assert search["created"] < retrain["created"] < attack["created"]
    assert search["packages"]["torch"] and set(search["code"]) == {"version", "diff", "numerics"}
    assert [requests.status(runs, run_id).status for run_id in ids] == ["queued"] * 3
    assert [entry["id"] for entry in waiting_list(runs)] == ids
    assert not [path for path in runs.iterdir() if path.name.startswith(".draft")]


@pytest.mark.parametrize(("chosen", "of_each"), [({}, [2, 1, 2]), ({"threads": 3}, [3, 3, 3])])
def test_followers_take_over_threads_that_were_chosen(runs: Path, chosen: dict[str, int], of_each: list[int]) -> None:
    """A preset's number of threads applies only to its own kind of run."""
    ids = requests.submit(runs, "search", chosen, method="arnas", preset="quick", then=("retrain", "attack"))
    assert [RunFolder(runs, run_id).read_run()["config"]["threads"] for run_id in ids] == of_each


CHOSEN = {"epsilon": 8 / 255, "step_size": 2 / 255, "images": 64, "seed": 7, "device": "cpu", "threads": 3, "normalise": True}


def test_chosen_settings_follow_down_the_chain(runs: Path) -> None:
    ids = requests.submit(runs, "search", CHOSEN, method="arnas", preset="quick", then=("retrain", "attack"))
    search, retrain, attack = (RunFolder(runs, run_id).read_run()["config"] for run_id in ids)
    for config in (search, retrain):
        assert {name: config[name] for name in CHOSEN} == CHOSEN
    # An attack has no setting normalise, and its seed is a number of the protocol.
    assert {name: attack.get(name, True) for name in CHOSEN} == CHOSEN | {"seed": 0}


def test_a_follower_launched_alone_inherits_what_its_parent_chose(runs: Path) -> None:
    """The rule is that of a chain launched together: changed settings follow, unless the follower changes them itself."""
    (search,) = requests.submit(runs, "search", CHOSEN, method="arnas", preset="quick")
    together = requests.submit(runs, "search", CHOSEN, method="arnas", preset="quick", then=("retrain",))
    (alone,) = requests.submit(runs, "retrain", {}, preset="quick", parent=search)
    (own,) = requests.submit(runs, "retrain", {"epsilon": 0.05}, preset="quick", parent=search)
    configs = [RunFolder(runs, run_id).read_run()["config"] for run_id in (together[1], alone, own)]
    assert configs[0] == configs[1] and configs[2] == configs[1] | {"epsilon": 0.05}


def test_settings_that_were_not_chosen_stay_those_of_each_runs_preset() -> None:
    for method in METHODS:
        config = build("search", method, "cifar10", "paper")
        assert requests.followers("search", config, method, "paper", ("retrain", "attack")) == [
            (kind, build(kind, None, "cifar10", "paper")) for kind in ("retrain", "attack")]


def test_changes_of_a_follower_win_and_follow_further_down() -> None:
    config = build("search", "arnas", "digits", "smoke", {"epsilon": 0.1, "seed": 7})
    changes = {"retrain": {"epsilon": 0.2}, "attack": {"seed": 8}}
    (_, retrain), (_, attack) = requests.followers("search", config, "arnas", "smoke", ("retrain", "attack"), changes)
    assert (retrain.epsilon, retrain.seed, attack.epsilon, attack.seed) == (0.2, 7, 0.2, 8)


@pytest.mark.parametrize(("changes", "sentence"), [
    ({"attack": {"epsilon": 0.1}}, "Settings of attack need attack in --then, got retrain"),
    ({"retrain": {"epsilom": 0.1}}, "The retraining that follows: There is no setting 'epsilom'"),
    ({"retrain": {"dataset": "cifar10"}}, "The retraining that follows: dataset must be 'digits' as in the first run"),
    ({"retrain": {"split_seed": 5}}, "The retraining that follows: split_seed must be 0 as in the first run"),
    ({"retrain": {"batch_size": 4096}}, "The retraining that follows: batch_size must be at most")])
def test_a_follower_that_cannot_work_is_refused(changes: dict[str, dict[str, object]], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        requests.followers("search", build("search", "arnas", "digits", "smoke"), "arnas", "smoke", ("retrain",), changes)


def test_the_command_of_a_chain_reproduces_it_exactly(runs: Path) -> None:
    changes = {"retrain": {"epsilon": 0.15, "flip": True, "milestones": "1/3, 2/3", "steps_per_epoch": None},
               "attack": {"attacks": ("fgsm", "pgd-7")}}
    first = requests.submit(runs, "search", {"epsilon": 8 / 255, "split_seed": 4, "threads": 2}, method="arnas", preset="smoke",
                            then=("retrain", "attack"), then_changes=changes)
    chain = [RunFolder(runs, run_id).read_run() for run_id in first]
    assert chain[1]["config"]["epsilon"] == chain[2]["config"]["epsilon"] == 0.15
    request = parse("search", shlex.split(chain[0]["command"])[4:])
    again = requests.submit(runs, request.kind, request.changes | {"dataset": request.dataset}, method=request.method,
                            preset=request.preset, then=request.then, then_changes=request.then_changes)
    for old, new in zip(chain, (RunFolder(runs, run_id).read_run() for run_id in again), strict=True):
        assert old["config"] == new["config"] and old["title"] == new["title"]
    assert RunFolder(runs, again[0]).read_run()["command"] == chain[0]["command"]


def test_chains_of_different_seeds_meet_on_the_same_test_images(runs: Path) -> None:
    splits = []
    for seed in (3, 4):
        ids = requests.submit(runs, "search", {"seed": seed}, method="arnas", preset="smoke", then=("retrain", "attack"))
        splits += [splits_of(config.dataset, config.split_seed, config.images).hash
                   for config in (recorded(RunFolder(runs, run_id).read_run()) for run_id in ids)]
    assert len(set(splits)) == 1


def test_a_run_has_the_splits_of_the_run_that_it_follows(runs: Path) -> None:
    (search,) = requests.submit(runs, "search", {"split_seed": 5}, method="arnas", preset="smoke")
    ids = requests.submit(runs, "retrain", {"seed": 9}, preset="smoke", parent=search, then=("attack",))
    ids += requests.submit(runs, "retrain", {"split_seed": 5}, preset="smoke", parent=search)
    assert [RunFolder(runs, run_id).read_run()["config"]["split_seed"] for run_id in ids] == [5, 5, 5]
    with pytest.raises(ConfigError, match=f"split_seed must be 5 as in the parent {search}, .* got 6; leave it out"):
        requests.submit(runs, "retrain", {"split_seed": 6}, preset="smoke", parent=search)


@pytest.mark.parametrize(("recorded_seed", "split_seed"), [({"split_seed": 7}, 7), ({}, 2)])
def test_what_follows_an_old_run_has_its_splits(runs: Path, recorded_seed: dict[str, int], split_seed: int) -> None:
    (search,) = requests.submit(runs, "search", {}, method="arnas", preset="smoke")
    run = RunFolder(runs, search).read_run()
    del run["config"]["split_seed"]
    RunFolder(runs, search).run_json.write_text(json.dumps(run | recorded_seed))
    (retrain,) = requests.submit(runs, "retrain", {"seed": 9}, preset="smoke", parent=search)
    follower = RunFolder(runs, retrain).read_run()
    assert follower["config"]["split_seed"] == split_seed and f"--split-seed {split_seed}" in follower["command"]


def test_a_double_click_launches_one_run(runs: Path) -> None:
    launched: list[list[str]] = []

    def click() -> None:
        launched.append(requests.submit(runs, "search", {}, method="arnas", preset="smoke", then=("retrain",), key="one click"))

    clicks = [threading.Thread(target=click) for _ in range(4)]
    for thread in clicks:
        thread.start()
    for thread in clicks:
        thread.join()
    assert len(launched) == 4 and all(ids == launched[0] for ids in launched)
    assert len(list(runs.glob("2*"))) == 2
    assert requests.submit(runs, "search", {}, method="arnas", preset="smoke", key="another click") != launched[0]


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
        publishing.publish(runs, [{"id": run_id} for run_id in ids], "click")
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
    line = command_of("search", "arnas", "quick", "digits", {"epsilon": 8 / 255, "flip": True, "seed": 3},
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
    assert requests.status(runs, run_id).status == "stopped" and waiting_list(runs) == []
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


def test_a_radius_of_the_other_norm_is_refused(runs: Path) -> None:
    """A chosen radius or step size that the norm of the attack does not use would be ignored in silence."""
    with pytest.raises(ConfigError, match="epsilon has no effect on attacks in the norm L2.*epsilon_l2"):
        requests.submit(runs, "attack", {"norm": "L2", "epsilon": 0.9}, preset="smoke",
                        parent="20261120-0915-retrain-digits-7f3a")
    with pytest.raises(ConfigError, match="C&W is defined in L2, got the norm Linf"):
        build("attack", None, "digits", "smoke", {"attacks": ("cw",)})
