"""The Launch page: one click with the defaults, every kind of run, and bad input refused in place."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.components.form import bounds_text, check, groups_of, help_text, label_of, value_text, with_unit
from app.components.method_choice import in_order
from app.components.preflight import cores_fact, device_fact
from app.components.settings import differences_words, paper_words
from app.formats import dataset_title, escape, plural
from engine.architecture.catalogue import CATALOG
from engine.command import program
from engine.config import AttackConfig, RetrainConfig
from engine.configuring import build, config_class, differences_from_paper, preset_values
from engine.data.catalogue import DATASETS
from engine.run import device
from engine.run.folder import run_ids
from engine.search.methods.registry import METHODS
from tests.app.conftest import Samples
from tests.app.pages import component_data, open_launch, text_of

SEARCH = "launch.search.arnas.digits.quick.0"


def launch_button(page: AppTest) -> object:
    return page.button(key="launch.go")


def read_run(root: Path, run: str) -> dict:
    return json.loads((root / run / "run.json").read_text(encoding="utf-8"))


def test_one_click_with_the_defaults_starts_the_chain_and_goes_to_the_run(empty: Path) -> None:
    page = open_launch()
    assert not page.exception
    page.button(key="launch.go").click().run()
    assert not page.exception
    runs = [read_run(empty, run) for run in run_ids(empty)]
    assert sorted(run["kind"] for run in runs) == ["attack", "retrain", "search"]
    search = next(run for run in runs if run["kind"] == "search")
    assert (search["method"], search["preset"], search["config"]["dataset"]) == ("arnas", "quick", "digits")
    assert page.query_params["id"] == search["id"]


def test_the_list_of_methods_helps_to_choose(empty: Path) -> None:
    page = open_launch()
    options = page.selectbox(key="launch.method").options
    assert len(options) == len(METHODS) and options[0].startswith("ARNAS · 2024 · attacked images")
    # Methods that attack images in the search come first.
    clean = [one.endswith("clean images only") for one in options]
    assert clean == sorted(clean) and {name for name, line in zip(in_order(), clean) if line} >= {"darts"}
    assert in_order().index("dsara") < in_order().index("darts")
    text = text_of(page)
    for _, method in METHODS.items():
        assert escape(method.summary) in text and ((method.year or 0) >= 2018) == ("arXiv" in method.source)
    assert [METHODS[name].year for name in ("arnas", "dsara", "darts", "e2rnas")] == [2024, 2023, 2019, 2020]
    assert "E2RNAS (2020) · attacked images in the search" in options
    page.selectbox(key="launch.method").set_value("darts").run()
    assert "--method darts" in text_of(page)


def test_a_second_click_of_the_same_view_gives_the_same_runs(empty: Path) -> None:
    first = open_launch()
    second = open_launch()
    first.button(key="launch.go").click().run()
    # As in the browser: the second click reaches the server with the session that the first one left.
    for name in ("launch.token", "launch.used"):
        second.session_state[name] = first.session_state[name]
    second.button(key="launch.go").click().run()
    assert len(run_ids(empty)) == 3
    assert second.query_params["id"] == first.query_params["id"]


def test_coming_back_and_launching_again_is_another_run(empty: Path) -> None:
    page = open_launch()
    page.button(key="launch.go").click().run()
    page.switch_page("views/launch.py").run()
    page.button_group(key="launch.then.search").set_value(()).run()
    page.button(key="launch.go").click().run()
    assert len(run_ids(empty)) == 4


def test_objectives_are_added_by_their_titles_and_their_images_are_looked_for(empty: Path) -> None:
    page = open_launch()
    chosen = page.multiselect(key=f"{SEARCH}.added_objectives")
    assert {"out-of-distribution KL", "one-step adversarial loss", "parameter count", "MAC count"} <= set(chosen.options)
    assert f"{SEARCH}.one_step_length" not in {box.key for box in page.text_input}  # nothing is added yet
    chosen.set_value(["out_of_distribution", "parameter_share"]).run()
    assert f"{SEARCH}.out_of_distribution_factor" in {box.key for box in page.text_input}
    assert f"{SEARCH}.curvature_radius" not in {box.key for box in page.text_input}
    page.multiselect(key=f"{SEARCH}.added_objectives").set_value(["curvature"]).run()
    assert f"{SEARCH}.curvature_radius" in {box.key for box in page.text_input}
    page.multiselect(key=f"{SEARCH}.added_objectives").set_value(["out_of_distribution", "parameter_share"]).run()
    assert "Photographs: 354 images" in text_of(page)
    other = page.selectbox(key=f"{SEARCH}.second_dataset")
    assert other.value is None and {"Photographs", "SVHN"} <= set(other.options)
    other.set_value("svhn").run()
    assert launch_button(page).disabled and "SVHN must be prepared" in text_of(page)
    page.selectbox(key=f"{SEARCH}.second_dataset").set_value(None).run()
    launch_button(page).click().run()
    search = next(run for run in (read_run(empty, run) for run in run_ids(empty)) if run["kind"] == "search")
    assert search["config"]["added_objectives"] == ["out_of_distribution", "parameter_share"]
    assert search["config"]["second_dataset"] is None
    assert "--added-objectives out_of_distribution parameter_share" in search["command"]


def test_the_page_names_what_differs_from_the_paper_and_the_command(empty: Path) -> None:
    page = open_launch()
    text = text_of(page)
    assert "demonstration" in text
    assert "settings differ from the published settings for CIFAR-10" in text
    assert '<th scope="row">Epsilon ε</th><td>0.15</td><td>8/255</td>' in text
    assert '<th scope="row">Attacks</th><td>FGSM, PGD-20, AutoAttack</td><td>FGSM, PGD-20, PGD-100, AutoAttack</td>' in text
    for kind, method in (("search", "arnas"), ("retrain", None), ("attack", None)):
        config = build(kind, method, "digits", "quick")
        for difference in differences_from_paper(config):
            info = type(config).model_fields[difference.field]
            here, paper = (dataset_title(value) if difference.field == "dataset" else with_unit(info, value)
                           for value in (difference.value, difference.paper))
            assert f'<th scope="row">{label_of(difference.field)}</th><td>{here}</td><td>{paper}</td>' in text
    assert f"{program()} search --method arnas --dataset digits --preset quick --then retrain,attack" in text


def test_paper_on_a_dataset_of_no_paper_does_not_call_itself_published(empty: Path) -> None:
    text = text_of(open_launch(preset="paper"))
    configs = [build(kind, method, "digits", "paper") for kind, method in
               (("search", "arnas"), ("retrain", None), ("attack", None))]
    number = sum(len(differences_from_paper(config)) for config in configs)
    assert number > 0 and "The published settings." not in text
    assert f"**paper**: The published settings for CIFAR-10, adapted to Digits 8x8: {number} settings differ." in text
    assert f"{number} settings differ from the published settings for CIFAR-10." in text


def test_only_settings_without_a_difference_are_called_published() -> None:
    assert paper_words("attack", None, "cifar10", 0) == "The published settings."
    assert paper_words("attack", None, "cifar10", 1) == "The published settings with 1 exception."
    assert paper_words("search", "random_search", "cifar10", 0).startswith("Our default settings. No paper fixes")
    assert differences_words("retrain", None, "cifar10", 0) == "No setting differs from the published settings."
    assert differences_words("retrain", None, "digits", 1) == "1 setting differs from the published settings for CIFAR-10."


def test_the_facts_before_a_launch_count_cores_and_gpus_as_the_supervisor_does() -> None:
    assert f"of {device.cores()} CPU core" in cores_fact().text
    fact = device_fact("cuda:99")
    assert fact.level == "bad" and fact.text.startswith("cuda:99 is not available")
    assert device_fact("cpu").text == f"CPU, {plural(device.cores(), 'core')}."


def test_changed_settings_are_in_the_command_and_in_the_run(empty: Path) -> None:
    page = open_launch()
    page.text_input(key=f"{SEARCH}.epsilon").set_value("8/255").run()
    page.toggle(key=f"{SEARCH}.clip_images").set_value(True).run()
    assert "--epsilon 8/255" in text_of(page) and "--clip-images" in text_of(page)
    page.button(key="launch.go").click().run()
    search = next(run for run in (read_run(empty, name) for name in run_ids(empty)) if run["kind"] == "search")
    assert search["config"]["epsilon"] == 8 / 255
    assert search["title"] == "ARNAS, images clipped, epsilon 8/255"


@pytest.mark.parametrize(("widget", "field", "value", "sentence"), [
    ("text_input", "epsilon", "8", r"did you mean 8/255?"),
    ("number_input", "channels", 7, "channels must be even"),
    ("number_input", "batch_size", 5000, "batch\\_size must be at most"),
    ("text_input", "momentum", "much", "momentum must be a valid number"),
    ("number_input", "epochs", None, "epochs must be a whole number, got nothing"),
    ("text_input", "device", "tpu", "device must"),
    ("number_input", "layers", 2, "layers must be greater than or equal to 4"),
])
def test_a_bad_value_is_answered_under_its_field_and_launch_waits(empty: Path, widget: str, field: str, value: object,
                                                                   sentence: str) -> None:
    page = open_launch()
    getattr(page, widget)(key=f"{SEARCH}.{field}").set_value(value).run()
    assert not page.exception
    beside = [element.value for element in page.markdown if sentence in element.value]
    assert len(beside) == 1, [element.value for element in page.markdown]
    assert launch_button(page).disabled
    assert any("Before you can launch" in element.value for element in page.markdown)


def test_a_corrected_value_lets_launch_go_on(empty: Path) -> None:
    page = open_launch()
    page.text_input(key=f"{SEARCH}.epsilon").set_value("8").run()
    assert launch_button(page).disabled
    page.text_input(key=f"{SEARCH}.epsilon").set_value("8/255").run()
    assert not launch_button(page).disabled


def test_a_dataset_that_is_not_here_says_how_to_get_it_and_launch_waits(empty: Path) -> None:
    page = open_launch()
    page.selectbox(key="launch.dataset").set_value("cifar10").run()
    assert not page.exception
    assert launch_button(page).disabled
    assert text_of(page).count("dataset fetch cifar10") == 2  # below the button, and among the facts
    assert "--dataset cifar10" in text_of(page)
    page.selectbox(key="launch.dataset").set_value("digits").run()
    assert not launch_button(page).disabled


def test_without_its_package_a_dataset_names_the_command_and_launch_waits(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = DATASETS["mnist5k"]
    assert dataset.package is not None
    page = open_launch()
    page.selectbox(key="launch.dataset").set_value("mnist5k").run()
    assert not page.exception and not launch_button(page).disabled and dataset.package.command not in text_of(page)
    gone = replace(dataset, package=replace(dataset.package, name="no_such_package"))
    monkeypatch.setitem(DATASETS._entries, "mnist5k", gone)
    page.run()
    assert not page.exception and launch_button(page).disabled
    assert text_of(page).count(dataset.package.command) == 2  # below the button, and among the facts


def test_another_preset_brings_its_own_values(empty: Path) -> None:
    page = open_launch(preset="scout")
    assert page.number_input(key="launch.search.arnas.digits.scout.0.channels").value == 16
    page.button_group(key="launch.preset").set_value("paper").run()
    assert page.number_input(key="launch.search.arnas.digits.paper.0.channels").value == 24


def test_smoke_is_offered_only_when_asked_for(empty: Path) -> None:
    assert "smoke" not in open_launch().button_group(key="launch.preset").options
    page = open_launch(preset="smoke")
    assert page.button_group(key="launch.preset").value == "smoke"


def test_retrain_from_the_catalogue_shows_the_network(empty: Path) -> None:
    page = open_launch(kind="retrain")
    assert not page.exception
    assert "parameters, " in text_of(page)
    name = next(name for name, entry in CATALOG.items() if entry.genotype is not None)
    assert f"--genotype {name}" in text_of(page)
    page.button(key="launch.go").click().run()
    run = read_run(empty, run_ids(empty)[0])
    assert run["kind"] == "retrain" and run["config"]["genotype"] == name


def test_a_hand_made_network_can_be_chosen_and_launched(empty: Path) -> None:
    page = open_launch(kind="retrain")
    page.button_group(key="launch.source").set_value("named").run()
    assert not page.exception and not launch_button(page).disabled
    words = text_of(page)
    assert "He et al. 2016" in words and "--network resnet-18" in words and "ResNet-18" in words and "parameters, " in words
    page.selectbox(key="launch.network").set_value("another").run()
    assert launch_button(page).disabled and "Type the name of the network." in page.get("text")[0].value
    page.text_input(key="launch.network.name").set_value("WIDE-resnet-22-3").run()
    assert not page.exception and "--network wide-resnet-22-3" in text_of(page)
    page.text_input(key="launch.network.name").set_value("wide-resnet-21-3").run()
    assert launch_button(page).disabled and "must be 6 m + 4" in page.get("text")[0].value
    page.text_input(key="launch.network.name").set_value("wide-resnet-16-3").run()
    page.selectbox(key="launch.retrain..digits.quick.0.match").set_value("params").run()
    page.text_input(key="launch.retrain..digits.quick.0.match_to").set_value("ARNAS@8x5").run()
    assert not launch_button(page).disabled and "WRN-16-3@" in text_of(page), "the size of the matched network is shown"
    page.selectbox(key="launch.retrain..digits.quick.0.match").set_value("none").run()
    page.text_input(key="launch.retrain..digits.quick.0.match_to").set_value("").run()
    assert page.number_input(key="launch.network.width.wide-resnet-16-3").value == 16
    page.number_input(key="launch.network.width.wide-resnet-16-3").set_value(12.6).run()
    assert "--network wide-resnet-16-3@12.6" in text_of(page)
    page.button(key="launch.go").click().run()
    assert not page.exception
    run = read_run(empty, run_ids(empty)[0])
    assert (run["title"], run["config"]["network"]) == ("WRN-16-3@12.6", "wide-resnet-16-3@12.6")
    assert run["config"]["auxiliary_weight"] == 0


@pytest.mark.parametrize(("network", "chosen"), [("wide-resnet-34-10", "wide-resnet-34-10"),
                                                 ("wide-resnet-40-2", "another")])
def test_a_configuration_with_a_hand_made_network_can_be_imported(empty: Path, network: str, chosen: str) -> None:
    page = open_launch()
    record = {"kind": "retrain", "method": None, "dataset": "digits", "preset": "quick", "then": [],
              "changes": {"network": network, "epochs": 3}}
    page.file_uploader(key="launch.file.0").set_value(("config.json", json.dumps(record).encode(), "application/json")).run()
    page.button(key="launch.use").click().run()
    assert not page.exception and page.selectbox(key="launch.network").value == chosen
    assert f"--network {network} --epochs 3" in text_of(page)


def test_a_transplant_shows_in_the_network_and_in_the_command(empty: Path) -> None:
    page = open_launch(kind="retrain")
    name = page.selectbox(key="launch.catalogue").value
    before = "".join(data["html"] for data in component_data(page, "rampart_cell_graph"))
    page.text_input(key="launch.retrain..digits.quick.0.transplant").set_value("accurate:robust").run()
    after = "".join(data["html"] for data in component_data(page, "rampart_cell_graph"))
    assert not page.exception and after != before
    assert f"--genotype {name} --transplant accurate:robust" in text_of(page)
    page.text_input(key="launch.retrain..digits.quick.0.transplant").set_value("normal:robust").run()
    assert not page.exception and launch_button(page).disabled
    assert "There is no cell kind 'normal'" in page.get("text")[0].value


def test_matched_channels_are_shown_before_the_launch(empty: Path) -> None:
    page = open_launch(kind="retrain")
    page.selectbox(key="launch.catalogue").set_value("DARTS_V2").run()
    page.selectbox(key="launch.retrain..digits.quick.0.match").set_value("params").run()
    assert launch_button(page).disabled and "match and match_to must be given together" in page.get("text")[0].value
    page.text_input(key="launch.retrain..digits.quick.0.match_to").set_value("ARNAS@8x5").run()
    assert not page.exception and not launch_button(page).disabled
    assert "at 7 channels and 5 cells" in text_of(page)
    page.button(key="launch.go").click().run()
    run = read_run(empty, run_ids(empty)[0])
    assert run["config"]["channels"] == 7 and run["title"] == "DARTS_V2, parameters as ARNAS@8x5 (+3.9 %)"


@pytest.mark.parametrize("text", ['{"normal": 3}', "not json", '{"accurate": [["conv_99", 0]]}'])
def test_a_bad_pasted_genotype_is_answered_in_place(empty: Path, text: str) -> None:
    page = open_launch(kind="retrain")
    page.button_group(key="launch.source").set_value("paste").run()
    assert launch_button(page).disabled
    page.text_area(key="launch.pasted").set_value(text).run()
    assert not page.exception
    assert launch_button(page).disabled
    assert page.get("text")[0].value, "the reason stands under the button"


def test_a_genotype_with_an_unknown_operation_is_named(empty: Path) -> None:
    genotype = next(entry.genotype for _, entry in CATALOG.items() if entry.genotype is not None).to_dict()
    kind = next(name for name in genotype if not name.endswith("_concat"))
    genotype[kind][0][0] = "sep_conv_9x9"
    page = open_launch(kind="retrain")
    page.button_group(key="launch.source").set_value("paste").run()
    page.text_area(key="launch.pasted").set_value(json.dumps(genotype)).run()
    assert any("sep_conv_9x9" in element.value.replace("\\", "") for element in page.markdown)
    assert launch_button(page).disabled


def test_a_good_pasted_genotype_can_be_launched(empty: Path) -> None:
    genotype = next(entry.genotype for _, entry in CATALOG.items() if entry.genotype is not None)
    page = open_launch(kind="retrain")
    page.button_group(key="launch.source").set_value("paste").run()
    page.text_area(key="launch.pasted").set_value(genotype.to_json()).run()
    assert not launch_button(page).disabled
    page.button(key="launch.go").click().run()
    assert json.loads(read_run(empty, run_ids(empty)[0])["config"]["genotype"]) == genotype.to_dict()


def test_retrain_and_attack_start_from_the_run_in_the_address(samples: Samples) -> None:
    page = open_launch(kind="retrain", parent=samples.ids["search"])
    assert not page.exception
    assert f"--parent {samples.ids['search']}" in text_of(page)
    page = open_launch(kind="attack", parent=samples.ids["retrain"])
    assert f"--parent {samples.ids['retrain']}" in text_of(page)
    assert not launch_button(page).disabled


def test_attack_without_a_retrained_network_says_what_to_do(empty: Path) -> None:
    page = open_launch(kind="attack")
    assert not page.exception and launch_button(page).disabled
    assert "no retraining has finished yet" in text_of(page)


def test_an_exported_configuration_can_be_imported(empty: Path) -> None:
    page = open_launch()
    record = {"kind": "search", "method": "arnas", "dataset": "digits", "preset": "scout", "then": [],
              "changes": {"channels": 12, "epsilon": 4 / 255}}
    page.file_uploader(key="launch.file.0").set_value(("config.json", json.dumps(record).encode(), "application/json")).run()
    page.button(key="launch.use").click().run()
    assert not page.exception
    assert page.number_input(key="launch.search.arnas.digits.scout.1.channels").value == 12
    assert page.text_input(key="launch.search.arnas.digits.scout.1.epsilon").value == "4/255"
    assert "--preset scout --channels 12 --epsilon 4/255" in text_of(page) and "--then" not in text_of(page)


@pytest.mark.parametrize("content", ["[1]", "not json", '{"kind": "search"}', json.dumps(
    {"kind": "search", "method": "arnas", "dataset": "digits", "preset": "quick", "changes": {"chanels": 8}})])
def test_a_foreign_file_changes_nothing_and_is_answered(empty: Path, content: str) -> None:
    page = open_launch()
    page.file_uploader(key="launch.file.0").set_value(("config.json", content.encode(), "application/json")).run()
    page.button(key="launch.use").click().run()
    assert not page.exception and len(page.error) == 1
    assert not launch_button(page).disabled


def test_every_field_has_a_label_a_group_and_help() -> None:
    for cls in (*(method.config for _, method in METHODS.items()), RetrainConfig, AttackConfig):
        grouped = [name for names in groups_of(cls).values() for name in names]
        assert set(grouped) == set(cls.model_fields) - {"dataset", "genotype", "network"}
        for name in grouped:
            assert label_of(name)[0].isupper()
            about = help_text(name, cls.model_fields[name], cls.model_fields[name].default)
            assert str(cls.model_fields[name].description) in about and f"--{name.replace('_', '-')}" in about


def test_values_are_written_with_their_units() -> None:
    fields = RetrainConfig.model_fields
    assert value_text(fields["epsilon"], 8 / 255) == "8/255"
    assert value_text(fields["epsilon"], 0.15) == "0.15"
    assert value_text(fields["weight_decay"], 1e-4) == "0.0001"
    assert value_text(fields["images"], None) == "all"
    assert value_text(fields["steps_per_epoch"], None) == "a full pass"
    assert with_unit(fields["cutout"], 16) == "16 pixels"
    assert with_unit(fields["selection_every"], 1) == "1 epoch"
    assert bounds_text(fields["epsilon"]) == "at least 0, at most 1"


def test_a_value_that_is_only_wrong_beside_the_preset_is_no_problem() -> None:
    """images=20 refuses the preset's batch of 40, not a batch of 10."""
    cls, preset = config_class("search", "arnas"), preset_values("search", "arnas", "digits", "quick")
    assert check("search", cls, preset, {"images": 20, "batch_size": 10}).config is not None
    assert set(check("search", cls, preset, {"images": 20}).problems) <= {"images", "batch_size"}
    values = check("search", cls, preset, {"images": 20, "batch_size": 10, "epsilon": 8.0})
    assert set(values.problems) == {"epsilon"}


def test_a_setting_that_the_parent_rules_out_is_answered_under_its_field(samples: Samples) -> None:
    page = open_launch(kind="retrain", parent=samples.ids["search"])
    split_seed = next(one for one in page.number_input if one.key.endswith(".split_seed"))
    split_seed.set_value(4).run()
    assert not page.exception and launch_button(page).disabled
    assert any("split\\_seed must be" in element.value for element in page.markdown)


def test_labels_spell_out_symbols_and_norms() -> None:
    assert (label_of("epsilon"), label_of("epsilon_l2"), label_of("step_size_l2"), label_of("weights_learning_rate")) == (
        "Epsilon ε", "Epsilon ε in L2", "Step size in L2", "Weights learning rate")
