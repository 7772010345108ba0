"""The field of attacks on the Launch page: it offers every standard attack and keeps PGD of any length."""

from __future__ import annotations

import json

import pytest
from streamlit.testing.v1 import AppTest

from engine.attack.catalogue import ATTACKS
from tests.app.conftest import Samples
from tests.app.pages import open_launch, text_of


def imported(attacks: list[str]) -> AppTest:
    """Return the Launch page after the import of an attack run with these attacks."""
    page = open_launch(kind="attack")
    record = {"kind": "attack", "method": None, "dataset": "digits", "preset": "quick", "then": [],
              "changes": {"attacks": attacks}}
    page.file_uploader(key="launch.file.0").set_value(("config.json", json.dumps(record).encode(), "application/json")).run()
    return page.button(key="launch.use").click().run()


@pytest.mark.parametrize("attacks", [["fgsm", "pgd-100"], ["pgd-64", "fgsm"], ["pgd-7", "pgd-50"]])
def test_an_imported_attack_of_any_length_is_kept(samples: Samples, attacks: list[str]) -> None:
    page = imported(attacks)
    assert not page.exception
    (field,) = [one for one in page.multiselect if one.key.endswith(".attacks")]
    assert field.value == attacks
    assert field.options[:len(ATTACKS)] == [attack.title for _, attack in ATTACKS.items()]
    assert f"<td>{', '.join(ATTACKS[name].title for name in attacks)}</td>" in text_of(page)
    (field,) = [one for one in page.run().multiselect if one.key.endswith(".attacks")]
    assert field.value == attacks


def test_standard_attacks_are_offered_once(samples: Samples) -> None:
    page = open_launch(kind="attack")
    (field,) = [one for one in page.multiselect if one.key.endswith(".attacks")]
    assert field.options == [attack.title for _, attack in ATTACKS.items()]
