"""Studies as files: what is accepted, what is refused with which sentence, and that a file can be written and read again."""

from __future__ import annotations

import json

import pytest
import yaml

from engine.errors import ConfigError
from engine.study.declaration import Cell
from engine.study.parsing import exported, from_record, from_text
from engine.study.questions import recipes

SPACE = """
question: Does the space with accurate cells first beat the conventional one?
dataset: digits
preset: smoke
search_seeds: 2
retrainings: 2
match: macs
reference: ARNAS space
arms:
  - {name: ARNAS space, method: arnas, search: {epsilon: 8/255}}
  - name: Conventional space
    method: arnas
    search: {placement: normal, width_ratio: "1:2:4", epsilon: 8/255}
  - {name: ResNet, retrain: {network: resnet-18, epsilon: 8/255}}
"""


def changed(**entries: object) -> str:
    """Return the example with some entries replaced; None removes an entry."""
    record = yaml.safe_load(SPACE) | entries
    return json.dumps({name: value for name, value in record.items() if value is not None})


def test_every_arm_has_a_cell_for_each_search_seed_and_retraining() -> None:
    study = from_text(SPACE)
    cells = study.cells()
    assert len(cells) == len(set(cells)) == 3 * 2 * 2
    assert {cell.search_seed for cell in cells} == {0, 1}


def test_arms_alternate_and_the_reference_comes_first() -> None:
    cells = from_text(changed(reference="Conventional space")).cells()
    assert [cell.arm for cell in cells[:3]] == ["Conventional space", "ARNAS space", "ResNet"]
    assert {cell.arm for cell in cells[:3]} == {cell.arm for cell in cells[3:6]}


def test_the_first_retraining_has_the_seed_of_its_search_and_no_two_of_an_arm_are_equal() -> None:
    assert Cell("A", 7, 0).retrain_seed == 7
    seeds = [cell.retrain_seed for cell in from_text(SPACE).cells() if cell.arm == "ResNet"]
    assert len(set(seeds)) == len(seeds) == 4


def test_without_contrasts_every_arm_is_compared_with_the_reference() -> None:
    assert from_text(SPACE).contrasts == (("ARNAS space", "Conventional space"), ("ARNAS space", "ResNet"))


def test_settings_pass_down_a_chain_as_in_a_launch_by_hand() -> None:
    study = from_text(SPACE)
    configs = study.configurations(study.arm("ARNAS space"))
    assert [configs[kind].model_dump()["epsilon"] for kind in ("search", "retrain", "attack")] == [8 / 255] * 3
    assert all(config.threads == 1 for config in configs.values())


def test_a_launched_study_reads_back_equal() -> None:
    text = json.dumps(from_text(SPACE).settled().to_dict())
    again = from_record(json.loads(text))
    assert json.dumps(again.to_dict()) == text
    assert again.configurations(again.arms[1]) == from_text(SPACE).configurations(from_text(SPACE).arms[1])


def test_a_launched_study_keeps_its_settings_when_presets_change(monkeypatch: pytest.MonkeyPatch) -> None:
    record = json.loads(json.dumps(from_text(SPACE).settled().to_dict()))
    monkeypatch.setattr("engine.config.RetrainConfig.presets", {"smoke": {"channels": 64}})
    study = from_record(record)
    assert study.configurations(study.arms[0])["retrain"].model_dump()["channels"] == 4


def test_changes_in_the_file_of_a_launched_study_take_effect() -> None:
    record = json.loads(json.dumps(from_text(SPACE).settled().to_dict()))
    record["arms"][0]["search"] |= {"adversarial_lambda": 0.7}
    study = from_text(json.dumps(record))
    assert study.settled().arms[0].settings["search"]["adversarial_lambda"] == 0.7


def test_an_exported_study_can_be_launched_again() -> None:
    study = from_text(SPACE)
    again = from_text(json.dumps(exported(study.settled())))
    assert again == study


def test_json_and_yaml_mean_the_same() -> None:
    assert from_text(changed()) == from_text(SPACE)


@pytest.mark.parametrize(("entries", "words"), [
    ({"question": None}, "A study needs question, which this one does not have"),
    ({"dataset": "mnits"}, "mnits"),
    ({"preset": "quik"}, "preset of a study must be one of"),
    ({"arms": []}, "1 to 100 arms"),
    ({"arms": [{"name": "A", "method": "arnas"}], "match": None, "reference": None},
     "at least two, so that there is something to compare"),
    ({"arms": [{"name": "A", "method": "arnas"}, {"name": "A", "method": "dsara"}], "reference": "A"},
     "Several arms are named A"),
    ({"arms": [{"name": "A"}], "reference": "A"}, "needs a search method, a genotype or the name of a network"),
    ({"arms": [{"name": "A", "method": "arnsa"}]}, "arnsa"),
    ({"arms": [{"name": "A", "method": "arnas", "search": {"epoch": 3}}, {"name": "B", "method": "arnas"}], "reference": "A"},
     "Arm A: .*epoch"),
    ({"arms": [{"name": "A", "method": "arnas", "search": {"seed": 3}}]}, "the study sets the seeds"),
    ({"arms": [{"name": "A", "search": {"epochs": 3}}]}, "settings of a search and no method"),
    ({"search_seeds": 0}, "1 to 100 seeds"),
    ({"search_seeds": [1, 1]}, "different seeds"),
    ({"search_seeds": [-1]}, "search_seeds"),
    ({"search_seeds": "many"}, "a number of seeds or a list"),
    ({"retrainings": 21}, "from 1 to 20"),
    ({"margin": 2}, "between 0 and 1"),
    ({"endpoint": "pgd-21"}, "pgd-21"),
    ({"contrasts": [["ARNAS space", "Nobody"]]}, "Nobody"),
    ({"contrasts": [["ARNAS space", "ARNAS space"]]}, "pairs of different arms"),
    ({"contrasts": [["ARNAS space", "ResNet"], ["ResNet", "ARNAS space"]]}, "only once"),
    ({"arms": [{"name": "A", "method": "arnas", "seeds": 3}, {"name": "B", "method": "dsara"}], "reference": "A"},
     "seeds of arm A must be at most 2, .* got 3"),
    ({"arms": [{"name": "A", "method": "arnas", "seeds": 0}, {"name": "B", "method": "dsara"}], "reference": "A"},
     "seeds of arm A must be a whole number from 1, got 0"),
    ({"arms": [{"name": "A", "method": "arnas", "seeds": "two"}]}, "seeds of arm A must be a whole number from 1, got 'two'"),
    ({"arms": [{"name": "A", "method": "arnas", "search": 5}]}, "search of arm A must be settings by name .*, got 5; the page"),
    ({"arms": [{"name": "", "method": "arnas"}]}, "name of an arm of a study must be a text"),
    ({"arms": [{"name": "A", "method": "arnas", "retrain": {"genotype": "ARNAS"}}]}, "Arm A has a search method and"),
    ({"arms": [{"name": "A", "method": "arnas", "search": {"adversarial_lambda": "7 8"}}, {"name": "B", "method": "dsara"}],
      "reference": "A"}, "adversarial_lambda must be .*7 8"),
    ({"margin": True}, "margin of a study must be a number, got True"),
    ({"arms": [{"name": "A", "method": "arnas"}, {"name": "B", "method": "dsara", "retrain": {"channels": 4}}], "reference": "A"},
     "channels of arm B must be left out, because match: macs"),
    ({"attacks": {"L2": {}}}, "L2 repeats the attack of arm ARNAS space"),
    ({"attacks": {"L2": {"norm": "L2"}, "other": {"norm": "L2", "batch_size": 7}}}, "other repeats L2"),
    ({"attacks": {"transfer": {"epsilon_l2": 0.4}}}, "transfer repeats the attack"),
    ({"search_seeds": 10_000_000}, "1 to 100 seeds, got 10000000"),
    ({"attacks": {"transfer": {"transfer_from": ["arm:Nobody"]}}}, "Nobody"),
    ({"attacks": {"L2": {"norm": "L3"}}}, "Arm ARNAS space: norm"),
    ({"measures": ["parameters"]}, "for a ranking and for no other study"),
    ({"search_seeds": [0, 1000]}, "do not differ by 1000"),
    ({"analysis": "ranking", "measures": ["foo"], "contrasts": []}, "foo"),
    ({"analysis": "ranking", "measures": ["parameters"], "contrasts": [["ARNAS space", "ResNet"]]}, "left out for a ranking"),
    ({"arms": [{"name": "A", "method": "arnas"}, {"name": "B", "method": "arnas"}], "reference": "A"}, "A and B have the same"),
    ({"match": "none"}, "match and reference together"),
    ({"reference": "Nobody"}, "Nobody"),
    ({"seeds": 3}, "seeds"),
])
def test_a_study_that_cannot_work_is_refused_with_a_sentence(entries: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        from_text(changed(**entries))


def test_an_arm_that_names_itself_is_refused_with_its_name() -> None:
    arms = [{"name": "A", "method": "arnas"}, {"name": "B", "method": "dsara", "attack": {"transfer_from": "arm:B"}}]
    with pytest.raises(ConfigError, match="Arm B refers to itself with arm:B"):
        from_text(changed(arms=arms, reference="A"))


def test_the_channels_of_the_reference_set_the_sizes() -> None:
    arms = [{"name": name, "method": name, "retrain": {"channels": 6}} for name in ("arnas", "dsara")]
    assert from_text(changed(arms=arms, reference="arnas")).arms[1].retrain["channels"] == 6


@pytest.mark.parametrize(("text", "words"), [("", "got an empty file"), ("- a", "got a list"), ("Hello", "got the text 'Hello'")])
def test_a_text_without_entries_is_described(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=f"must name question, dataset, arms, {words}"):
        from_text(text)


def test_a_line_with_the_wrong_indentation_is_named() -> None:
    with pytest.raises(ConfigError, match="line 2, column 1: the indentation does not fit the lines above"):
        from_text(" question: Q?\ndataset: digits\n")


def test_arms_that_are_attacked_differently_are_refused() -> None:
    arms = yaml.safe_load(SPACE)["arms"]
    arms[1]["attack"] = {"attacks": ["pgd-20"]}
    with pytest.raises(ConfigError, match="All arms must be attacked alike"):
        from_text(changed(arms=arms))


def attacked(*attacks: dict[str, object], **retrain: object) -> str:
    """Return the example with settings for the attack of each arm, and with changed retrain settings of the second arm."""
    arms = yaml.safe_load(SPACE)["arms"]
    for arm, attack in zip(arms, attacks, strict=True):
        arm["attack"] = attack
    arms[1]["retrain"] = retrain
    return changed(arms=arms)


def test_a_refusal_names_the_retraining_that_passes_its_radius_on_and_the_remedy() -> None:
    """The attack inherits the radius of a retraining. The remedy in the sentence works."""
    with pytest.raises(ConfigError) as refusal:
        from_text(attacked({}, {}, {}, epsilon=0.3))
    words = str(refusal.value)
    assert "Conventional space differs from ARNAS space in epsilon" in words
    assert "the attack of Conventional space takes epsilon from its retraining" in words
    assert "write attack: {epsilon: 8/255} in every arm" in words
    equal: dict[str, object] = {"epsilon": "8/255"}
    study = from_text(attacked(equal, equal, equal, epsilon=0.3))
    configs = study.configurations(study.arms[1])
    assert [configs[kind].model_dump()["epsilon"] for kind in ("retrain", "attack")] == [0.3, 8 / 255]


def test_attack_settings_that_change_no_accuracy_may_differ() -> None:
    study = from_text(attacked({}, {"batch_size": 7, "threads": 2, "device": "cpu", "checks": True, "certify": False,
                                    "sweep_radii": 4, "sweep_images": 20}, {"worst_case_only": True}))
    assert len({str(study.configurations(arm)["attack"]) for arm in study.arms}) == 3


@pytest.mark.parametrize("attack", [
    {"norm": "L2", "epsilon_l2": 1.5, "step_size_l2": 0.2}, {"attacks": ["pgd-20"]}, {"seed": 5}, {"images": 60},
    {"step_size": "1/255"}, {"attacks": ["autoattack"], "autoattack_images": 20}, {"checkpoint": "last"},
    {"transfer_from": ["20261118-0906-retrain-digits-7f3b"], "transfer_attack": "apgd-ce"}])
def test_any_attack_setting_may_change_if_all_arms_share_it(attack: dict[str, object]) -> None:
    study = from_text(attacked(attack, attack, attack))
    assert all(name in study.arms[1].attack for name in attack)
    if "checkpoint" not in attack:
        with pytest.raises(ConfigError, match="All arms must be attacked alike.*give all arms the same attack settings"):
            from_text(attacked(attack, {}, attack))


def test_a_study_of_too_many_cells_is_refused() -> None:
    with pytest.raises(ConfigError, match="at most 2000 cells"):
        from_text(changed(search_seeds=100, retrainings=20))


def test_the_question_of_the_objective_has_no_arm_twice() -> None:
    """MGDA on l2-normalised gradients of two losses is a fixed weight of 0.5 (tests/engine/search/test_weighting.py)."""
    searches = [arm.search for arm in recipes()["objective"].study("demo").arms]
    assert 0.5 in [search.get("fixed_natural_weight") for search in searches]
    assert "l2" not in [search.get("gradient_normalisation") for search in searches]


def test_a_source_dataset_belongs_to_one_study_only() -> None:
    recipe = recipes()["transfer"]
    for source in ("digits16", "mnist5k"):
        arms = recipe.study("full", "digits", source=source).arms
        assert [arm.search["dataset"] for arm in arms if "dataset" in arm.search] == [source]
    assert recipe.needs_source


@pytest.mark.parametrize("character", ["\n", "\0", "\u202e", "\u2066"])
def test_a_character_that_breaks_or_reorders_a_line_is_refused(character: str) -> None:
    name = f"ARNAS{character}space"
    arms = [{"name": name, "method": "arnas"}, {"name": "B", "method": "dsara"}]
    for entry, entries in {"question": {"question": name}, "attacks": {"attacks": {name: {"images": 60}}},
                           "arms": {"arms": arms, "match": None, "reference": None}}.items():
        with pytest.raises(ConfigError, match=f"{entry} of a study must be text in one line without control") as caught:
            from_text(changed(**entries))
        assert character not in str(caught.value)


def test_a_file_of_another_schema_is_refused() -> None:
    assert from_text(changed(schema=1)).question and from_record({**from_text(changed()).to_dict(), "schema": 1}).schema == 1
    with pytest.raises(ConfigError, match="schema of a study must be 2, got 9; use the version of Rampart that wrote"):
        from_text(changed(schema=9))
