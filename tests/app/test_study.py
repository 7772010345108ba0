"""The Study page in every state: answer, matrix, charts, contrasts, votes, buttons and files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app import session
from engine.study import actions
from engine.study.deletion import delete
from engine.study.folder import StudyFolder, study_ids
from engine.study.overview import cells_of
from engine.study.parsing import from_text
from tests.app.conftest import Samples
from tests.app.pages import component_data, download_labels, open_page, text_of
from tests.sample_studies import fail_one, finish, two_arms


def study_page(samples: Samples, state: str, **query: str) -> AppTest:
    page = open_page("study", id=samples.ids[state], **query)
    assert not page.exception, [error.value for error in page.exception]
    return page


def answer_of(page: AppTest) -> str:
    """Return the box with the answer and its marks as text."""
    box = re.search(r'<section class="rp-answer".*?</section>', text_of(page), re.DOTALL)
    assert box
    return re.sub(r"<[^>]*>", " ", box[0])


def charts(page: AppTest) -> dict[str, dict[str, object]]:
    return {data["name"]: json.loads(data["figure"]) for data in component_data(page, "rampart_live_plot")}


def buttons(page: AppTest) -> set[str]:
    return {button.key for button in page.button if button.key}


def test_without_an_id_or_with_an_unknown_one_the_page_says_so(empty: Path) -> None:
    assert "No study selected" in text_of(open_page("study"))
    page = open_page("study", id="20261126-0000-nothing-digits-0000")
    assert not page.exception and "There is no study" in text_of(page)
    assert "id of a study looks like" in text_of(open_page("study", id="../etc"))


def test_the_first_contrast_leads_and_the_others_follow_as_a_list(sample_studies: Samples) -> None:
    text = text_of(study_page(sample_studies, "finished"))
    box = text[text.index('<section class="rp-answer"'):].split("</section>")[0]
    assert re.search(r"<p>In worst-case accuracy [^<]*MGDA[^<]*\.</p><ul><li>[^<]*Hand-made network[^<]*\.</li></ul>$", box)


def test_the_answer_of_a_finished_study_is_final_and_comes_first(sample_studies: Samples) -> None:
    page = study_page(sample_studies, "finished")
    text = text_of(page)
    assert "Final" in answer_of(page) and "MGDA beat Fixed coefficient 0.5" in answer_of(page)
    assert "Provisional" not in answer_of(page) and "Demonstration" not in answer_of(page)
    assert text.index('class="rp-title"') < text.index('class="rp-answer"') < text.index('class="rp-section">Cells')
    assert buttons(page) >= {"study.extend", "study.edit", "study.delete"}
    assert not buttons(page) & {"study.stop", "study.resume", "study.again"}


def test_a_demonstration_says_that_it_claims_nothing(sample_studies: Samples) -> None:
    answer = answer_of(study_page(sample_studies, "demonstration"))
    assert "Demonstration, no claim" in answer and "Provisional" not in answer and "the highest mean is that of" in answer


@pytest.mark.parametrize(("state", "action"), [("running", "study.stop"), ("waiting", "study.stop"), ("failed", "study.again"),
                                               ("stopped", "study.resume")])
def test_an_unfinished_study_is_provisional_and_offers_its_action(sample_studies: Samples, state: str, action: str) -> None:
    page = study_page(sample_studies, state)
    assert "Provisional" in answer_of(page) and f'data-status="{state}"' in text_of(page)
    offered = {"study.stop", "study.resume", "study.again"} & buttons(page)
    assert offered == {action}


def test_the_matrix_shows_state_and_value_and_leads_to_the_run(sample_studies: Samples) -> None:
    text = text_of(study_page(sample_studies, "running"))
    cells = {(state.cell.arm, state.cell.search_seed): state
             for state in cells_of(sample_studies.root, sample_studies.ids["running"])}
    assert f'href="run?id={cells["MGDA", 20].attack.run}"' in text
    assert "Search 30 %" in text and text.count(">waiting<") == 11
    assert "↺ reused, 20" in text, "runs of another study have their date"
    assert 'aria-label="MGDA, seed 20: finished, 61.4 % (56.3 to 66.3), 360 images"' in text
    assert '<span class="rp-num">61.4 %</span></span><span class="rp-label rp-num">56.3 to 66.3</span>' in text
    matrix = text[text.index('aria-label="Cells of the study"'):]
    assert matrix.count('<th scope="col"') >= 7 and "Seed 24" in matrix


def test_retrainings_have_columns_of_their_own(sample_studies: Samples) -> None:
    text = text_of(study_page(sample_studies, "finished"))
    assert '<th scope="col" colspan="2">Seed 4</th>' in text and text.count(">Retraining 2<") == 5


def test_failed_cells_say_why_and_link_to_the_run(sample_studies: Samples) -> None:
    text = text_of(study_page(sample_studies, "failed"))
    assert "3 cells failed" in text and "Out of memory." in text and "Search failed" in text and "Retrain failed" in text


def test_charts_and_tables_hold_the_results(sample_studies: Samples) -> None:
    study_id = sample_studies.ids["finished"]
    page = study_page(sample_studies, "finished")
    drawn = charts(page)
    assert {f"study_strip_{study_id}", f"study_front_{study_id}", "study_votes_robust"} <= set(drawn)
    text = text_of(page)
    assert "Worst-case accuracy under FGSM and PGD-20" in text and "1.32 million" in text
    for words in ("Welch interval", "Bootstrap interval", "Adjusted p", "first is better", "cannot be told apart", "exact",
                  "× 0.91"):
        assert words in text, words
    assert "5 and 5" in text, "the units are the search seeds"
    assert "Two seeds agree on" in text


def test_the_arm_of_the_votes_stands_in_the_address(sample_studies: Samples) -> None:
    page = study_page(sample_studies, "finished")
    assert page.selectbox(key="study.arm").options == ["MGDA: 5 genotypes", "Fixed coefficient 0.5: 5 genotypes"]
    page.selectbox(key="study.arm").set_value("Fixed coefficient 0.5").run()
    assert page.query_params["arm"] == "Fixed coefficient 0.5"
    assert study_page(sample_studies, "finished", arm="Fixed coefficient 0.5").selectbox(key="study.arm").value == (
        "Fixed coefficient 0.5")


def test_a_waiting_study_explains_what_will_come_and_how_long_it_takes(sample_studies: Samples) -> None:
    page = study_page(sample_studies, "waiting")
    text = text_of(page)
    assert "No result yet" in text and "No cell has its result yet." in answer_of(page) and "16 runs to go" in text
    assert "0 of 6 cells" in text and not charts(page)


def test_stop_and_resume(sample_studies: Samples) -> None:
    page = study_page(sample_studies, "waiting")
    page.button(key="study.stop").click().run()
    assert not page.exception and "Stopping: each run writes a checkpoint" in text_of(page)
    assert StudyFolder(sample_studies.root, sample_studies.ids["waiting"]).is_stopped
    page.button(key="study.resume").click().run()
    assert not page.exception and "Resuming: the study continues." in text_of(page)
    assert not StudyFolder(sample_studies.root, sample_studies.ids["waiting"]).is_stopped


def test_failed_cells_can_be_tried_again(sample_studies: Samples) -> None:
    page = study_page(sample_studies, "failed")
    page.button(key="study.again").click().run()
    assert not page.exception and "The failed runs continue." in text_of(page)
    assert 'data-status="waiting"' in text_of(page)


def test_a_failed_cell_can_be_tried_again_while_others_wait(empty: Path) -> None:
    study_id = actions.launch(empty, two_arms())
    fail_one(empty, study_id)
    page = open_page("study", id=study_id)
    assert {"study.stop", "study.again"} <= buttons(page) and "1 cell failed" in text_of(page)


def test_extend_adds_seeds_and_records_that_results_were_known(sample_studies: Samples) -> None:
    page = study_page(sample_studies, "finished")
    page.number_input(key="study.seeds").set_value(2).run()
    assert page.button(key="study.extend").label == "Extend by 2 seeds: 12 more cells"
    page.button(key="study.extend").click().run()
    assert not page.exception and "Extended by 2 search seeds." in text_of(page)
    folder = StudyFolder(sample_studies.root, sample_studies.ids["finished"])
    assert folder.read().search_seeds == (0, 1, 2, 3, 4, 5, 6) and folder.extensions()[0].looked
    assert "30 of 42 cells" in text_of(page) and "after results were known" in text_of(page)


def test_duplicate_opens_the_editor_with_a_copy(sample_studies: Samples) -> None:
    page = study_page(sample_studies, "demonstration")
    page.button(key="study.edit").click().run()
    assert not page.exception and page.query_params["edit"] == sample_studies.ids["demonstration"]
    assert "Does a small study work?" in [field.value for field in page.text_input]


def test_delete_keeps_the_runs_unless_the_user_ticks_the_box(sample_studies: Samples) -> None:
    root, study_id = sample_studies.root, sample_studies.ids["demonstration"]
    runs = {path.name for path in root.glob("*-digits-*") if path.is_dir()}
    page = study_page(sample_studies, "demonstration")
    page.button(key="study.delete").click().run()
    assert not page.exception and "is deleted; its runs are kept" in "".join(one.value for one in page.success)
    assert study_id not in study_ids(root) and {path.name for path in root.glob("*-digits-*") if path.is_dir()} == runs


def test_delete_with_its_runs_keeps_those_of_other_studies(sample_studies: Samples) -> None:
    root = sample_studies.root
    before = len(list(root.glob("*-attack-digits-*")))
    page = study_page(sample_studies, "finished")
    page.checkbox(key="study.with_runs").check().run()
    page.button(key="study.delete").click().run()
    assert not page.exception
    # All six studies have a seed 0, whose runs they share, so only those of the seeds 1 to 4 go, and seed 1 is in two studies.
    assert before - len(list(root.glob("*-attack-digits-*"))) == 3 * (5 * 2 - 2)
    session.hub().refresh()
    assert "of 18 cells" in text_of(study_page(sample_studies, "running"))


def test_a_busy_study_cannot_be_deleted(sample_studies: Samples) -> None:
    page = study_page(sample_studies, "running")
    (menu,) = [one.proto.popover for one in page.get("popover") if one.proto.popover.label == "Delete"] or [None]
    assert menu is None or menu.disabled
    with pytest.raises(Exception, match="none of its runs waits or runs"):
        delete(sample_studies.root, sample_studies.ids["running"], with_runs=False)


def test_files_and_commands_are_offered(sample_studies: Samples) -> None:
    page = study_page(sample_studies, "finished")
    assert download_labels(page) == ["Markdown", "LaTeX", "JSON", "The study (YAML)", "Paper pack (ZIP)"]
    assert f"study report {sample_studies.ids['finished']} --form markdown --runs {sample_studies.root}" in text_of(page)


def test_a_result_appears_without_a_reload(empty: Path) -> None:
    study_id = actions.launch(empty, two_arms())
    page = open_page("study", id=study_id)
    assert "0 of 6 cells" in text_of(page)
    finish(empty, study_id, lambda state: state.cell.search_seed == 0)
    session.hub().refresh()
    page.run()
    assert not page.exception and "3 of 6 cells" in text_of(page) and len(charts(page)) == 5


def test_a_cell_tells_its_intervals_size_and_reliability(sample_studies: Samples) -> None:
    text = text_of(study_page(sample_studies, "finished"))
    assert re.search(r'title="\d+\.\d % \(\d+\.\d to \d+\.\d\), 360 images\nnatural \d+\.\d % .*\nreliability ', text)


RANKING = """\
question: Does PGD-20 rank networks like the worst case?
dataset: digits
preset: quick
search_seeds: 10
retrainings: 2
analysis: ranking
measures: [PGD-20, natural accuracy]
arms:
  - {name: MGDA, method: arnas, attack: {attacks: [fgsm, pgd-20], certify: false, sweep_radii: null}}
  - {name: Hand-made network, retrain: {network: wide-resnet-10-1}, seeds: 1,
     attack: {attacks: [fgsm, pgd-20], certify: false, sweep_radii: null}}
"""


def test_a_ranking_shows_the_correlation_of_every_measure(empty: Path) -> None:
    study_id = actions.launch(empty, from_text(RANKING))
    finish(empty, study_id)
    page = open_page("study", id=study_id, measure="natural accuracy")
    assert not page.exception, [error.value for error in page.exception]
    text = text_of(page)
    assert "Rankings" in text and "11 networks with all measures" in text and "Beyond counting" in text
    assert "Kendall" in text and "+1.00" in text, "the worst case is PGD-20 on every image"
    figure = charts(page)[f"study_ranking_{study_id}_natural accuracy"]
    assert "search seed 9, mean of 2 retrainings" in json.dumps(figure) and len(figure["data"][0]["x"]) == 10
    assert "Natural accuracy (%)" in json.dumps(figure) and "Contrasts" not in text
