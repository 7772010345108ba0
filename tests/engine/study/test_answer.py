"""Results and answers of studies, from finished runs whose accuracies the tests choose, through the run log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.run.folder import RunFolder
from engine.study import actions
from engine.study.estimate import Durations, estimate
from engine.study.overview import Overview, read_overview
from engine.study.parsing import from_text
from engine.study.questions import SIZES, recipes
from engine.study.report import FORMATS, export, headers, rows
from tests.engine.run.processes import without_supervisor
from tests.study_runs import Accuracy, finish_study

STUDY = """
question: Does lambda matter?
dataset: digits
preset: smoke
search_seeds: 5
arms:
  - {name: A, retrain: {genotype: ARNAS}}
  - {name: B, retrain: {genotype: ADVRUSH}}
"""


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Path]:
    yield without_supervisor(tmp_path / "runs")


def studied(runs: Path, accuracy: Accuracy, text: str = STUDY, most: int = 10_000) -> Overview:
    study_id = actions.launch(runs, from_text(text))
    finish_study(runs, study_id, accuracy, most=most)
    return read_overview(runs, study_id)


def test_an_arm_that_is_better_for_every_seed_beats_the_other(runs: Path) -> None:
    """Five seeds against five without overlap: the permutation test has p = 2/252."""
    overview = studied(runs, lambda arm, seed, index: (40 if arm == "A" else 20) + seed)
    assert overview.status == "finished" and not overview.answer.provisional and overview.answer.claims
    contrast = overview.answer.contrasts[0]
    assert contrast.p == pytest.approx(2 / 252) and contrast.difference == pytest.approx(20 / 64)
    assert overview.answer.headline.startswith("A beats B by 31.2 points")
    assert "worst-case accuracy under FGSM and PGD-20" in overview.answer.headline


def test_arms_that_overlap_cannot_be_told_apart(runs: Path) -> None:
    overview = studied(runs, lambda arm, seed, index: 30 + (seed if arm == "A" else 4 - seed))
    assert "cannot be told apart" in overview.answer.headline and "no difference" not in overview.answer.headline


def test_fewer_than_five_seeds_make_no_claim(runs: Path) -> None:
    four = STUDY.replace("search_seeds: 5", "search_seeds: 4")
    overview = studied(runs, lambda arm, seed, index: 60 if arm == "A" else 1, four)
    assert overview.answer.headline.startswith("Demonstration, no claim") and not overview.answer.claims
    assert any("at least 5 search seeds" in note for note in overview.answer.notes)


def test_arms_with_equal_means_are_not_taken_for_one(runs: Path) -> None:
    three = STUDY.replace("search_seeds: 5", "search_seeds: 2") + "  - {name: C, retrain: {genotype: RACL}}\n"
    overview = studied(runs, lambda arm, seed, index: 30, three)
    assert "all arms with results have the same mean (46.9 %)" in overview.answer.headline


def test_a_headline_of_several_contrasts_has_numbers(runs: Path) -> None:
    three = STUDY + "  - {name: C, retrain: {genotype: RACL}}\n"
    overview = studied(runs, lambda arm, seed, index: {"A": 40, "B": 20, "C": 38}[arm] + seed, three)
    assert "A beats B by 31.2 points (95 %: " in overview.answer.headline
    assert "A and C cannot be told apart (95 %: " in overview.answer.headline


def test_an_answer_is_provisional_until_every_cell_is_finished(runs: Path) -> None:
    overview = studied(runs, lambda arm, seed, index: 30, most=6)
    assert overview.answer.provisional and 0 < overview.results.done < 10 and overview.status == "waiting"


def test_retrainings_average_within_their_search_seed(runs: Path) -> None:
    overview = studied(runs, lambda arm, seed, index: 32 + (8 if index else -8), STUDY.replace("search_seeds: 5",
                                                                                              "search_seeds: 2\nretrainings: 2"))
    assert overview.results.arms["A"].units == [[24 / 64, 40 / 64]] * 2


def test_unreadable_outcomes_cost_the_bootstrap_and_not_the_answer(runs: Path) -> None:
    overview = studied(runs, lambda arm, seed, index: (40 if arm == "A" else 20) + seed)
    cell = overview.results.arms["A"].cells[0]
    (RunFolder(runs, cell.run).results / "outcomes.parquet").write_bytes(b"damaged")
    again = read_overview(runs, overview.study.id)
    assert again.answer.headline == overview.answer.headline and again.answer.contrasts[0].bootstrap is None
    assert overview.answer.contrasts[0].bootstrap is not None and any(cell.run in note for note in again.answer.notes)


def test_extensions_after_results_are_named_in_the_answer(runs: Path) -> None:
    study_id = actions.launch(runs, from_text(STUDY))
    finish_study(runs, study_id)
    actions.extend(runs, study_id, 1)
    assert any("after results were known" in note for note in read_overview(runs, study_id).answer.notes)


def test_every_report_has_the_question_the_answer_and_every_arm(runs: Path) -> None:
    overview = studied(runs, lambda arm, seed, index: 30 + seed)
    for form in FORMATS:
        text = export(overview.results, overview.answer, form).decode()
        assert "Does lambda matter?" in text and "cannot be told apart" in text, form
    content = json.loads(export(overview.results, overview.answer, "json"))
    assert content["done"] == content["cells_total"] == 10 and set(content["arms"]) == {"A", "B"}
    assert content["cells"][0]["result"]["endpoint"]["images"] == 64


def test_further_attacks_have_a_column_of_their_own(runs: Path) -> None:
    overview = studied(runs, lambda arm, seed, index: 20 + seed, STUDY + "attacks: {weaker: {attacks: [fgsm]}}\n")
    assert headers(overview.results)[4] == "weaker: Worst case"
    assert [row[4].split()[0] for row in rows(overview.results)] == ["34.4", "34.4"], "22 of 64 images on average"
    text = export(overview.results, overview.answer, "markdown").decode()
    assert "weaker: Worst case" in text and "Bootstrap interval" in text


def test_a_ranking_correlates_measures_with_the_endpoint(runs: Path) -> None:
    """The endpoint equals one of the measures, so their tau is 1."""
    text = STUDY + "analysis: ranking\nmeasures: [PGD-20, natural accuracy]\n"
    overview = studied(runs, lambda arm, seed, index: 20 + seed + (5 if arm == "A" else 0), text)
    taus = {(one.first, bool(one.given)): one.tau for one in overview.answer.correlations}
    assert taus["PGD-20", False] == pytest.approx(1.0)
    assert taus["natural accuracy", False] is None, "natural accuracy is the same for all networks"


def test_the_estimate_counts_shared_searches_once_and_falls_to_zero(runs: Path) -> None:
    study = from_text(STUDY.replace("{name: A, retrain: {genotype: ARNAS}}", "{name: A, method: arnas}")
                      .replace("search_seeds: 5", "search_seeds: 2\nretrainings: 3"))
    before = estimate(study, Durations(runs))
    assert before.runs == 2 * (1 + 3 + 3) + 2 * (3 + 3) and before.seconds is None, "smoke runs have no known duration yet"
    study_id = actions.launch(runs, study)
    finish_study(runs, study_id)
    again = estimate(study, Durations(runs), slots=2)
    assert again.measured and again.core_seconds == pytest.approx(2 * again.seconds)
    assert read_overview(runs, study_id).left.seconds == 0


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", list(recipes()))
def test_every_question_makes_a_study(name: str, size: str) -> None:
    recipe = recipes()[name]
    study = recipe.study(size, source="cifar10" if recipe.needs_source else "")
    assert study.question.endswith("?") and study.cells()
    if size == "full" and study.analysis == "contrasts":
        assert len(study.search_seeds) >= 5 and study.retrainings >= 2
