"""The verbs `sweep` and `transfer` by subprocess, with real workers on tiny networks."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.attack.statistics import share_words
from engine.log import RunLog
from engine.report.transfers import transfer_maps
from tests.engine.run.processes import processes_of

pytestmark = pytest.mark.slow  # half a minute for the two networks


def rampart(runs: Path, *words: str, code: int = 0) -> str:
    """Run a command and return its stdout, or its stderr if it is to fail."""
    done = subprocess.run([sys.executable, "-m", "engine", *words, "--runs", str(runs)], capture_output=True, text=True,
                          timeout=300, check=False)
    assert done.returncode == code, done.stderr + done.stdout
    return done.stderr if code else done.stdout


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with processes_of(tmp_path_factory.mktemp("robustness") / "runs") as folder:
        yield folder


@pytest.fixture(scope="module")
def networks(runs: Path) -> list[str]:
    """Two retrainings of different seeds."""
    words = ("retrain", "--preset", "smoke", "--genotype", "ARNAS", "--threads", "1", "--json", "--wait")
    return [json.loads(rampart(runs, *words, "--seed", seed))["ids"][0] for seed in ("1", "2")]


def log_of(runs: Path) -> RunLog:
    log = RunLog.open(runs, in_memory=True)
    log.ingest()
    return log


def test_a_sweep_prints_its_curves_and_the_run_log_has_them(runs: Path, networks: list[str]) -> None:
    """One attack run without attacks: its points fall with the radius, and it has no row among evaluations."""
    answer = json.loads(rampart(runs, "sweep", networks[0], "--radii", "5", "--wait", "--json"))
    of_radius = [point for point in answer["points"] if point["attack"] == "fmn-40"]
    assert len(of_radius) == 5 and of_radius[0]["epsilon"] == 0
    assert answer["badge"]["colour"] == "amber"
    log = log_of(runs)
    points = log.sweeps([answer["id"]])
    assert len(points) == len(answer["points"]) and set(points["images"]) == {64}
    assert len(log.distances(answer["id"])) == 64 and len(log.critical_epsilons(answer["id"])) == 1
    assert answer["id"] not in set(log.evaluations()["run"])
    log.close()
    text = rampart(runs, "sweep", answer["id"], "--wait")  # another sweep under the conditions of that run
    assert "Median critical epsilon" in text and "badge amber: " in text
    assert "Against epsilon, FMN-40, 16 radii:" in text and "APGD-CE-20" in text
    assert len(re.findall(r"^  epsilon \S+ +\d+\.\d % \(\d+\.\d to \d+\.\d\), 64 images$", text, re.MULTILINE)) == 16 + 3


def cells(answer: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(cell["source"], cell["target"]): cell for cell in answer["cells"]}


def test_a_transfer_matrix_has_every_pair_and_is_made_once(runs: Path, networks: list[str]) -> None:
    """Each network is attacked with the other's images; the same command again reads the results."""
    answer = json.loads(rampart(runs, "transfer", *networks, "--json"))
    matrix = cells(answer)
    assert set(matrix) == {(source, target) for source in networks for target in networks}
    assert all(cell["images"] == 64 and cell["low"] <= cell["accuracy"] <= cell["high"] for cell in matrix.values())
    assert matrix[networks[0], networks[0]]["attack"] == "mi-fgsm"
    assert matrix[networks[0], networks[1]]["attack"].startswith("transfer-")
    assert json.loads(rampart(runs, "transfer", *networks, "--json")) == answer
    text = rampart(runs, "transfer", *networks)
    assert share_words(matrix[networks[1], networks[0]]["correct"], 64) in text and networks[1] in text
    assert "badge amber: " in text.rstrip().splitlines()[-1] and answer["badge"]["colour"] == "amber"
    log = log_of(runs)
    names = {row.attack for row in log.attacks(answer["runs"][networks[0]]).itertuples()}
    assert {"natural", "mi-fgsm", "worst-case"} < names and len(names) == 4
    protocol = log.evaluations().set_index("run").loc[answer["runs"][networks[0]], "protocol_fields"]
    assert json.loads(protocol)["attacks"][-1]["source"] in {row.network for row in log.evaluations().itertuples()}
    (drawn,) = transfer_maps(log)
    retrainings = {network.network: network.parent for network in drawn.networks}
    assert {(retrainings[source], retrainings[target]): (cell.result.accuracy, cell.result.fingerprint)
            for (source, target), cell in drawn.cells.items()} == {
        pair: (cell["accuracy"], cell["fingerprint"]) for pair, cell in matrix.items()}, "the page shows what the command prints"
    log.close()


@pytest.mark.parametrize(("words", "message"), [
    (["sweep", "20200101-0000-arnas-digits-0000"], "There is no run"),
    (["transfer", "{0}"], "at least two different networks"),
    (["transfer", "{0}", "{0}"], "at least two different networks"),
    (["attack", "--parent", "{0}", "--preset", "smoke", "--transfer-from", "{0}"], "networks other than the attacked one"),
    (["attack", "--parent", "{0}", "--preset", "smoke", "--transfer-from", "{1},{1}"], "each retraining only once"),
    (["attack", "--parent", "{0}", "--preset", "smoke", "--attacks", ""], "at least one attack")])
def test_what_cannot_be_measured_is_refused(runs: Path, networks: list[str], words: list[str], message: str) -> None:
    """One sentence on stderr and exit code 2."""
    assert message in rampart(runs, *(word.format(*networks) for word in words), code=2)
