"""The Studies page: the list with its answers, the questions as cards, and the editor of a study of one's own."""

from __future__ import annotations

import json
from html import unescape
from pathlib import Path

import pytest

from app import session, studies
from app.components.study_outlook import power_words, time_words
from app.studies import Outlook, as_text
from engine.errors import RunError
from engine.study import actions
from engine.study.estimate import Durations, estimate
from engine.study.folder import StudyFolder, study_ids
from engine.study.parsing import from_text
from engine.study.power import ASSUMED_SPREAD, Power, Spread, power_of, spread_of
from engine.study.questions import recipes
from tests.app.conftest import Samples
from tests.app.pages import component_data, open_page, text_of
from tests.sample_studies import finish, run_one, two_arms

OWN = """\
question: Is the wide one better?
preset: smoke
dataset: digits
search_seeds: 3
arms:
  - {name: Narrow, method: arnas}
  - {name: Wide, method: arnas, search: {width_ratio: "1:2:4"}}
"""


def test_without_runs_each_question_is_a_card_with_one_launch_button(empty: Path) -> None:
    page = open_page("studies")
    assert not page.exception
    text = text_of(page)
    for name, recipe in recipes().items():
        assert recipe.question.split("'")[0] in text and page.button(key=f"studies.launch.{name}").label == "Launch"
    assert "12 runs in 4 cells: 2 arms × 2 search seeds" in text and "by our own timings" in text
    assert ("nothing: demonstration, no claim. A claim needs at least 5 search seeds in both arms of a contrast, and here an arm "
            "has 2") in text


def test_the_size_and_the_dataset_stand_in_the_address(empty: Path) -> None:
    page = open_page("studies", size="full")
    assert "50 runs in 20 cells: 2 arms × 5 search seeds × 2 retrainings" in text_of(page)
    assert "differences from 4.1 points, at 80 % power and a spread of 2.0 points between search seeds (assumed)" in text_of(page)
    page.segmented_control(key="studies.size").set_value("demo").run()
    assert page.query_params["size"] == "demo" and "12 runs in 4 cells" in text_of(page)
    page.selectbox(key="studies.dataset").set_value("cifar10").run()
    assert not page.exception and page.query_params["dataset"] == "cifar10"
    assert page.button(key="studies.launch.space").disabled and "rampart dataset fetch cifar10" in text_of(page)


def test_one_click_launches_a_question_and_opens_its_study(empty: Path) -> None:
    page = open_page("studies")
    page.button(key="studies.launch.space").click().run()
    assert not page.exception
    (study_id,) = study_ids(empty)
    assert page.query_params["id"] == study_id and StudyFolder(empty, study_id).read().recipe == "space"
    assert "No cell has its result yet." in text_of(page)


def test_a_second_click_opens_the_same_study(empty: Path) -> None:
    page = open_page("studies")
    page.button(key="studies.launch.space").click().run()
    page.switch_page("views/studies.py").run()
    page.button(key="studies.launch.space").click().run()
    assert len(study_ids(empty)) == 1


def test_the_list_shows_every_state_with_its_answer(sample_studies: Samples) -> None:
    page = open_page("studies")
    assert not page.exception
    text = text_of(page)
    for status in ("Waiting", "Running", "Stopped", "Failed", "Finished"):
        assert f"</span>{status}</span>" in text, status
    assert "6 studies" in text and "2 in progress" in text
    assert "MGDA beat Fixed coefficient 0.5 by " in text
    assert text.index("What does a waiting study look like?") < text.index("Does MGDA beat a fixed coefficient?"), "newest first"
    assert f'href="study?id={sample_studies.ids["finished"]}"' in text and ">30 of 30<" in text
    assert text.count("Demonstration, no claim</span>") == 4 and text.count("Final</span>") == 1


def test_a_study_that_cannot_be_read_is_a_sentence_in_the_list(empty: Path) -> None:
    study_id = actions.launch(empty, two_arms())
    file = StudyFolder(empty, study_id).file
    record = json.loads(file.read_text())
    file.with_name("20261126-0000-damaged-digits-0000.json").write_text(json.dumps(record | {"arms": 3}))
    page = open_page("studies")
    assert not page.exception and "arms of a study must be a list, got 3" in text_of(page)
    assert "Does MGDA beat a fixed coefficient?" in text_of(page)


def test_a_study_of_ones_own_shows_its_size_before_the_launch_and_launches(empty: Path) -> None:
    page = open_page("studies", new="own", view="text")
    assert not page.exception and "50 runs in 20 cells" in text_of(page), "it begins with an example"
    page.text_area(key="studies.text").set_value(OWN).run()
    text = text_of(page)
    assert "18 runs in 6 cells: 2 arms × 3 search seeds" in text and "ARNAS, width ratio 1:2:4" in text
    page.text_area(key="studies.text").set_value(OWN.replace("search_seeds: 3", "search_seeds: 4")).run()
    assert "24 runs in 8 cells: 2 arms × 4 search seeds" in text_of(page)
    page.button(key="studies.launch").click().run()
    assert not page.exception
    (study_id,) = study_ids(empty)
    assert StudyFolder(empty, study_id).read().search_seeds == (0, 1, 2, 3) and page.query_params["id"] == study_id


@pytest.mark.parametrize(("text", "words"), [
    ("", "A study must name question"), ("arms: 3", "A study needs question and dataset"),
    ("question: [", "A study must be JSON or YAML and cannot be read (line 1, column 12: "),
    (OWN.replace("width_ratio", "width"), "width"), (OWN.replace("search_seeds: 3", "search_seeds: 0"), "search_seeds")])
def test_an_error_is_a_sentence_and_nothing_can_be_launched(empty: Path, text: str, words: str) -> None:
    page = open_page("studies", new="own", view="text")
    page.text_area(key="studies.text").set_value(text).run()
    assert not page.exception
    box = next(line for line in text_of(page).splitlines() if "rp-problem" in line and "role" in line)
    assert words in unescape(box), box
    assert page.button(key="studies.launch.none").disabled


def test_a_copy_of_a_question_or_of_a_study_opens_in_the_editor(empty: Path) -> None:
    page = open_page("studies")
    page.button(key="studies.edit.random").click().run()
    assert not page.exception and page.query_params["edit"] == "random"
    text = page.session_state["studies.text"]
    asked, edited = recipes()["random"].study("demo", "digits"), from_text(text)
    assert edited.cells() == asked.cells() and edited.contrasts == asked.contrasts and "recipe" not in text
    study_id = actions.launch(empty, two_arms("Copied?"))
    copy = open_page("studies", new="own", view="text", edit=study_id)
    assert from_text(copy.text_area(key="studies.text").value).question == "Copied?"
    assert component_data(copy, "rampart_scroll"), "the browser scrolls to the editor"
    missing = open_page("studies", new="own", view="text", edit="20261126-0000-nothing-digits-0000")
    assert not missing.exception and "There is no study" in text_of(missing)


def test_what_the_user_typed_stays_when_other_choices_change(empty: Path) -> None:
    page = open_page("studies", new="own", view="text")
    page.text_area(key="studies.text").set_value(OWN).run()
    page.segmented_control(key="studies.new").set_value("questions").run()
    page.segmented_control(key="studies.size").set_value("full").run()
    page.segmented_control(key="studies.new").set_value("own").run()
    assert not page.exception and page.text_area(key="studies.text").value == OWN
    page.segmented_control(key="studies.new").set_value("questions").run()
    page.button(key="studies.edit.space").click().run()
    assert "search_seeds: 5" in page.text_area(key="studies.text").value and page.query_params["new"] == "own"


@pytest.mark.parametrize("name", [name for name, _ in recipes().items()])
def test_the_text_of_a_study_is_the_same_study(name: str) -> None:
    study = recipes()[name].study("full", "digits", source="cifar10")
    again = from_text(as_text(study))
    assert again.cells() == study.cells() and again.contrasts == study.contrasts and again.match == study.match
    assert all(again.configurations(again.arm(arm.name)) == study.configurations(arm) for arm in study.arms)
    assert from_text(as_text(two_arms(seeds=[3, 5]))).search_seeds == (3, 5)


def test_an_answer_is_computed_once_per_change_and_shared(sample_studies: Samples, monkeypatch: pytest.MonkeyPatch):
    shared, calls = session.hub().studies, []
    shared.all()
    monkeypatch.setattr(studies, "overview_of", lambda log, study_id: calls.append(study_id))
    for _ in range(2):
        shared.all()
        shared.facts()
    assert not calls


def test_the_signature_of_a_study_follows_its_cells_and_no_other_run(empty: Path) -> None:
    hub = session.hub()
    first, second = actions.launch(empty, two_arms("One?")), actions.launch(empty, two_arms("Two?", seeds=[5, 6]))
    topics = (f"study:{first}", f"study:{second}", "studies")
    before = [hub.signature(topic) for topic in topics]
    assert [hub.signature(topic) for topic in topics] == before
    run_one(empty, second)
    hub.refresh()
    after = [hub.signature(topic) for topic in topics]
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, False]


def test_a_result_reaches_the_shared_overview(empty: Path) -> None:
    shared, study_id = session.hub().studies, actions.launch(empty, two_arms())
    assert shared.overview(study_id).results.done == 0
    finish(empty, study_id)
    session.hub().refresh()
    overview = shared.overview(study_id)
    assert overview.results.done == 6 and all(len(arm.cells) == 2 for arm in overview.results.arms.values())


def test_a_waiting_study_asks_for_a_supervisor_and_a_stopped_one_does_not(empty: Path) -> None:
    shared = session.hub().studies
    assert not shared.is_active()
    study_id = actions.launch(empty, two_arms())
    assert shared.is_active()
    actions.stop(empty, study_id)
    assert not shared.is_active()


def test_the_spread_is_pooled_over_similar_studies_and_counts_shared_runs_once(sample_studies: Samples) -> None:
    shared = session.hub().studies
    finished = shared.overview(sample_studies.ids["finished"])
    spread = spread_of(finished.study, [finished.results])
    units = [[sum(unit) / len(unit) for unit in arm.units] for arm in finished.results.arms.values()]
    expected = sum(sum((one - sum(arm) / 5) ** 2 for one in arm) for arm in units) / (3 * 4)
    assert spread.value == pytest.approx(expected ** 0.5) and spread.seeds == 15
    assert spread_of(finished.study, [finished.results, finished.results]) == spread
    assert spread_of(recipes()["space"].study("full"), []) == Spread(ASSUMED_SPREAD, 0)


def test_time_and_power_are_stated_with_their_sources(empty: Path) -> None:
    study = two_arms(seeds=5)
    scout = from_text(OWN.replace("preset: smoke", "preset: scout"))
    unknown = Outlook(scout, estimate(scout, Durations(empty)), None)
    assert time_words(unknown) == (
        "not known yet: no search by ARNAS, no retraining and no attack with preset scout on Digits 8x8 has finished on this "
        "machine. The first such runs are timed, and the estimate then stands here")
    words = power_words(power_of(study, Spread(0.01, 30)))
    assert words.endswith("1.0 points between search seeds (measured on 30 search seeds)")
    assert power_words(Power(Spread(0.02, 0), None, 1.0, 1, 1, 5)).startswith("nothing: with so few seeds")
    assert power_words(None) == "ranks networks; tests no contrast of arms"


def test_the_example_opens_and_is_removed_with_one_click_each(empty: Path) -> None:
    page = open_page("studies")
    page.button(key="studies.example").click().run()
    assert not page.exception
    ids = study_ids(empty)
    assert len(ids) == 2
    page = open_page("studies")
    text = text_of(page)
    assert text.count(">example<") == len(ids) and "Open an example study" not in text
    runs = session.run_log().runs()
    assert set(runs["status"]) == {"finished"} and runs["example"].all() and set(runs["study"]) == set(ids)
    header = text_of(open_page("run", id=runs["id"].iloc[0]))
    assert ">example<" in header and f"study?id={runs['study'].iloc[0]}" in header
    assert "· example" in str(component_data(open_page("runs"), "rampart_table"))
    study = open_page("study", id=ids[0])
    keys = {button.key for button in study.button}
    assert "study.edit" in keys and not keys & {"study.extend", "study.stop", "study.resume", "study.again", "study.delete"}
    assert "study extend" not in text_of(study)
    for action in (lambda: actions.extend(empty, ids[0], 1), lambda: actions.resume(empty, ids[0])):
        with pytest.raises(RunError, match="The example study cannot be .* were made on another machine"):
            action()
    study.button(key="studies.example.remove").click().run()
    assert not study.exception and study_ids(empty) == []
    assert "The example has been removed." in "".join(one.value for one in study.success), "the list of studies follows"
    assert session.run_log().runs().empty
