"""The configuration classes: published defaults, overrides by dataset and preset, and the texts of refusals."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from pydantic.fields import FieldInfo

from engine.config import PRESETS, AttackConfig, RetrainConfig, parse_pixels, setting_of
from engine.config.run import KINDS
from engine.configuring import NOT_COMPARED, build, config_class, deviations, differences_from_paper, preset_values, recorded
from engine.data.catalogue import DATASETS
from engine.data.splits import split_sizes
from engine.errors import ConfigError
from engine.search.methods.arnas.config import ArnasConfig
from engine.search.methods.registry import METHODS

# The released code of ARNAS (fyqsama/ARNAS at 9bcc2e3), train_search.py and adv_train.py with the README's flags.
SEARCH = {
    "epochs": 50, "batch_size": 32, "channels": 24, "layers": 8, "weights_learning_rate": 0.025,
    "weights_learning_rate_min": 0.001, "momentum": 0.9, "weight_decay": 3e-4, "gradient_clip": 5.0,
    "alpha_learning_rate": 3e-4, "alpha_weight_decay": 1e-3, "epsilon": 8 / 255, "step_size": 2 / 255, "attack_steps": 7,
    "crop_padding": 4, "flip": True, "adversarial_lambda": 0.1, "finite_difference": 0.01, "unrolled": True,
    "clip_images": False, "gradient_normalisation": "none", "placement": "accurate_first", "width_ratio": "1:2:2",
    "seed": 2, "steps_per_epoch": None, "images": None, "cutout": 0, "normalise": False, "curvature_factor": 0.01,
    "curvature_radius": 1.5}
RETRAIN = {
    "epochs": 200, "batch_size": 32, "channels": 64, "layers": 20, "learning_rate": 0.1, "schedule": "step",
    "milestones": "99/200, 149/200", "momentum": 0.9,
    "weight_decay": 1e-4, "gradient_clip": 5.0, "auxiliary_weight": 0.4, "auxiliary_input": "clean", "drop_path": 0.0,
    "training": "pgd_at", "epsilon": 8 / 255, "step_size": 0.01, "attack_steps": 7, "start_noise": 0.001, "crop_padding": 4,
    "flip": True, "cutout": 16, "steps_per_epoch": None, "images": None, "warmup_epochs": 0, "average_decay": 0.0,
    "normalise": False}
# Wong, Rice and Kolter (locuslab/fast_adversarial at e9ccb17), CIFAR10/train_fgsm.py: 10/255 of 8/255; PGD-8; 20 points.
FAST_AT = {"fast_step": 1.25, "probe_every": None, "probe_steps": 8, "probe_drop": 0.2}
# What a changed setting needs beside it to be valid.
CONSISTENT = {"partial": {"channels": 20}}
ATTACK = {"attacks": ("fgsm", "pgd-20", "pgd-100", "autoattack"), "epsilon": 8 / 255, "step_size": 2 / 255,
          "autoattack_images": None, "images": None, "norm": "Linf", "epsilon_l2": 0.5}


@pytest.mark.parametrize(("cls", "published"), [
    (ArnasConfig, SEARCH), (RetrainConfig, RETRAIN | FAST_AT), (AttackConfig, ATTACK)])
def test_defaults_are_the_published_settings(cls: type, published: dict[str, object]) -> None:
    assert {name: cls.model_fields[name].default for name in published} == published
    assert cls.presets["paper"] == {}
    own = {name for name, info in cls.model_fields.items() if info.json_schema_extra["source"]}
    assert own <= published.keys() | {"trades_beta", "seed"}, "a default with a source is pinned here"


@pytest.mark.parametrize("kind", KINDS)
def test_what_differs_from_paper_is_the_datasets_doing_alone(kind: str) -> None:
    facts = DATASETS["digits"]
    config = build(kind, "arnas", "digits", "paper")
    allowed = {"dataset": "digits", "epsilon": facts.epsilon, "step_size": facts.step_size, **facts.defaults}
    for difference in differences_from_paper(config):
        assert difference.value == allowed[difference.field]


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100", "svhn", "tiny-imagenet"])
def test_nothing_differs_from_paper_on_the_papers_datasets(dataset: str) -> None:
    for kind in KINDS:
        config = build(kind, "arnas", dataset, "paper")
        assert differences_from_paper(config) == []
        published = {"search": SEARCH, "retrain": RETRAIN, "attack": ATTACK}[kind]
        own = DATASETS[dataset].retraining if kind == "retrain" else {}
        assert {name: getattr(config, name) for name in published} == published | own
    changed = build("retrain", None, "tiny-imagenet", "paper", {"channels": 64})
    assert [(one.field, one.value, one.paper) for one in differences_from_paper(changed)] == [("channels", 64, 84)]


def test_the_released_code_trains_larger_images_with_settings_of_their_own() -> None:
    config = build("retrain", None, "tiny-imagenet", "paper")
    assert (config.channels, config.layers, config.epochs, config.batch_size, config.cutout) == (84, 14, 90, 26, 0)
    assert config.milestones == "1/3, 2/3"
    assert build("search", "arnas", "tiny-imagenet", "paper").channels == 24


@pytest.mark.parametrize("preset", list(PRESETS))
def test_a_preset_lies_over_the_dataset_which_lies_over_the_default(preset: str) -> None:
    for kind in KINDS:
        cls, values = config_class(kind, "arnas"), preset_values(kind, "arnas", "digits", preset)
        assert values.keys() == cls.model_fields.keys()
        assert all(values[name] == value for name, value in cls.presets[preset].items() if name != "autoattack_images")
        if "crop_padding" in values and "crop_padding" not in cls.presets[preset]:
            assert values["crop_padding"] == DATASETS["digits"].defaults["crop_padding"]


def test_a_preset_never_asks_for_more_images_than_the_test_split_has() -> None:
    asked = {preset: preset_values("attack", None, "digits", preset)["autoattack_images"] for preset in PRESETS}
    assert asked == {"quick": None, "scout": None, "paper": None, "smoke": None}
    assert AttackConfig.presets["scout"]["autoattack_images"] > split_sizes("digits")["test"]


def test_a_dataset_sizes_quick_for_each_kind_of_run_by_itself() -> None:
    """mnist5k's batch size is for its searches, its epochs are for retrainings, and neither is for other presets or datasets."""
    def quick(kind: str, dataset: str, preset: str = "quick") -> dict[str, Any]:
        return preset_values(kind, "arnas", dataset, preset)

    sizes = DATASETS["mnist5k"].quick
    for kind, other in (("search", "retrain"), ("retrain", "search")):
        chosen, digits = quick(kind, "mnist5k"), quick(kind, "digits")
        assert {name: chosen[name] for name in sizes[kind]} == sizes[kind]
        assert all(chosen[name] == digits[name] for name in sizes[other] if name not in sizes[kind])
        assert quick(kind, "mnist5k", "paper")["batch_size"] == quick(kind, "digits", "paper")["batch_size"]


@pytest.mark.parametrize("preset", ["quick", "scout"])
def test_fewer_attacks_than_published_are_named_as_a_difference(preset: str) -> None:
    differences = {one.field: one for one in differences_from_paper(build("attack", None, "cifar10", preset))}
    assert "pgd-100" in differences["attacks"].paper and "pgd-100" not in differences["attacks"].value


def departing(info: FieldInfo) -> Any:
    """Return a valid value other than the default; None for settings that are neither switches nor numbers."""
    if isinstance(info.default, bool):
        return not info.default
    return info.default + 1 if isinstance(info.default, int) else info.default / 2 or 0.25 if info.annotation is float else None


@pytest.mark.parametrize(("kind", "method"), [*(("search", method) for method in METHODS), ("retrain", None), ("attack", None)])
def test_every_switch_and_number_of_the_mathematics_shows_in_the_name(kind: str, method: str | None) -> None:
    """A setting that departs from `paper` adds exactly one phrase, unless it is silent, inert or compared with nothing."""
    plain = build(kind, method, "cifar10", "paper")
    assert deviations(kind, method, "paper", plain) == []
    shown = 0
    for name, info in type(plain).model_fields.items():
        value = departing(info)
        if value is None or name in plain.inert() | NOT_COMPARED or setting_of(info).silent:
            continue
        config = build(kind, method, "cifar10", "paper", {name: value} | CONSISTENT.get(name, {}))
        assert len(deviations(kind, method, "paper", config)) == 1, name
        shown += 1
    assert shown >= (8 if kind != "attack" else 1)


def test_epsilon_of_digits_is_no_deviation_on_digits_and_a_chosen_one_is() -> None:
    assert deviations("search", "arnas", "quick", build("search", "arnas")) == []
    chosen = build("search", "arnas", changes={"epsilon": "8/255", "attack_steps": 3, "adversarial_lambda": 1})
    assert deviations("search", "arnas", "quick", chosen) == ["epsilon 8/255", "3 attack steps", "lambda 1"]
    retraining = build("retrain", changes={"epsilon": "8/255", "training": "trades", "trades_beta": 3})
    assert deviations("retrain", None, "quick", retraining) == ["TRADES", "beta 3", "retrained at epsilon 8/255"]
    assert deviations("retrain", None, "quick", build("retrain", changes={"trades_beta": 3})) == [], "beta has no effect here"


def test_every_choice_of_a_retraining_that_is_not_published_shows_in_its_name() -> None:
    assert build("retrain", preset="paper").deviations() == []
    named = {"natural": ["natural training"], "trades": ["TRADES"], "fast_at": ["Fast-AT"]}
    for training, words in named.items():
        assert build("retrain", changes={"training": training}).deviations() == words
    auxiliary = {"auxiliary_input": "adversarial"}
    assert build("retrain", None, "cifar10", "paper", auxiliary).deviations() == ["auxiliary loss on adversarial images"]
    assert build("retrain", changes=auxiliary).deviations() == [], "no auxiliary head, no auxiliary loss"
    assert build("retrain", changes={"average_decay": 0.995}).deviations() == ["EMA 0.995"]
    assert build("retrain", changes={"training": "fast_at", "average_decay": 0.9}).deviations() == ["Fast-AT", "EMA 0.9"]
    assert build("retrain", changes={"normalise": True}).deviations() == ["retrained on normalised images"]
    assert build("retrain", changes={"precision": "bf16", "average_decay": 0.9}).deviations() == ["EMA 0.9", "bf16"]
    assert build("attack").deviations() == []
    assert build("attack", changes={"checkpoint": "last"}).deviations() == ["last checkpoint"]
    assert str(AttackConfig.model_fields["checkpoint"].description).startswith("Differs")
    for field in ("training", "auxiliary_input", "average_decay", "normalise", "precision"):
        assert str(RetrainConfig.model_fields[field].description).startswith("Differs")


@pytest.mark.parametrize(("text", "value"), [("8/255", 8 / 255), (" 2 / 255 ", 2 / 255), ("0.15", 0.15), ("1/0", "1/0"),
                                             ("much", "much"), (0.1, 0.1)])
def test_pixels_may_be_fractions(text: object, value: object) -> None:
    assert parse_pixels(text) == value


@pytest.mark.parametrize(("changes", "sentence"), [
    ({"epsilon": 8}, r"epsilon must be in 0\.\.1 \(pixel space\), got 8; did you mean 8/255\?"),
    ({"epsilon": 300}, r"epsilon must be in 0\.\.1 \(pixel space\), got 300; give a part of 255 grey levels, such as 8/255"),
    ({"chanels": 8}, "There is no setting 'chanels'.*Did you mean 'channels'"),
    ({"channels": 7}, "channels must be even .*got 7; use 8"),
    ({"momentum": 1.0}, "momentum must be less than 1, got 1.0"),
    ({"dataset": "digit"}, "There is no dataset 'digit'.*Did you mean 'digits'"),
])
def test_a_refusal_is_a_sentence(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        build("search", "arnas", changes=changes)


@pytest.mark.parametrize(("field", "value", "sentence"), [
    ("epsilon", 0, "epsilon must be above 0, got 0; .*Every attack run measures the natural accuracy"),
    ("epsilon", "0/255", "epsilon must be above 0, got '0/255'"), ("epsilon", -0.1, "epsilon must be above 0, got -0.1"),
    ("epsilon", float("nan"), "epsilon must be a finite number, got nan"), ("epsilon", "nan", "epsilon must be a finite number"),
    ("epsilon", float("inf"), "epsilon must be"), ("epsilon", 1.01, r"epsilon must be in 0\.\.1 .*got 1.01"),
    ("epsilon_l2", 0, "epsilon_l2 must be above 0, got 0; .*Every attack run measures"),
    ("epsilon_l2", float("nan"), "epsilon_l2 must be a finite number"),
    ("step_size", 0, "step_size must be greater than 0, got 0"),
])
def test_an_attack_needs_a_ball(field: str, value: object, sentence: str) -> None:
    """At radius 0 an attack measures the natural accuracy, which must not be called robust."""
    norm = "L2" if field.endswith("l2") else "Linf"
    with pytest.raises(ConfigError, match=sentence):
        build("attack", changes={"norm": norm, field: value})


@pytest.mark.parametrize(("kind", "method", "changes", "sentence"), [
    ("search", "arnas", {"epsilon": 0}, "epsilon must be above 0, got 0; .*a method without an attack, such as darts"),
    ("search", "dsara", {"epsilon": 0}, "epsilon must be above 0"),
    ("search", "e2rnas2021", {"attack_epsilon": 0}, "attack_epsilon must be above 0"),
    ("search", "random_search", {"epsilon": 0}, "epsilon must be above 0 with the ranking adversarial"),
    *(("retrain", None, {"epsilon": 0, "training": training}, f"epsilon must be above 0 with the training {training}")
      for training in ("pgd_at", "trades", "fast_at")),
])
def test_adversarial_training_needs_a_ball(kind: str, method: str | None, changes: dict[str, object], sentence: str) -> None:
    """At radius 0, adversarial images are the natural ones, so the training or the objective would not be adversarial."""
    with pytest.raises(ConfigError, match=sentence):
        build(kind, method, changes=changes)


@pytest.mark.parametrize(("kind", "method", "changes"), [
    ("retrain", None, {"epsilon": 0, "training": "natural"}), ("search", "e2rnas", {"training_epsilon": 0}),
    ("search", "random_search", {"epsilon": 0, "ranking": "natural"}), ("search", "arnas", {"step_size": 0})])
def test_natural_training_may_have_no_ball(kind: str, method: str | None, changes: dict[str, object]) -> None:
    build(kind, method, changes=changes)


def test_a_method_is_known_without_torch() -> None:
    code = "import sys; from engine.search.methods.registry import METHODS; sys.exit('torch' in sys.modules or not len(METHODS))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert METHODS["arnas"].config is ArnasConfig


def test_a_search_normalises_and_cuts_out_where_its_published_code_does() -> None:
    papers = {name: build("search", name, "cifar10", "paper") for name in METHODS}
    published = {"arnas": (False, 0), "dsara": (False, 0), "darts": (True, 0), "e2rnas": (True, 16), "e2rnas2021": (True, 16),
                 "advrush": (True, 0)}
    assert {name: (papers[name].normalise, papers[name].cutout) for name in published} == published
    for name, config in papers.items():
        other = build("search", name, "cifar10", "paper", {"normalise": not config.normalise})
        word = "images not normalised" if config.normalise else "images normalised"
        assert config.deviations() == [] and other.deviations() == [word]
        assert str(type(config).model_fields["normalise"].description).startswith("Differs when ")


def test_a_dataset_says_how_large_a_square_is_and_a_method_whether_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    larger = replace(DATASETS["cifar10"], name="larger", defaults={"cutout": 32})
    monkeypatch.setitem(DATASETS._entries, "larger", larger)
    cutouts = {name: build("search", name, "larger", "paper").cutout for name in ("arnas", "e2rnas")}
    assert cutouts == {"arnas": 0, "e2rnas": 32}
    assert build("retrain", None, "larger", "paper").cutout == 32
    assert build("search", "e2rnas", "digits", "quick").cutout == 0


def test_a_recorded_search_has_what_it_ran_with_and_not_what_is_default_now() -> None:
    darts, run = METHODS["darts"].config, {"kind": "search", "method": "darts", "split_seed": 0}
    assert darts().normalise and not recorded(run | {"config": {"dataset": "digits"}}).normalise
    values = {"dataset": "digits", "normalise": True, "cutout": 2}
    assert recorded(run | {"config": values}).model_dump() == darts(normalise=True, cutout=2).model_dump()
    assert recorded({"kind": "retrain", "config": {"auxiliary_weight": 0.0}}).cutout == 16


@pytest.mark.parametrize(("record", "split_seed"), [
    ({"config": {"seed": 5}}, 5), ({"config": {}}, 2), ({"config": {"seed": 5}, "split_seed": 7}, 7),
    ({"config": {"seed": 5, "split_seed": 3}, "split_seed": 7}, 3)])
def test_an_old_run_keeps_its_splits(record: dict[str, object], split_seed: int) -> None:
    old = {"kind": "attack", "method": "arnas", **record}
    assert recorded(old).split_seed == split_seed
    assert not {"seed", "split_seed"} & {one.field for one in differences_from_paper(recorded(old))}


def test_every_refused_field_has_its_own_sentence():
    with pytest.raises(ConfigError) as refusal:
        build("search", "arnas", changes={"channels": 7, "momentum": 5, "epsilon": "x"})
    assert {field: sentence.split(",")[0] for field, sentence in refusal.value.problems.items()} == {
        "channels": "channels must be even (a reduction splits them into two halves)", "momentum": "momentum must be less than 1",
        "epsilon": "epsilon must be a valid number"}
