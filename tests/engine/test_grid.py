"""Grids and seeds: what the texts mean, all chains or none, and runs that chains share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine import api
from engine.cli import main
from engine.cli.flags import parse
from engine.configuration_file import Configuration
from engine.errors import ConfigError
from engine.grid import Grid, launches_of, read_grid, read_values, runs_in, variants_of
from engine.run.folder import RunFolder, run_ids
from tests.engine.run.processes import without_supervisor

CHAIN = Configuration("search", "arnas", "digits", "smoke", ("retrain", "attack"))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return without_supervisor(tmp_path / "runs")


@pytest.mark.parametrize(("name", "text", "values"), [
    ("seed", "0-4", ("0", "1", "2", "3", "4")), ("seed", "0, 3,7", ("0", "3", "7")), ("retrain.seed", "1-2, 9", ("1", "2", "9")),
    ("epochs", " 10,20 ", ("10", "20")), ("epsilon", "8/255, 0.1", ("8/255", "0.1")),
    ("attack.attacks", "fgsm, pgd-20; pgd-7", ("fgsm, pgd-20", "pgd-7")), ("milestones", "1/3, 2/3;", ("1/3, 2/3",))])
def test_values_are_read_from_text(name: str, text: str, values: tuple[str, ...]) -> None:
    assert read_values(name, text) == values


@pytest.mark.parametrize(("axes", "seeds", "sentence"), [
    ([], "5-2", "got '5-2'; correct the list"), ([], "one", "got 'one'"), ([], "0-900", "got '0-900'"),
    ([("epochs", " , ")], "", "at least one value of epochs"), ([("epochs", "1, 2, 1")], "", "got 1 again"),
    ([("epochs", "1"), ("epochs", "2")], "", "named only once, got epochs again"), ([("seed", "1")], "2", "got seed again"),
    ([("lamda", "1")], "", "There is no setting of a search run 'lamda'"), ([("retrain.x", "1")], "", "of a retrain run 'x'"),
    ([("test.epochs", "1")], "", "There is no run in this chain 'test'"),
    ([("size", "1")], "", "did you mean"),
    ([("epochs", "1,2")], "0-299", r"At most 500 chains .* got 600 \(300 seeds × 2 values of epochs\)")])
def test_a_grid_that_cannot_be_read_is_answered(axes: list[tuple[str, str]], seeds: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        read_grid(CHAIN, axes, seeds)


def test_every_combination_has_a_name_and_typed_values() -> None:
    grid = read_grid(CHAIN, [("lambda", "0.1, 0.3"), ("retrain.flip", "yes, no"), ("step-size", "2/255")], "0-1")
    assert (grid.chains, grid.words) == (8, "2 seeds × 2 values of adversarial lambda × 2 values of retrain flip × "
                                            "1 value of step size")
    launches = launches_of(CHAIN, grid)
    assert launches[0].name == "seed 0, adversarial lambda 0.1, retrain flip yes, step size 2/255"
    assert launches[-1].config == {"dataset": "digits", "seed": 1, "adversarial_lambda": 0.3, "step_size": 2 / 255}
    assert [dict(one.then_changes)["retrain"]["flip"] for one in launches] == [True, False] * 4
    (single,) = launches_of(CHAIN, Grid({}))
    assert single.name == "" and single.config == {"dataset": "digits"}


def test_chains_share_the_runs_that_do_not_differ(runs: Path) -> None:
    grid = read_grid(CHAIN, [("retrain.epochs", "1, 2"), ("attack.attacks", "fgsm; pgd-2")], "0-1")
    chains = api.launch_all(launches_of(CHAIN, grid), runs=runs, key="click")
    assert len(chains) == 8 and set(run_ids(runs)) == set(runs_in(chains))
    stored = {run: RunFolder(runs, run).read_run() for run in run_ids(runs)}
    kinds = [run["kind"] for run in stored.values()]
    assert [kinds.count(kind) for kind in ("search", "retrain", "attack")] == [2, 4, 8]
    for chain in chains:
        assert [stored[run]["parent"] for run in chain] == [None, *chain[:2]]
    search = stored[chains[0][0]]
    assert set(search["children_of_chain"]) == {run for chain in chains[:4] for run in chain[1:]}
    created = [stored[run]["created"] for run in runs_in(chains)]
    assert created == sorted(set(created))
    assert api.launch_all(launches_of(CHAIN, grid), runs=runs, key="click") == chains and len(run_ids(runs)) == 14


def test_one_impossible_combination_is_named_and_nothing_is_written(runs: Path) -> None:
    grid = read_grid(CHAIN, [("method", "arnas, darts"), ("lambda", "0.1, 0.2")])
    with pytest.raises(ConfigError, match="one combination is not possible: method darts, adversarial lambda 0.1. There is no"):
        api.launch_all(launches_of(CHAIN, grid), runs=runs)
    grid = read_grid(CHAIN, [("retrain.batch_size", "16, 5000")])
    with pytest.raises(ConfigError, match="retrain batch size 5000. The retraining that follows: batch_size must be at most"):
        api.launch_all(launches_of(CHAIN, grid), runs=runs)
    assert not run_ids(runs)


def test_the_command_launches_the_grid(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["search", "--preset", "smoke", "--seeds", "0-1", "--grid", "lambda=0.1,0.3", "--grid", "retrain.epochs=1,2",
             "--then", "retrain", "--runs", str(runs)]
    assert main([*words, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [one["combination"] for one in answer["chains"]][:2] == [
        "seed 0, adversarial lambda 0.1, retrain epochs 1", "seed 0, adversarial lambda 0.1, retrain epochs 2"]
    assert len(answer["ids"]) == 12 and len(answer["chains"]) == 8
    config = RunFolder(runs, answer["chains"][-1]["ids"][0]).read_run()["config"]
    assert (config["seed"], config["adversarial_lambda"]) == (1, 0.3)
    assert main(words) == 0 and "seed 1, adversarial lambda 0.3, retrain epochs 2  2" in capsys.readouterr().out
    assert main(["search", "--grid", "lambda"]) == 2 and "write for example --grid lambda=0.1,0.3" in capsys.readouterr().err


def test_a_chosen_value_holds_for_every_method_of_a_grid() -> None:
    """0.1 is ARNAS's preset of lambda, and not DSARA's."""
    request = parse("search", ["--adversarial-lambda", "0.1", "--grid", "method=arnas,dsara"])
    assert [one.config["adversarial_lambda"] for one in launches_of(request, request.grid)] == [0.1, 0.1]


def test_chains_that_differ_only_in_seeds_are_one_variant_and_shared_runs_count_once(runs: Path) -> None:
    grid = read_grid(CHAIN, [("retrain.epochs", "1, 2"), ("channels", "4, 8"), ("attack.seed", "0-2")], seeds="0-4")
    found = variants_of(runs, CHAIN, grid)
    assert [one.launch.name for one in found] == ["retrain epochs 1, channels 4", "retrain epochs 1, channels 8",
                                                  "retrain epochs 2, channels 4", "retrain epochs 2, channels 8"]
    assert [one.counts["search"] for one in found] == [5, 5, 0, 0], "the retraining's epochs need no other search"
    assert {kind: sum(one.counts[kind] for one in found) for kind in ("search", "retrain", "attack")} == grid.runs_of(
        ("search", "retrain", "attack")) == {"search": 10, "retrain": 20, "attack": 60}
    assert [dict(one.steps)["retrain"].epochs for one in found] == [1, 1, 2, 2]
    with pytest.raises(ConfigError, match="The combination channels 7 is not possible"):
        variants_of(runs, CHAIN, Grid({"channels": ("4", "7")}))
