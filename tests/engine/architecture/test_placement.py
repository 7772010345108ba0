"""Placement of cells: the published networks and the refusals."""

from __future__ import annotations

import pytest

from engine.architecture.genotype import KIND_SETS, KINDS_OF_ARNAS, KINDS_OF_DARTS
from engine.architecture.placement import RULES, auxiliary_map, check_size, halved, positions, resolved, rules_for
from engine.errors import ConfigError
from engine.search.methods.registry import METHODS


def drawn(kinds: tuple[str, ...], layers: int, placement: str = "", width_ratio: str = "") -> str:
    """Return a letter and the width for each cell, for example "a1 r2"."""
    return " ".join(f"{cell.kind[0] if cell.kind != 'reduce' else 'R'}{cell.channels_multiplier}"
                    for cell in positions(kinds, layers, placement, width_ratio))


def test_the_supernet_and_the_network_of_arnas() -> None:
    assert drawn(("robust", "reduce", "accurate"), 8) == "a1 a1 R2 a2 a2 R2 r2 r2"
    assert drawn(KINDS_OF_ARNAS, 20) == " ".join(["a1"] * 6 + ["R2"] + ["a2"] * 6 + ["R2"] + ["r2"] * 6)
    assert drawn(KINDS_OF_ARNAS, 14) == " ".join(["a1"] * 4 + ["R2"] + ["a2"] * 4 + ["R2"] + ["r2"] * 4)


def test_the_network_of_darts() -> None:
    assert drawn(KINDS_OF_DARTS, 8) == "n1 n1 R2 n2 n2 R4 n4 n4"


@pytest.mark.parametrize(("placement", "width_ratio", "cells"), [
    ("accurate_first", "1:2:4", "a1 a1 R2 a2 a2 R4 r4 r4"),
    ("robust_first", "1:2:4", "r1 r1 R2 r2 r2 R4 a4 a4"),
    ("accurate_first_third", "", "a1 a1 R2 r2 r2 R2 r2 r2"),
    ("robust_first_third", "1:1:1", "r1 r1 R1 a1 a1 R1 a1 a1"),
    ("alternating", "1:3:2", "a1 r1 R3 a3 r3 R2 a2 r2"),
    ("alternating", "", "a1 r1 R2 a2 r2 R2 a2 r2"),
])
def test_rules_and_ratios_by_hand(placement: str, width_ratio: str, cells: str) -> None:
    assert drawn(KINDS_OF_ARNAS, 8, placement, width_ratio) == cells
    assert drawn(KINDS_OF_DARTS, 8, "normal", width_ratio or "1:2:2") == "".join(
        "n" if letter in "ar" else letter for letter in cells)


@pytest.mark.parametrize("rule", list(RULES))
def test_every_kind_of_a_rule_stands_somewhere_in_every_supernet(rule: str) -> None:
    """A cell kind without a place would have alphas that never change."""
    assert tuple(sorted(RULES[rule].kinds)) in KIND_SETS
    (fewest,) = (bound.ge for bound in METHODS["arnas"].config.model_fields["layers"].metadata if hasattr(bound, "ge"))
    for layers in range(fewest, 65):
        assert {cell.kind for cell in positions(RULES[rule].kinds, layers, rule)} == set(RULES[rule].kinds)


def test_each_rule_has_a_name_and_a_sentence_of_its_own() -> None:
    for field in ("title", "text"):
        assert len({getattr(rule, field) for _, rule in RULES.items()}) == len(RULES)
    assert all(rule.text.endswith(".") and name == rule.name for name, rule in RULES.items())


@pytest.mark.parametrize("kinds", KIND_SETS)
def test_the_published_rule_comes_first_and_every_rule_belongs_to_one_family(kinds: tuple[str, ...]) -> None:
    assert rules_for(kinds)[0] == resolved(kinds)["placement"]
    assert [name for family in KIND_SETS for name in rules_for(family)] == list(RULES)


def test_what_is_not_said_is_as_published() -> None:
    assert resolved(KINDS_OF_ARNAS) == {"placement": "accurate_first", "width_ratio": "1:2:2"}
    assert resolved(KINDS_OF_DARTS) == {"placement": "normal", "width_ratio": "1:2:4"}
    assert resolved(KINDS_OF_ARNAS, "robust_first", " 1 : 1:1 ") == {"placement": "robust_first", "width_ratio": "1:1:1"}


@pytest.mark.parametrize("ratio", ["1:2", "1:2:2:2", "2:2:2", "1:0:2", "1:17:2", "1:2:-2", "1:2:2.5", "1,2,4", "a:b:c", ":",
                                   "1:2:" + 5000 * "9"])
def test_what_is_no_width_ratio_is_refused_with_a_sentence(ratio: str) -> None:
    with pytest.raises(ConfigError, match="from 1 to 16 separated by colons, the first of them 1.*give for example") as told:
        positions(KINDS_OF_ARNAS, 8, "", ratio)
    assert len(str(told.value)) < 300


@pytest.mark.parametrize("layers", range(3, 24))
@pytest.mark.parametrize("kinds", [KINDS_OF_ARNAS, KINDS_OF_DARTS])
def test_two_reductions_and_what_follows_them(kinds: tuple[str, ...], layers: int) -> None:
    cells = positions(kinds, layers)
    assert len(cells) == layers
    assert [i for i, cell in enumerate(cells) if cell.reduction] == [layers // 3, 2 * layers // 3]
    assert all(cell.reduction == (cell.kind == "reduce") for cell in cells)
    assert [cell.after_reduction for cell in cells] == [False, *(cell.reduction for cell in cells[:-1])]


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="at least 3"):
        positions(KINDS_OF_DARTS, 2)
    with pytest.raises(ConfigError, match="accurate, reduce, robust"):
        positions(("normal",), 8)
    with pytest.raises(ConfigError, match="placement must be a rule for the cells accurate, reduce, robust, got normal"):
        positions(KINDS_OF_ARNAS, 8, "normal")
    with pytest.raises(ConfigError, match="Did you mean 'robust_first'"):
        positions(KINDS_OF_ARNAS, 8, "robust_frist")
    with pytest.raises(ConfigError, match="image_shape"):
        check_size(16, 10, (32, 32))
    with pytest.raises(ConfigError, match="channels"):
        check_size(0, 10, (3, 32, 32))
    with pytest.raises(ConfigError, match="classes"):
        check_size(16, 2.5, (3, 32, 32))  # type: ignore[arg-type]
    check_size(3, 10, (3, 32, 32), "1:2:4")
    with pytest.raises(ConfigError, match="channels must be even.*use 4"):
        check_size(3, 10, (3, 32, 32), "1:2:3")


def test_the_auxiliary_head_sees_the_published_maps() -> None:
    assert auxiliary_map((3, 32, 32)) == (2, 2)
    assert auxiliary_map((3, 64, 64)) == (4, 4)
    assert [halved(size) for size in (1, 2, 7, 8)] == [1, 1, 4, 4]
    with pytest.raises(ConfigError, match="auxiliary"):
        auxiliary_map((1, 8, 8))
