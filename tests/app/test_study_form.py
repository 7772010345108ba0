"""The form of a study of one's own: each control changes the text, the numbers follow, and the study is launched."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.components.study_draft import fields_of, problems, proposed_name, read, shared, source_of, write
from engine import requests
from engine.architecture.genotype import Genotype
from engine.configuring import build
from engine.study.declaration import Study
from engine.study.folder import StudyFolder, study_ids
from engine.study.parsing import from_text
from engine.study.questions import recipes
from tests.app.pages import open_page, text_of
from tests.sample_runs import EventsFile, write_finished, write_finished_chain, write_run_json

TWO = """\
question: Can DSARA beat ARNAS?
dataset: digits
preset: smoke
search_seeds: 3
arms:
  - {name: ARNAS, method: arnas}
  - {name: DSARA, method: dsara}
"""
HIDDEN = """\
question: Is it kept?
dataset: digits
preset: smoke
search_seeds: [4, 9]
attacks:
  L2: {norm: L2, attacks: [pgd-20]}
  transfer: {attacks: [fgsm], transfer_from: ["arm:Baseline"]}
arms:
  - {name: Baseline, retrain: {network: wide-resnet-10-1}, seeds: 1}
  - {name: ARNAS, method: arnas}
"""


def open_form(text: str = TWO) -> AppTest:
    """Open the form of a study of one's own on a text."""
    page = open_page("studies", new="own", view="text")
    page.text_area(key="studies.text").set_value(text).run()
    return page.segmented_control(key="studies.view").set_value("form").run()


def widget(page: AppTest, kind: str, name: str) -> object:
    """Return the widget of the form whose key ends with a name."""
    found = [one for one in page.get(kind) if str(one.key).startswith("studies.form.") and str(one.key).split(".", 3)[3] == name]
    assert len(found) == 1, (name, [one.key for one in page.get(kind)])
    return found[0]


def give(page: AppTest, kind: str, name: str, value: object) -> AppTest:
    """Give a widget of the form a value."""
    widget(page, kind, name).set_value(value).run()  # type: ignore[attr-defined]
    assert not page.exception
    return page


def click(page: AppTest, name: str) -> AppTest:
    """Click a button of the form."""
    widget(page, "button", name).click().run()  # type: ignore[attr-defined]
    assert not page.exception
    return page


def study_of(page: AppTest) -> Study:
    """Return the study that the text of the page declares, checked."""
    return from_text(page.session_state["studies.text"])


def test_an_added_arm_and_a_changed_setting_change_the_numbers_and_are_launched(empty: Path) -> None:
    page = open_form()
    assert "18 runs in 6 cells: 2 arms × 3 search seeds" in text_of(page)
    click(page, "add")
    assert "This arm has the same settings as ARNAS" in text_of(page) and page.button(key="studies.launch.none").disabled
    give(page, "selectbox", "arm2.add", "search.adversarial_lambda")
    give(page, "text_input", "arm2.search.adversarial_lambda", "0.3")
    assert "27 runs in 9 cells: 3 arms × 3 search seeds" in text_of(page)
    give(page, "number_input", "search_seeds", 4)
    give(page, "number_input", "retrainings", 2)
    assert "60 runs in 24 cells: 3 arms × 4 search seeds × 2 retrainings" in text_of(page)
    page.button(key="studies.launch").click().run()
    (study_id,) = study_ids(empty)
    study = StudyFolder(empty, study_id).read()
    assert study.arms[2].name == "ARNAS, lambda 0.3" and study.arms[2].settings["search"]["adversarial_lambda"] == 0.3
    assert study.question == "Which of 2 other arms beats ARNAS?" and study.search_seeds == (0, 1, 2, 3)
    assert study.contrasts == (("ARNAS", "DSARA"), ("ARNAS", "ARNAS, lambda 0.3"))


def test_names_and_question_are_proposed_until_the_user_writes_others(empty: Path) -> None:
    page = open_form()
    give(page, "selectbox", "arm0.add", "retrain.epochs")
    give(page, "number_input", "arm0.retrain.epochs", 3)
    assert study_of(page).question == "Can DSARA beat ARNAS, retraining epochs 3?"
    give(page, "text_input", "0.name", "Short")
    give(page, "text_input", "question", "Does it matter?")
    give(page, "number_input", "arm0.retrain.epochs", 4)
    study = study_of(page)
    assert study.arms[0].name == "Short" and study.question == "Does it matter?" and study.contrasts == (("Short", "DSARA"),)
    give(page, "text_input", "0.name", "")
    give(page, "text_input", "question", " ")
    assert study_of(page).question == "Can DSARA beat ARNAS, retraining epochs 4?"


def test_every_kind_of_arm_without_a_search_of_its_own(empty: Path) -> None:
    search, _, _ = write_finished_chain(empty)
    page = open_form()
    for _ in range(4):
        click(page, "add")
    give(page, "selectbox", "2.source", "catalogue")
    give(page, "selectbox", "2.catalogue", "ADVRUSH")
    give(page, "selectbox", "3.source", "network")
    give(page, "selectbox", "3.network", "preact-resnet-18")
    give(page, "number_input", "3.width", 31.5)
    give(page, "selectbox", "4.source", "genotype")
    assert "Choose a run with a genotype, or paste one." in text_of(page)
    give(page, "selectbox", "4.run", search)
    give(page, "selectbox", "5.source", "transplant")
    give(page, "selectbox", "5.donor", "arm:DSARA")
    give(page, "text_input", "arm5.retrain.transplant", "accurate:robust, robust:accurate")
    study = study_of(page)
    assert [source_of(arm) for arm in study.arms] == ["search", "search", "catalogue", "network", "genotype", "transplant"]
    found = Genotype.from_json((empty / search / "results" / "genotype.json").read_text()).hash
    assert [arm.name for arm in study.arms[2:]] == [
        "Published ADVRUSH cells", "PreActResNet-18@31.5", f"Genotype {found}", "DSARA, accurate as robust, robust as accurate"]
    assert (study.arms[5].method, study.arms[5].retrain) == ("dsara", {"transplant": "accurate:robust, robust:accurate"})
    page.button(key="studies.launch").click().run()
    assert len(study_ids(empty)) == 1


def test_arms_are_duplicated_deleted_and_renamed_with_everything_that_names_them(empty: Path) -> None:
    page = open_form(HIDDEN)
    give(page, "text_input", "0.name", "Wide")
    assert study_of(page).attacks["transfer"]["transfer_from"] == ["arm:Wide"]
    assert "The form keeps what it does not show: the further attacks L2 and transfer." in text_of(page)
    click(page, "1.duplicate")
    give(page, "selectbox", "arm2.add", "search.epochs")
    give(page, "number_input", "arm2.search.epochs", 2)
    give(page, "selectbox", "match", "macs")
    assert study_of(page).reference == "Wide"
    give(page, "selectbox", "reference", "ARNAS")
    assert study_of(page).contrasts == (("ARNAS", "Wide"), ("ARNAS", "ARNAS, epochs 2"))
    click(page, "1.delete")
    study = read(page.session_state["studies.text"])
    assert [arm.name for arm in study.arms] == ["Wide", "ARNAS, epochs 2"] and study.reference == "Wide"


def test_the_attack_and_the_base_are_settings_of_all_arms(empty: Path) -> None:
    page = open_form()
    assert "All networks are attacked alike" in text_of(page)
    give(page, "selectbox", "attack.add", "attack.attacks")
    give(page, "multiselect", "attack.attack.attacks", ["fgsm"])
    give(page, "selectbox", "all.add", "search.epochs")
    give(page, "number_input", "all.search.epochs", 5)
    study = study_of(page)
    assert all((list(arm.attack["attacks"]), arm.search["epochs"]) == (["fgsm"], 5) for arm in study.arms)
    click(page, "add")
    assert read(page.session_state["studies.text"]).arms[2].attack["attacks"] == ["fgsm"]
    click(page, "all.search.epochs.remove")
    assert not any(arm.search for arm in read(page.session_state["studies.text"]).arms)
    give(page, "selectbox", "method", "advrush")
    assert [arm.method for arm in read(page.session_state["studies.text"]).arms] == ["advrush", "dsara", "advrush"]
    give(page, "selectbox", "endpoint", "fgsm")
    give(page, "number_input", "margin", 1.5)
    study = read(page.session_state["studies.text"])
    assert (study.endpoint, study.margin) == ("fgsm", 0.015)


def test_a_run_lends_its_chain_of_settings_to_all_arms(empty: Path) -> None:
    changes = {"search": {"epochs": 7, "epsilon": 0.1}, "retrain": {"epochs": 9, "epsilon": 0.1},
               "attack": {"attacks": ("fgsm",), "epsilon": 0.2, "split_seed": 0}}
    parent = None
    for number, (kind, own) in enumerate(changes.items()):
        run = f"20261118-090{number}-{kind}-digits-0a0{number}"
        folder = write_run_json(empty, run, kind, preset="scout", parent=parent, changes=own)
        write_finished(folder, EventsFile(folder))
        parent = run
    page = open_form(TWO.replace("{name: DSARA, method: dsara}", '{name: Wide, method: arnas, search: {width_ratio: "1:2:4"}}'))
    give(page, "selectbox", "run", parent)
    study = study_of(page)
    assert study.preset == "scout" and [arm.search for arm in study.arms] == [
        {"epochs": 7, "epsilon": 0.1}, {"epochs": 7, "epsilon": 0.1, "width_ratio": "1:2:4"}]
    assert all(arm.retrain == {"epochs": 9} for arm in study.arms), "the radius comes from the search"
    for kind, config in study.configurations(study.arms[0]).items():
        of_run = build(kind, "arnas", "digits", "scout", changes[kind])
        assert config.model_dump(exclude={"seed", "threads"}) == of_run.model_dump(exclude={"seed", "threads"})
    folder.joinpath("run.json").write_text("{")
    give(page, "selectbox", "run", parent)
    assert "cannot be taken over" in text_of(page)


def test_pairs_are_chosen_and_seeds_are_named(empty: Path) -> None:
    page = click(open_form(), "add")
    give(page, "multiselect", "contrasts", ["DSARA against ARNAS (2)"])
    assert read(page.session_state["studies.text"]).contrasts == (("DSARA", "ARNAS (2)"),)
    click(page, "usual")
    assert "contrasts" not in page.session_state["studies.text"]
    give(page, "toggle", "named", True)
    give(page, "text_input", "seeds", "3, 5")
    assert read(page.session_state["studies.text"]).search_seeds == (3, 5)
    give(page, "text_input", "seeds", "three")
    assert "Seeds must be whole numbers" in text_of(page)
    assert read(page.session_state["studies.text"]).search_seeds == (3, 5)


@pytest.mark.parametrize(("text", "words"), [
    ("question: [", "The form cannot show this study. A study must be JSON or YAML"),
    (TWO.replace("digits", "letters"), "letters"),
    (TWO.replace("method: dsara", "method: dsara, search: {lambda: 3}"), "lambda"),
    (TWO.replace("method: dsara", "method: dsara, search: {epochs: many, unrolled: maybe, placement: upside}"), "epochs must be"),
    (TWO.replace("method: dsara", "method: dsara, attack: {attacks: [fgsm, fgsm]}"), "change settings of the attack"),
    (TWO.replace("search_seeds: 3", "search_seeds: []\nretrainings: -2\nmargin: 7\nmatch: weight"), "retrainings"),
    (TWO + "endpoint: luck\n", "luck"),
    (TWO.replace("DSARA, method: dsara", "DSARA, retrain: {network: nothing}"), "network must be"),
    (TWO.replace("DSARA, method: dsara", 'DSARA, retrain: {genotype: "{"}'), "genotype"),
    (TWO.replace("DSARA, method: dsara", "ARNAS, method: dsara"), "Arms must have different names"),
    (TWO.partition("arms:")[0] + "arms: []", "arms of a study must be"),
    (TWO + "contrasts: [[ARNAS, Nobody]]\n", "Nobody"),
])
def test_no_text_breaks_the_form(empty: Path, text: str, words: str) -> None:
    page = open_form(text)
    assert not page.exception and words in text_of(page)
    assert [button.disabled for button in page.button if button.label == "Launch"] == [True]


def test_a_value_that_cannot_be_is_explained_at_its_arm_and_corrected(empty: Path) -> None:
    page = open_form(TWO.replace("method: dsara", "method: dsara, search: {epochs: many}"))
    give(page, "text_input", "arm1.search.epochs.text", "4")
    assert study_of(page).arms[1].search == {"epochs": 4}
    give(page, "number_input", "arm1.search.epochs", None)
    assert "epochs must be" in text_of(page)
    give(page, "number_input", "arm1.search.epochs", 6)
    assert study_of(page).arms[1].search == {"epochs": 6}


def test_a_reload_and_a_sent_address_open_the_draft(empty: Path) -> None:
    page = give(open_form(), "text_input", "question", "Is it still here?")
    again = open_page("studies", new="own", draft=page.query_params["draft"])
    assert not again.exception and again.session_state["studies.text"] == page.session_state["studies.text"]
    broken = open_page("studies", new="own", draft="no draft")
    assert not broken.exception and "Narrow" in broken.session_state["studies.text"]


@pytest.mark.parametrize("name", [name for name, _ in recipes().items()])
def test_the_form_shows_every_question_and_keeps_what_it_does_not_show(name: str) -> None:
    asked = recipes()[name].study("demo", "digits", source="mnist5k")
    text = write(asked)
    draft = read(text)
    assert write(draft) == text and not any(problems(draft, requests.check_config))
    again = from_text(text)
    assert (again.cells(), again.contrasts, again.attacks, again.measures) == (
        asked.cells(), asked.contrasts, asked.attacks, asked.measures)
    assert all(again.configurations(again.arm(arm.name)) == asked.configurations(arm) for arm in asked.arms)


@pytest.mark.parametrize("name", ["carry-over", "transfer", "placement"])
def test_a_question_opens_in_the_form_and_a_change_keeps_the_rest(empty: Path, name: str) -> None:
    page = open_page("studies", new="own", edit=name)
    assert not page.exception
    before = read(page.session_state["studies.text"])
    give(page, "number_input", "retrainings", 2)
    after = read(page.session_state["studies.text"])
    assert after.retrainings == 2 and (after.arms, after.attacks, after.contrasts, after.measures) == (
        before.arms, before.attacks, before.contrasts, before.measures)


def test_proposals_name_what_differs() -> None:
    study = read(write(recipes()["lambda"].study("demo")))
    assert [proposed_name(study, arm) for arm in study.arms][1:6:4] == ["ARNAS, lambda 0.03", "DSARA, lambda 0.03"]
    assert shared(study, "retrain") == {"epochs": 6} and "seed" not in fields_of(study.arms[0], "retrain")
