"""The verb `study`: what it says before and after a launch, and that no flag or file is accepted without an effect."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import pytest

from engine.cli import main
from engine.study import actions
from engine.study.folder import study_ids, study_named
from engine.study.parsing import from_text
from engine.study.power import Spread, power_of
from engine.study.questions import recipes
from tests.engine.run.processes import without_supervisor
from tests.engine.study.test_planning import TWO_ARMS
from tests.sample_studies import finish_study

Said = Callable[..., tuple[int, str]]
FEW = TWO_ARMS.replace("search_seeds: 2", "search_seeds: 4")


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    root = without_supervisor(tmp_path / "runs")
    monkeypatch.setenv("RAMPART_RUNS", str(root))
    yield root


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """Return a function that runs `rampart study` with some words and returns (exit code, everything that was printed)."""
    def call(*words: object) -> tuple[int, str]:
        code = main(["study", *map(str, words)])
        return code, "".join(capsys.readouterr())
    return call


def test_few_seeds_are_a_demonstration_and_smoke_has_a_duration(runs: Path, said: Said, tmp_path: Path) -> None:
    file = tmp_path / "few.yaml"
    file.write_text(FEW)
    code, words = said("new", file)
    assert code == 0 and re.search(r"40 runs, (about|under) \d+ min; detects nothing: demonstration, no claim\.", words)
    assert "at least 5 search seeds in both arms of a contrast, and here an arm has 4" in words and "points" not in words


def test_a_duration_that_nobody_knows_says_which_run_would_tell(runs: Path, said: Said, tmp_path: Path) -> None:
    file = tmp_path / "few.yaml"
    file.write_text(FEW.replace("preset: smoke", "preset: scout"))
    words = said("new", file)[1]
    assert "not known yet: no search by ARNAS, no retraining and no attack with preset scout on Digits 8x8 has finished" in words


def test_a_contrast_with_too_few_seeds_is_named_beside_those_that_may_claim() -> None:
    arms = "\n".join(f"  - {{name: {name}, method: {name}{seeds}}}" for name, seeds in (
        ("arnas", ""), ("dsara", ""), ("advrush", ", seeds: 3")))
    study = from_text(f"question: Q?\ndataset: digits\npreset: smoke\nsearch_seeds: 6\narms:\n{arms}\n")
    power = power_of(study, Spread(0.02, 0))
    assert power and (power.contrasts, power.claims, power.units) == (2, 1, 3) and power.difference


def test_any_question_takes_a_number_of_seeds(runs: Path, said: Said) -> None:
    code, words = said("new", "space", "--seeds", "3", "--print")
    assert code == 0 and json.loads(words)["search_seeds"] == [0, 1, 2]
    code, words = said("new", "space", "--seeds", "0", "--print")
    assert code == 2 and words.startswith("search_seeds of a study must be 1 to 100 seeds, got 0")


def test_the_demonstration_of_every_question_takes_every_preset(runs: Path, said: Said) -> None:
    for name, preset in product(recipes(), ("quick", "smoke")):
        code, words = said("new", name, "--preset", preset, "--print")
        assert code == 0 and json.loads(words)["preset"] == preset


@pytest.mark.parametrize(("dataset", "preset", "epochs"), [
    ("digits", "quick", 16), ("digits", "smoke", 2), ("cifar10", "paper", 50)])
def test_the_switch_half_way_is_half_way_with_every_preset(dataset: str, preset: str, epochs: int) -> None:
    search = recipes()["stages"].study("full", dataset, preset=preset).settled().arm("Switch half way").settings["search"]
    assert search["epochs"] == epochs and search["switch_epoch"] == epochs // 2 - 1, "the epochs 0 to switch_epoch are stage 1"


@pytest.mark.parametrize(("words", "refusal"), [
    (("new", "random", "--source", "mnist5k"), "--source belongs to a question that transfers cells between datasets (transfer)"),
    (("new", "FILE", "--dataset", "mnist5k"), "write dataset in the file"),
    (("new", "FILE", "--seeds", "3"), "write search_seeds in the file"),
    (("new", "FILE", "--size", "full"), "leave it out"),
    (("show", "FILE", "--seeds", "3"), "--seeds belongs to study new and study extend, got it with study show"),
    (("list", "--with-runs"), "--with-runs belongs to study delete"),
    (("list", "space"), "study list takes no name"),
])
def test_a_flag_without_effect_is_refused(runs: Path, said: Said, tmp_path: Path, words: tuple[str, ...], refusal: str) -> None:
    file = tmp_path / "few.yaml"
    file.write_text(FEW)
    code, printed = said(*(file if word == "FILE" else word for word in words))
    assert code == 2 and refusal in printed and study_ids(runs) == []


def test_print_and_launch_refuse_the_same_genotype(runs: Path, said: Said, tmp_path: Path) -> None:
    file = tmp_path / "unknown.yaml"
    file.write_text(TWO_ARMS + "  - {name: C, retrain: {genotype: ARNSA}}\n")
    printed, launched = said("new", file, "--print"), said("new", file)
    assert printed == launched and printed[0] == 2 and printed[1].startswith("Arm C: ") and "ARNSA" in printed[1]


def test_files_and_numbers_that_cannot_work_are_named(runs: Path, said: Said, tmp_path: Path) -> None:
    study_id = actions.launch(runs, from_text(TWO_ARMS))
    missing = tmp_path / "missing" / "study.md"
    for action in ("report", "pack"):
        words = said(action, study_id, "--out", missing)[1]
        assert f"could not be written to {missing} (No such file or directory); choose another --out" in words
    assert said("extend", study_id, "--seeds", "-1") == (
        2, "An extension needs 1 or more search seeds, got -1; give a larger number.\n")
    assert study_named(runs, study_id).extensions() == []
    assert said("extend", study_id, "--seeds", "2") == (0, f"{study_id}  extended by 2 search seeds\n")


def test_run_says_that_a_finished_study_has_nothing_to_run(runs: Path, said: Said) -> None:
    study_id = actions.launch(runs, from_text(TWO_ARMS))
    assert said("run", study_id) == (0, f"{study_id}  continues\n")
    finish_study(runs, study_id)
    actions.advance(runs, study_id)
    assert said("run", study_id) == (0, f"{study_id}  was finished already; nothing changed\n")
