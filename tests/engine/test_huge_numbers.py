"""Numbers that are too long or too large, in every numeric setting: a sentence at once, whatever the door."""

from __future__ import annotations

import json
import time
import typing

import pytest

from engine.config import parse_pixels
from engine.configuration_file import from_text, value_of
from engine.configuring import build, config_class
from engine.errors import ConfigError
from engine.search.methods.registry import METHODS

TEXTS = ("1e30000000", "-1e30000000", "1/1e30000000", "9" * 400, "9" * 5000, "1" * 900 + "/7", "1e400", "inf", "nan", "9" * 25)
VALUES = (10**400, -10**400, 10**25, 1e300, float("inf"), float("nan"))
KINDS = [("search", method) for method, _ in METHODS.items()] + [("retrain", None), ("attack", None)]


@pytest.mark.parametrize(("kind", "method"), KINDS)
def test_every_numeric_setting_answers_with_a_sentence(kind: str, method: str | None) -> None:
    started = time.process_time()
    for name, info in config_class(kind, method).model_fields.items():
        if not {info.annotation, *typing.get_args(info.annotation)} & {int, float}:
            continue
        for given in (*TEXTS, *VALUES):
            value = value_of(info, given) if isinstance(given, str) else given
            with pytest.raises(ConfigError, match=rf"{name} must be .*[.]") as refusal:
                build(kind, method, "digits", "quick", {name: value})
            assert len(str(refusal.value)) < 400
    assert time.process_time() - started < 20


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_bounded_before_it_is_computed(text: str) -> None:
    started = time.process_time()
    parse_pixels(text)
    assert time.process_time() - started < 0.1


def test_numbers_that_people_write_are_still_read() -> None:
    assert [parse_pixels(text) for text in ("8/255", " 8 / 255 ", "0.03", ".5", "1e-3", "-2", "5.", "1_0", "x")] == [
        8 / 255, 8 / 255, 0.03, 0.5, 1e-3, -2.0, 5.0, "1_0", "x"]


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_a_configuration_file_with_a_huge_number_is_refused(form: str) -> None:
    record = {"kind": "retrain", "dataset": "digits", "preset": "quick"}
    huge = json.dumps(record | {"changes": {"epochs": 0}}).replace('"epochs": 0', f'"epochs": {"9" * 3000}')
    yaml = "kind: retrain\ndataset: digits\npreset: quick\nchanges:\n  learning_rate: 1e30000000\n"
    with pytest.raises(ConfigError, match=r"(epochs|learning_rate) must be .*"):
        from_text(huge if form == "json" else yaml)
