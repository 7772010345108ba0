"""Position rules and width ratios through whole chains: a search's are retrained, attacked, exported and counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from engine import api, requests
from engine.architecture.catalogue import find_genotype
from engine.architecture.cost import cost
from engine.architecture.genotype import Genotype
from engine.architecture.placement import RULES
from engine.cli.verbs import main
from engine.configuring import build
from engine.errors import ConfigError, StopRequested
from engine.exchange import entry, source
from engine.exchange.writing import module_text
from engine.files import atomic_write_json
from engine.run.attacked_network import network_of
from engine.run.folder import RunFolder, read_json
from engine.run.matching import matched
from engine.space.network import Network
from tests.engine.exchange.retrained import settled
from tests.engine.run.processes import events_of, without_supervisor
from tests.engine.run.test_loops import attempt, last
from tests.engine.run.test_resume import same

DIGITS = {"classes": 10, "image_shape": (1, 8, 8)}
ARRANGEMENT = ("placement", "width_ratio")
ROBUST_FIRST = {"placement": "robust_first", "width_ratio": "1:2:4"}
PUBLISHED = {"placement": "accurate_first", "width_ratio": "1:2:2"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return without_supervisor(tmp_path_factory.mktemp("arrangement") / "runs")


@pytest.fixture(scope="module")
def chain(runs: Path) -> list[str]:
    """A finished chain with robust_first and widths 1:2:4, set on the search alone."""
    changes = ROBUST_FIRST | {"split_seed": 2}  # the sizes that are matched below suit the cells which it finds on these splits
    ids = api.launch("search", runs=runs, preset="smoke", changes=changes, then=("retrain", "attack"))
    for run_id in ids:
        attempt(runs, run_id)
    return ids


def told(runs: Path, run_id: str, name: str) -> list[dict[str, Any]]:
    """Return the events of one name."""
    return [event for event in events_of(runs, run_id) if event["event"] == name]


def title(runs: Path, run_id: str) -> str:
    return RunFolder(runs, run_id).read_run()["title"]


def described(runs: Path, retrain: str) -> dict[str, Any]:
    """Return results/network.json of a retraining."""
    found = read_json(RunFolder(runs, retrain).results / "network.json")
    assert found is not None
    return found


def without_fields(runs: Path, run_id: str) -> None:
    """Remove the fields from run.json, as in runs from before these settings existed."""
    folder = RunFolder(runs, run_id)
    run = folder.read_run()
    atomic_write_json(folder.run_json, run | {
        "config": {name: value for name, value in run["config"].items() if name not in ARRANGEMENT}})


def test_a_chain_keeps_the_arrangement_of_its_search(runs: Path, chain: list[str]) -> None:
    search, retrain, attack = chain
    assert [title(runs, run_id) for run_id in chain] == ["ARNAS, robust cells first, widths 1:2:4"] * 3
    found = described(runs, retrain)
    assert {name: found[name] for name in ARRANGEMENT} == ROBUST_FIRST
    value, network, _ = network_of(RunFolder(runs, retrain))
    assert {name: value.sizes[name] for name in ARRANGEMENT} == ROBUST_FIRST
    assert network.cells[0].concat == network.genotype.cell("robust").concat and network.classifier.in_features == 4 * 4 * 4
    parameters = sum(p.numel() for p in network.parameters())
    for run_id in (retrain, attack):
        (event,) = told(runs, run_id, "network")
        assert event["parameters"] == parameters
    genotype = Genotype.from_dict(found["genotype"])
    assert parameters != cost(genotype, channels=4, layers=4, **DIGITS).parameters
    exported = source.find(retrain, runs).network
    assert {name: exported.sizes[name] for name in ARRANGEMENT} == ROBUST_FIRST
    assert cost(genotype, **exported.sizes).parameters == parameters
    assert {name: source.find(search, runs).network.sizes[name] for name in ARRANGEMENT} == ROBUST_FIRST
    assert {row["attack"] for row in told(runs, attack, "attack")} >= {"natural", "fgsm", "pgd-20"}


@pytest.mark.parametrize(("changes", "expected", "name"), [
    ({}, PUBLISHED, "ARNAS"),
    ({"placement": "robust_first"}, ROBUST_FIRST | {"width_ratio": "1:2:2"}, "ARNAS, retrained with robust cells first"),
    ({"width_ratio": " 1: 1:1"}, PUBLISHED | {"width_ratio": "1:1:1"}, "ARNAS, retrained at widths 1:1:1"),
])
def test_a_genotype_is_retrained_in_any_arrangement(runs: Path, changes: dict[str, str], expected: dict[str, str],
                                                    name: str) -> None:
    run_id = api.launch("retrain", runs=runs, preset="smoke", changes={"genotype": "ARNAS", **changes})[0]
    attempt(runs, run_id)
    assert {field: described(runs, run_id)[field] for field in ARRANGEMENT} == expected and title(runs, run_id) == name


def test_a_retraining_may_depart_from_its_search(runs: Path, chain: list[str]) -> None:
    run_id = api.launch("retrain", runs=runs, preset="smoke", parent=chain[0], changes={"placement": "alternating"})[0]
    assert title(runs, run_id) == "ARNAS, robust cells first, widths 1:2:4, retrained with alternating cells"
    attempt(runs, run_id)
    assert {name: described(runs, run_id)[name] for name in ARRANGEMENT} == {"placement": "alternating", "width_ratio": "1:2:4"}


def test_matching_counts_both_networks_as_they_are(runs: Path, chain: list[str]) -> None:
    wish = build("retrain", None, "digits", "smoke", {"match": "params", "match_to": chain[1]})
    config, words = matched(runs, wish, chain[0])
    assert config.channels == 4 and words.endswith("(+0.0 %)")
    wish = build("retrain", None, "digits", "smoke", {"match": "macs", "match_to": "ARNAS@9x4", "width_ratio": "1:1:1"})
    config, _ = matched(runs, wish, chain[0])
    assert config.channels % 2 == 0, "equal widths have no odd numbers of channels"


def test_runs_of_before_there_was_a_choice_open_and_resume(runs: Path) -> None:
    whole = requests.submit(runs, "search", {}, method="arnas", preset="smoke")[0]
    attempt(runs, whole)
    old = requests.submit(runs, "search", {}, method="arnas", preset="smoke")[0]
    without_fields(runs, old)
    with pytest.raises(StopRequested):
        attempt(runs, old, 1, stop_at=20)
    attempt(runs, old, 2)
    same(last(runs, whole), last(runs, old))
    retrain = requests.submit(runs, "retrain", {}, preset="smoke", parent=old)[0]
    without_fields(runs, retrain)
    attempt(runs, retrain)
    assert {name: described(runs, retrain)[name] for name in ARRANGEMENT} == PUBLISHED
    folder = RunFolder(runs, retrain)
    with_names = network_of(folder)[2]
    found = described(runs, retrain)
    atomic_write_json(folder.results / "network.json", {name: value for name, value in found.items() if name not in ARRANGEMENT})
    value, network, weights = network_of(folder)
    same(weights, with_names)
    assert not value.placement
    sizes = source.find(retrain, runs).network.sizes
    assert sizes | PUBLISHED == sizes
    attack = requests.submit(runs, "attack", {}, preset="smoke", parent=retrain)[0]
    attempt(runs, attack)
    assert told(runs, attack, "network")[0]["parameters"] == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(("changes", "sentence"), [
    ({"placement": "normal"}, "placement must be a rule for the cells accurate, reduce, robust, got normal"),
    ({"channels": 5, "width_ratio": "1:1:1"}, "channels must be even with the width ratio 1:1:1"),
    ({"width_ratio": "2:1"}, "width_ratio must be three whole numbers"),
    ({"placement": "robust"}, "placement must be .*'robust_first'.*got 'robust'"),
])
def test_what_cannot_be_built_is_refused_before_anything_is_written(runs: Path, chain: list[str], changes: dict[str, Any],
                                                                   sentence: str) -> None:
    before = sorted(runs.iterdir())
    with pytest.raises(ConfigError, match=sentence):
        requests.submit(runs, "search", {}, method="arnas", preset="smoke", then=("retrain",), then_changes={"retrain": changes})
    with pytest.raises(ConfigError, match=sentence):
        requests.submit(runs, "retrain", changes, preset="smoke", parent=chain[0])
    with pytest.raises(ConfigError, match=sentence):
        requests.submit(runs, "retrain", {"genotype": "ARNAS", **changes}, preset="smoke")
    assert sorted(runs.iterdir()) == before


@pytest.mark.parametrize(("name", "placement", "ratio"), [
    ("ARNAS", "robust_first_third", "1:1:3"), ("DARTS_V2", "normal", "1:2:2")])
def test_a_checkpoint_says_its_widths_and_is_told_its_placement(runs: Path, tmp_path: Path, name: str, placement: str,
                                                               ratio: str) -> None:
    genotype = find_genotype(name)
    network = settled(Network(genotype, channels=2, layers=5, **DIGITS, placement=placement, width_ratio=ratio))
    with torch.no_grad():
        network.mean.zero_()
        network.std.fill_(1.0)
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    run_id = entry.take(runs, tmp_path / "weights.pt", genotype=name, dataset="digits", placement=placement)
    value, theirs, _ = network_of(RunFolder(runs, run_id))
    assert {field: value.sizes[field] for field in ARRANGEMENT} == {"placement": placement, "width_ratio": ratio}
    x = torch.rand(3, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(theirs.eval()(x), network(x))
    exported, space = source.find(run_id, runs).network, {}
    asked = source.find(name, runs, channels=2, layers=5, image_shape=(1, 8, 8), placement=placement, width_ratio=ratio)
    assert asked.network == exported
    exec(module_text(exported, module="net", title="net"), space)
    alone = space["Network"]()
    alone.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert torch.equal(alone.eval()(x), network(x))
    again = entry.take(runs, tmp_path / "weights.pt", genotype=run_id, dataset="digits")
    assert described(runs, again) == described(runs, run_id), "where nothing is said, the rule of the run that is named"
    with pytest.raises(ConfigError, match="width_ratio of the retrained network"):
        source.find(run_id, runs, width_ratio="1:2:3")


def test_every_rule_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    for rule in RULES:
        name = "DARTS_V2" if rule == "normal" else "ARNAS"
        expected = cost(find_genotype(name), channels=16, layers=8, classes=10, image_shape=(3, 32, 32), placement=rule,
                        width_ratio="1:1:2")
        assert main(["describe", name, "--channels", "16", "--layers", "8", "--placement", rule, "--width-ratio", "1:1:2",
                     "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"parameters": expected.parameters, "macs": expected.macs}
    assert main(["describe", "ARNAS", "--width-ratio", "2:2:2"]) == 2
    assert "the first of them 1" in capsys.readouterr().err
