"""Results and answers of studies, from finished runs whose accuracies the tests choose, through the run log."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from scipy import stats

from app.components.study_results import arms_note
from engine.attack.statistics import wilson
from engine.cli import main
from engine.run.folder import RunFolder
from engine.study import actions
from engine.study.answer import _notes
from engine.study.estimate import Durations, estimate
from engine.study.means import mean_of
from engine.study.overview import Overview, read_overview
from engine.study.parsing import from_text
from engine.study.power import Spread, power_of
from engine.study.questions import SIZES, recipes, sources_for
from engine.study.report import FORMATS, export, headers, rows, table_intervals
from engine.study.results import ArmResult, Results
from tests.engine.run.processes import without_supervisor
from tests.sample_studies import Outcome, finish_study

STUDY = """
question: Does lambda matter?
dataset: digits
preset: smoke
search_seeds: 5
arms:
  - {name: A, retrain: {genotype: ARNAS}}
  - {name: B, retrain: {genotype: ADVRUSH}}
"""

Accuracy = Callable[[str, int, int], int]  # (arm, search seed, index of the retraining) -> correct images of 64


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Path]:
    yield without_supervisor(tmp_path / "runs")


def studied(runs: Path, accuracy: Accuracy, text: str = STUDY, most: int = 10_000) -> Overview:
    study_id = actions.launch(runs, from_text(text))
    finish_study(runs, study_id, lambda cell: Outcome(accuracy(cell.arm, cell.search_seed, cell.index)), most=most)
    return read_overview(runs, study_id)


def test_an_arm_that_is_better_for_every_seed_beats_the_other(runs: Path) -> None:
    """Five seeds against five without overlap: the permutation test has p = 2/252."""
    overview = studied(runs, lambda arm, seed, index: (40 if arm == "A" else 20) + seed)
    assert overview.status == "finished" and not overview.answer.provisional and overview.answer.claims
    contrast = overview.answer.contrasts[0]
    assert contrast.p == pytest.approx(2 / 252) and contrast.difference == pytest.approx(20 / 64)
    assert overview.answer.headline.startswith("A beat B by 31.2 points")
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
    assert ("all arms with results have the same mean, 46.9 % (95 %: 35.2 to 58.9; 64 images of each network)"
            in overview.answer.headline)


def test_a_demonstration_names_its_means_with_intervals_and_protocol(runs: Path) -> None:
    three = STUDY.replace("search_seeds: 5", "search_seeds: 3") + "  - {name: C, retrain: {genotype: RACL}}\n"
    answer = studied(runs, lambda arm, seed, index: {"A": 40, "B": 20, "C": 30}[arm] + seed, three).answer
    means = [100 * value / 64 for value in (41, 21)]
    half = 100 / 64 / 3 ** 0.5 * stats.t.ppf(0.975, 2)
    best, worst = (f"{mean:.1f} % (95 %: {mean - half:.1f} to {mean + half:.1f}; 3 search seeds)" for mean in means)
    assert answer.headline == (f"Demonstration, no claim: in worst-case accuracy under FGSM and PGD-20 (L∞ 0.15, 64 images), the "
                               f"highest mean is that of A, {best}, and the lowest that of B, {worst}.")


def test_one_search_seed_has_the_wilson_interval_of_its_networks(
        runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The mean of the retrainings of one search seed spans their intervals, so no mean is without one."""
    overview = studied(runs, lambda arm, seed, index: 24 + 16 * index,
                       STUDY.replace("search_seeds: 5", "search_seeds: 1\nretrainings: 2"))
    mean = mean_of(overview.results.arms["A"].measured("endpoint"))
    low, high = wilson(24, 64)[0], wilson(40, 64)[1]
    assert mean and (mean.value, mean.low, mean.high, mean.images) == pytest.approx((0.5, low, high, 64))
    named = f"{100 * low:.1f} to {100 * high:.1f}, Wilson)"
    text = export(overview.results, overview.answer, "markdown").decode()
    assert named in text and "95 % intervals (Wilson over images" in text.replace("\\", "") and "t over" not in text
    assert "Intervals: Wilson over images" in arms_note(overview.results)
    assert main(["study", "show", overview.study.id, "--runs", str(runs)]) == 0
    shown = capsys.readouterr().out
    assert named in shown and "with 95 % intervals (Wilson over images" in shown


def test_a_wilson_interval_of_natural_alone_is_explained(runs: Path) -> None:
    """All seeds have the same natural accuracy and different accuracies under attack."""
    overview = studied(runs, lambda arm, seed, index: 30 + seed)
    arm = overview.results.arms["A"]
    endpoint, natural = (mean_of(arm.measured(name)) for name in ("endpoint", "natural"))
    assert endpoint and natural and (endpoint.interval, natural.interval) == ("t", "Wilson")
    words = "t over search seeds; Wilson over images, the range of the networks"
    assert words in arms_note(overview.results) and words in table_intervals(overview.results)


def test_the_margin_of_a_demonstration_is_in_every_report(runs: Path) -> None:
    text = STUDY.replace("search_seeds: 5", "search_seeds: 2\nmargin: 0.03")
    overview = studied(runs, lambda arm, seed, index: 30 + seed, text)
    assert not overview.answer.claims
    declared = "Declared margin: 3.0 points"
    for form, words in {"markdown": declared, "latex": declared, "json": '"margin": 0.03'}.items():
        assert words in export(overview.results, overview.answer, form).decode()


def test_the_ratio_of_macs_is_one_number_everywhere(runs: Path) -> None:
    """Cells divide the MACs of two networks, all else the means of two arms: networks of 1, 2 and 3 against 2, 2 and 2."""
    study_id = actions.launch(runs, from_text(STUDY.replace("search_seeds: 5", "search_seeds: 3")
                                               + "match: macs\nreference: A\n"))
    finish_study(runs, study_id, lambda cell: Outcome(30 + cell.search_seed, macs=1_000_000 * (
        (2, 1, 3)[cell.search_seed] if cell.arm == "A" else 2)))
    overview = read_overview(runs, study_id)
    results, second = overview.results, overview.results.arms["B"]
    assert results.arm_ratios(second) == pytest.approx([1, 2, 2 / 3]), "whose mean is 1.22"
    assert results.arm_ratio(second) == overview.answer.contrasts[0].macs_ratio == 1
    assert [row[headers(results).index("MACs against A")] for row in rows(results)] == ["× 1.00", "× 1.00"]
    content = json.loads(export(results, overview.answer, "json"))
    assert [(arm["endpoint"]["images"], arm["endpoint"]["interval"]) for arm in content["arms"].values()] == [(64, "t")] * 2
    assert content["arms"]["B"]["macs_ratio"] == content["answer"]["contrasts"][0]["macs_ratio"] == 1
    assert any("0.67 to 2.00 times the MACs of that arm's network with the same seeds" in note for note in overview.answer.notes)


def test_equal_ratios_and_repeated_extensions_are_said_once(runs: Path) -> None:
    matched = STUDY.replace("search_seeds: 5", "search_seeds: 2") + "match: macs\nreference: A\n"
    study_id = actions.launch(runs, from_text(matched))
    actions.extend(runs, study_id, 1)
    finish_study(runs, study_id, lambda cell: Outcome(30 + cell.search_seed, macs=970 if cell.arm == "B" else 1000))
    for _ in range(2):
        actions.extend(runs, study_id, 1)
    notes = read_overview(runs, study_id).answer.notes
    assert any("the networks have 0.97 times the MACs" in note for note in notes)
    assert [note for note in notes if note.startswith("Extended")] == [
        "Extended by 1 search seed.",
        "Extended 2 times by 1 and 1 search seeds, after results were known, which raises the rate of false claims."]


def test_a_headline_of_several_contrasts_has_numbers(runs: Path) -> None:
    three = STUDY + "  - {name: C, retrain: {genotype: RACL}}\n"
    overview = studied(runs, lambda arm, seed, index: {"A": 40, "B": 20, "C": 38}[arm] + seed, three)
    assert "A beat B by 31.2 points (95 %: " in overview.answer.headline
    assert "A and C cannot be told apart (95 %: " in overview.answer.headline
    first, second = overview.answer.parts
    assert overview.answer.headline == f"{first}; {second}." and first.startswith("In worst-case accuracy under FGSM and PGD-20")


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


def test_arms_whose_attacks_differ_in_no_result_share_a_protocol(runs: Path) -> None:
    """The batch size is part of the recorded protocol, because attacks draw random numbers by block, and separates no arms."""
    text = STUDY.replace("ADVRUSH}", "ADVRUSH}, attack: {batch_size: 16, worst_case_only: true}")
    results = studied(runs, lambda arm, seed, index: 30 + seed, text).results
    assert not results.apart and [len(arm.cells) for arm in results.arms.values()] == [5, 5]
    assert len({cell.protocol for arm in results.arms.values() for cell in arm.cells}) == 2


def test_the_latex_report_has_two_tables_with_short_captions_and_proper_minus_signs(runs: Path) -> None:
    overview = studied(runs, lambda arm, seed, index: 30 + (seed if arm == "A" else 4 - seed))
    text = export(overview.results, overview.answer, "latex").decode()
    tables = re.findall(r"\\begin{table}.*?\\end{table}", text, re.S)
    assert len(tables) == 2 and "A minus B" in tables[1]
    for table in tables:
        caption = re.findall(r"\\caption{(.*)}\n", table)[0]
        assert len(caption) < 320 and "cannot be told apart" not in caption
        columns = len(re.findall(r"\\begin{tabular}{(l r*|lr*)}", table)[0])
        body = table.partition(r"\toprule")[2].partition(r"\bottomrule")[0]
        lines = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert len(lines) >= 2 and all(len(re.split(r"(?<!\\)&", line)) == columns for line in lines)
        assert table.count("{") == table.count("}") and table.count(r"\begin") == table.count(r"\end{")
    assert re.search(r"\\end{tabular}\n  \\par\\smallskip\n  {\\footnotesize .*cannot be told apart.*\\par}", tables[0])
    assert len(set(re.findall(r"\\label{.*}", text))) == 2
    assert "$-$" in tables[1] and not re.search(r"(?<![\w-])-\d", text), "no hyphen stands for a minus"
    assert re.search(r"\(\d+\.\d--\d+\.\d\)", tables[0]), "intervals of accuracies have an en dash"


def test_the_markdown_report_has_proper_minus_signs(runs: Path) -> None:
    overview = studied(runs, lambda arm, seed, index: 30 + (seed if arm == "A" else 4 - seed))
    text = export(overview.results, overview.answer, "markdown").decode()
    assert "| A minus B | 5 and 5 | 0.0 | −" in text and not re.search(r"(?<![\w-])-\d", text)


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


def test_a_ranking_compares_the_means_over_retrainings(runs: Path) -> None:
    """Single retrainings would rank the networks of A in the opposite order; the means are what scipy correlates."""
    text = (STUDY.replace("search_seeds: 5", "search_seeds: 6\nretrainings: 2\nmeasures: [PGD-20, FGSM]\nanalysis: ranking\n"
                          "endpoint: fgsm") .replace("genotype: ARNAS}", "genotype: ARNAS}, seeds: 5"))
    correct = {(arm, seed, index): 20 + (40 - 9 * seed if index else 11 * seed) // 2 + (3 * seed if arm == "B" else 0)
               for arm in "AB" for seed in range(6) for index in range(2)}
    overview = studied(runs, lambda *place: correct[place], text)
    cells = [one for arm in overview.results.arms.values() for one in arm.network_measures]
    assert len(cells) == 11 and {one.architectures for one in overview.answer.correlations} == {11}
    networks = [("A", seed) for seed in range(5)] + [("B", seed) for seed in range(6)]
    assert [one["PGD-20"] for one in cells] == pytest.approx([(correct[*one, 0] + correct[*one, 1]) / 128 for one in networks])
    taus = {one.first: one.tau for one in overview.answer.correlations if not one.given}
    assert taus["PGD-20"] == pytest.approx(stats.kendalltau([one["PGD-20"] for one in cells], [one["FGSM"] for one in cells])[0])


def test_the_estimate_counts_shared_searches_once_and_falls_to_zero(runs: Path) -> None:
    study = from_text(STUDY.replace("{name: A, retrain: {genotype: ARNAS}}", "{name: A, method: arnas}")
                      .replace("search_seeds: 5", "search_seeds: 2\nretrainings: 3"))
    before = estimate(study, Durations(runs))
    assert before.runs == 2 * (1 + 3 + 3) + 2 * (3 + 3) and not before.measured, "the durations come from the table"
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
    assert study.retrainings == (2 if size == "full" else 1)
    if size == "full" and study.analysis == "contrasts":
        assert len(study.search_seeds) >= 5
        power = power_of(study, Spread(0.02, 0))
        assert power and power.smallest_p < 0.05 and power.difference, "so few seeds for so many contrasts can claim nothing"
    if size == "full" and study.analysis == "ranking":
        assert len(study.search_seeds) >= 10 and "over its retrainings" in " ".join(recipe.compares.split())
        single = {arm.name for arm in study.arms if len(study.seeds_of(arm)) < 5}
        assert single <= {"WideResNet-10-1", "Supernet"} and "not ranked" in recipe.compares


def test_the_words_on_the_full_size_hold_for_questions_that_compare_and_that_rank() -> None:
    words = SIZES["full"].words
    assert "at least five search seeds an arm or, where networks are ranked, at least ten. Each is retrained twice." in words


def test_a_transfer_prefers_images_of_another_origin() -> None:
    """The same digits at another size come last, because they would show no transfer."""
    assert sources_for("digits")[0] == "mnist5k" and sources_for("mnist5k")[0] == "digits"
    assert sources_for("digits")[-2:] == ["digits16", "digits32"]


def test_a_question_says_what_a_reader_must_know_about_its_arms() -> None:
    for _, recipe in recipes().items():
        study = recipe.study(source="digits16") if recipe.needs_source else recipe.study()
        results = Results(study, (), {arm.name: ArmResult(arm.name, ()) for arm in study.arms}, "", ())
        notes = [note for note in _notes(results, ()) if note == recipe.remark]
        assert len(notes) == bool(recipe.remark)
    assert "are one and the same search" in recipes()["placement"].remark
