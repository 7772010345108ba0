"""Capacity matching: the chosen channels against all others, the run's name, and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine import requests
from engine.architecture.capacity import QUANTITIES, TOLERANCE, apart, differ, nearest_width
from engine.architecture.catalogue import CATALOG, find_genotype
from engine.architecture.cost import Cost, cost
from engine.architecture.genotype import Genotype
from engine.architecture.network import CHANNELS, DerivedNetwork, named_network
from engine.config import RetrainConfig
from engine.configuring import build
from engine.errors import ConfigError, RunError
from engine.files import atomic_write_json
from engine.run.folder import RunFolder
from engine.run.matching import matched
from tests.engine.architectures import random_genotype
from tests.engine.run.processes import without_supervisor

CIFAR = {"classes": 10, "image_shape": (3, 32, 32)}
DIGITS = {"classes": 10, "image_shape": (1, 8, 8)}


def nearest_channels(genotype: Genotype, target: Cost, match: str, *, layers: int, **sizes: Any) -> tuple[int, int]:
    """Return the number of channels that comes nearest to a target, and the size with it."""
    network, size = nearest_width(DerivedNetwork(genotype, 64, layers, **sizes), target, match)
    assert isinstance(network, DerivedNetwork)
    return network.channels, size


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return without_supervisor(tmp_path / "runs")


def test_the_channels_are_those_that_settings_allow() -> None:
    low, high = (getattr(bound, name) for bound, name in zip(RetrainConfig.model_fields["channels"].metadata, ("ge", "le")))
    assert (CHANNELS[0], CHANNELS[-1]) == (low, high)


@pytest.mark.parametrize("match", list(QUANTITIES))
def test_no_other_number_of_channels_is_nearer(match: str) -> None:
    for seed in range(3):
        genotype, layers = random_genotype(seed), 4 + seed
        sizes = {channels: getattr(cost(genotype, channels=channels, layers=layers, **DIGITS), QUANTITIES[match])
                 for channels in CHANNELS}
        assert all(sizes[channels] < sizes[channels + 1] for channels in CHANNELS[:-1])
        for wanted in (1, sizes[2], sizes[9] - 1, sizes[9] + 1, (sizes[16] + sizes[17]) // 2, sizes[1024], 10 * sizes[1024]):
            found, size = nearest_channels(genotype, Cost(wanted, wanted), match, layers=layers, **DIGITS)
            apart = {channels: abs(one - wanted) / max(one, wanted) for channels, one in sizes.items()}
            assert size == sizes[found] and apart[found] == min(apart.values())


@pytest.mark.parametrize("name", ["ARNAS", "DARTS_V2", "E2RNAS_V1_CIFAR10"])
def test_a_network_is_matched_to_itself_exactly(name: str) -> None:
    """At the widths of the published table of sizes."""
    genotype = find_genotype(name)
    for channels in (16, 25, 36, 46, 64):
        target = cost(genotype, channels=channels, layers=20, **CIFAR)
        for match, quantity in QUANTITIES.items():
            assert nearest_channels(genotype, target, match, layers=20, **CIFAR) == (channels, getattr(target, quantity))


@pytest.mark.parametrize("match", list(QUANTITIES))
@pytest.mark.parametrize(("name", "shape", "low", "high", "most"), [
    ("wide-resnet-10-1", (1, 8, 8), 32, 64, 0.02), ("wide-resnet-16-4", (1, 8, 8), 8, 64, 0.02),
    ("resnet-18", (3, 32, 32), 16, 64, 0.02), ("wide-resnet-28-10", (3, 32, 32), 8, 64, 0.02),
    ("wide-resnet-10-1", (1, 8, 8), 8, 32, 0.06)])  # one of 8 channels is an eighth of them
def test_hand_made_networks_are_matched_by_their_width(name: str, shape: tuple[int, int, int], low: int, high: int, most: float,
                                                       match: str) -> None:
    network = named_network(name, 10, shape)
    ends = [getattr(network.at_width(width).cost(), QUANTITIES[match]) for width in (low, high)]
    for step in range(41):
        wanted = ends[0] + (ends[1] - ends[0]) * step // 40
        found, size = nearest_width(network, Cost(wanted, wanted), match)
        assert size == getattr(found.cost(), QUANTITIES[match]) and apart(size, wanted) <= most


def test_a_hand_made_network_is_matched_to_itself_under_its_published_name() -> None:
    for name in ("resnet-18", "wide-resnet-28-10", "wide-resnet-10-1", "wide-resnet-10-1@12.6"):
        network = named_network(name, 10, (1, 8, 8))
        found, size = nearest_width(network.at_width(40), network.cost(), "macs")
        assert size == network.cost().macs and named_network(found.name, 10, (1, 8, 8)).cost() == network.cost()
        assert "@" in name or found == network


@pytest.mark.parametrize("match", list(QUANTITIES))
@pytest.mark.parametrize("name", [name for name, entry in CATALOG.items() if entry.genotype])
def test_every_published_network_comes_near_arnas_at_its_published_size(name: str, match: str) -> None:
    target = getattr(arnas := cost(find_genotype("ARNAS"), channels=64, layers=20, **CIFAR), QUANTITIES[match])
    _, size = nearest_channels(find_genotype(name), arnas, match, layers=20, **CIFAR)
    assert not differ((size, target))


def test_sizes_differ_by_a_share_of_the_larger() -> None:
    assert not differ(()) and not differ((7,)) and not differ((100, 100 * (1 - TOLERANCE)))
    assert differ((100, 94)) and differ((94, 100, 97))


def test_the_run_has_the_channels_and_its_name_says_how_near_they_come(runs: Path) -> None:
    asked = {"genotype": "DARTS_V2", "match": "params", "match_to": "ARNAS@8x5", "channels": 500}
    ids = requests.submit(runs, "retrain", asked, preset="quick", then=("attack",))
    run, attack = (RunFolder(runs, run_id).read_run() for run_id in ids)
    channels = run["config"]["channels"]
    own, other = (cost(find_genotype(name), channels=c, layers=5, **DIGITS).parameters for name, c in (
        ("DARTS_V2", channels), ("ARNAS", 8)))
    assert run["title"] == f"DARTS_V2, parameters as ARNAS@8x5 ({100 * (own / other - 1):+.1f} %)"
    assert attack["title"] == run["title"]
    # What is shown and kept asks for the same again.
    again = requests.submit(runs, "retrain", run["config"], preset="quick")
    assert RunFolder(runs, again[0]).read_run()["config"] == run["config"]
    assert f"--channels {channels} --match params --match-to ARNAS@8x5" in run["command"]


def test_a_run_is_a_reference_with_its_transplanted_cells(runs: Path) -> None:
    chosen = {"genotype": "ARNAS", "transplant": "accurate:robust", "channels": 16, "layers": 6}
    ids = requests.submit(runs, "retrain", chosen, preset="quick", then=("attack",))
    twin = {"genotype": "ARNAS", "transplant": "accurate:robust", "layers": 6, "match": "macs"}
    for run_id in ids:
        config, words = matched(runs, build("retrain", changes={**twin, "match_to": run_id}), None)
        assert config.channels == 16 and words == f"MACs as run {run_id[-4:]} (+0.0 %)"


def test_a_run_of_a_hand_made_network_has_the_width_in_its_name(runs: Path) -> None:
    asked = {"network": "wide-resnet-10-1", "match": "macs", "match_to": "ARNAS@16x6"}
    (run_id,) = requests.submit(runs, "retrain", asked, preset="quick")
    run, target = RunFolder(runs, run_id).read_run(), cost(find_genotype("ARNAS"), channels=16, layers=6, **DIGITS).macs
    own = named_network(run["config"]["network"], 10, (1, 8, 8))
    assert apart(own.cost().macs, target) <= 0.02 and own.name.startswith("wide-resnet-10-1@")
    assert run["title"] == f"{own.title}, MACs as ARNAS@16x6 ({100 * (own.cost().macs / target - 1):+.1f} %)"
    again = requests.submit(runs, "retrain", run["config"], preset="quick")
    assert RunFolder(runs, again[0]).read_run()["config"] == run["config"]
    with pytest.raises(ConfigError, match=r"with WRN-994-9@1 at best; choose another network, or wide-resnet-994-9@1 without"):
        requests.submit(runs, "retrain", asked | {"network": "wide-resnet-994-9"}, preset="quick")


def test_a_genotype_given_as_json_is_a_reference_with_a_short_name(runs: Path) -> None:
    genotype = find_genotype("ARNAS")
    config, words = matched(runs, build("retrain", changes={
        "genotype": "ARNAS", "match": "macs", "match_to": f"{genotype.to_json()}@9x5", "layers": 5}), None)
    assert config.channels == 9 and words == f"MACs as genotype {genotype.hash}@9x5 (+0.0 %)"


def test_without_match_nothing_changes(runs: Path) -> None:
    config = build("retrain", changes={"genotype": "ARNAS"})
    assert matched(runs, config, None) == (config, "")


def test_a_search_must_have_found_something_to_match(runs: Path) -> None:
    wish = {"match": "params", "match_to": "ARNAS@12x5"}
    with pytest.raises(ConfigError, match="match needs the genotype.*has not finished"):
        requests.submit(runs, "search", {}, method="arnas", preset="quick", then=("retrain",), then_changes={"retrain": wish})
    assert not list(runs.glob("2*"))
    (search,) = requests.submit(runs, "search", {}, method="arnas", preset="quick")
    with pytest.raises(ConfigError, match="has not finished"):
        requests.submit(runs, "retrain", wish, preset="quick", parent=search)
    results = RunFolder(runs, search).results
    results.mkdir()
    atomic_write_json(results / "genotype.json", find_genotype("ARNAS").to_dict())
    (retrain,) = requests.submit(runs, "retrain", wish, preset="quick", parent=search)
    run = RunFolder(runs, retrain).read_run()
    assert run["config"]["channels"] == 12
    assert run["title"] == "ARNAS, parameters as ARNAS@12x5 (+0.0 %)"


@pytest.mark.parametrize(("changes", "error", "sentence"), [
    ({"match": "macs"}, ConfigError, "match and match_to must be given together, got match 'macs' and match_to ''"),
    ({"match_to": "ARNAS@8x5"}, ConfigError, "match and match_to must be given together"),
    ({"match": "macs", "match_to": "ARNAS"}, ConfigError, "match_to must be GENOTYPE@CHANNELSxLAYERS like.*got 'ARNAS'"),
    ({"match": "macs", "match_to": "ARNAS@8"}, ConfigError, "match_to must be GENOTYPE@CHANNELSxLAYERS"),
    ({"match": "macs", "match_to": "ARNES@8x5"}, ConfigError, "There is no catalogue genotype 'ARNES'.*Did you mean 'ARNAS'"),
    ({"match": "macs", "match_to": "ARNAS@8x2"}, ConfigError, "layers must be at least 3"),
    ({"match": "macs", "match_to": "ARNAS@0x5"}, ConfigError, "channels must be a whole number of at least 1, got 0"),
    ({"match": "macs", "match_to": "20261120-0915-retrain-digits-7f3a"}, RunError, "There is no run"),
    ({"match": "macs", "match_to": "ARNAS@8x5"}, ConfigError,
     r"match must find channels within 5 % of the 470,208 MACs of ARNAS@8x5, got 435,584 \(-7.4 %\) with 8 channels at best;"),
    ({"match": "params", "match_to": "ARNAS@2000x5"}, ConfigError, "with 1024 channels at best"),
    ({"match": "params", "match_to": "ARNAS@1x3"}, ConfigError, "with 2 channels at best"),
])
def test_a_refusal_is_a_sentence_and_nothing_is_written(runs: Path, changes: dict[str, str], error: type, sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        requests.submit(runs, "retrain", {"genotype": "DARTS_V2", **changes}, preset="quick")
    assert not list(runs.glob("2*"))


def test_a_search_is_no_reference(runs: Path) -> None:
    (search,) = requests.submit(runs, "search", {}, method="arnas", preset="quick")
    with pytest.raises(RunError, match=f"must come from a run of kind retrain or attack, got the search run {search}"):
        matched(runs, build("retrain", changes={"genotype": "ARNAS", "match": "macs", "match_to": search}), None)
