"""Genotypes: accepted and refused values, the hash, and the discretisation of DARTS."""

from __future__ import annotations

import json
import random

import pytest

from engine.architecture.genotype import (
    EDGES,
    KIND_SETS,
    KINDS_OF_ARNAS,
    NODES,
    OPERATIONS,
    PRIMITIVES,
    Cell,
    Genotype,
    derive,
    derive_genotype,
    state_name,
)
from engine.errors import GenotypeError

CELL = [["sep_conv_3x3", 0], ["skip_connect", 1], ["max_pool_3x3", 2], ["dil_conv_5x5", 0], ["avg_pool_3x3", 3],
        ["sep_conv_5x5", 1], ["dil_conv_3x3", 4], ["skip_connect", 0]]
RECORD = {"normal": CELL, "normal_concat": [2, 3, 4, 5], "reduce": CELL, "reduce_concat": [2, 3, 4, 5]}


def changed(**fields: object) -> dict:
    return json.loads(json.dumps(RECORD)) | fields  # unlike a deep copy, leaves the two cells no list in common


def random_rows(rng: random.Random, columns: int = len(PRIMITIVES)) -> list[list[float]]:
    return [[rng.random() for _ in range(columns)] for _ in EDGES]


def test_edges_are_in_darts_order() -> None:
    assert len(EDGES) == 14
    assert EDGES[:6] == ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3), (0, 4)) and EDGES[-1] == (4, 5)
    assert [state_name(state) for state in range(6)] == ["c_{k-2}", "c_{k-1}", "0", "1", "2", "3"]


def test_dict_and_json_round_trips() -> None:
    genotype = Genotype.from_dict(RECORD)
    assert genotype.to_dict() == RECORD
    assert Genotype.from_json(genotype.to_json()) == genotype
    assert Genotype.from_json(json.dumps(RECORD, indent=2)) == genotype
    assert genotype.kinds == ("normal", "reduce")
    assert genotype.cell("normal").nodes == NODES
    assert genotype.cell("reduce").incoming()[5] == ("sep_conv_5x5", 1, 4)


def test_hash_and_equality_do_not_depend_on_the_order_of_fields() -> None:
    reversed_record = dict(reversed(RECORD.items()))
    assert list(reversed_record) != list(RECORD)
    first, second = Genotype.from_dict(RECORD), Genotype.from_dict(reversed_record)
    assert first == second
    assert first.hash == second.hash
    # Pinned: a hash is written into files, so it must never change.
    assert first.hash == "403751fd823d"


def test_hash_depends_on_every_edge() -> None:
    hashes = {Genotype.from_dict(RECORD).hash}
    for kind in ("normal", "reduce"):
        for i in range(8):
            record = changed()
            record[kind][i][0] = "max_pool_3x3" if record[kind][i][0] != "max_pool_3x3" else "sep_conv_3x3"
            hashes.add(Genotype.from_dict(record).hash)
    assert len(hashes) == 17


def test_other_numbers_of_nodes_are_genotypes_too() -> None:
    five = [*CELL, ["conv_7x1_1x7", 5], ["sep_conv_7x7", 0]]
    genotype = Genotype.from_dict(changed(normal=five, normal_concat=[4, 5, 6]))
    assert genotype.cell("normal").nodes == 5


REFUSED = {
    "no object": ([], "must be an object"),
    "text": ("ARNAS", "must be an object"),
    "no cells": ({}, "must have the cells"),
    "a missing cell": ({"normal": CELL, "normal_concat": [2, 3, 4, 5]}, "must have the cells"),
    "a cell of the other family": (changed(robust=CELL, robust_concat=[2, 3, 4, 5]), "must have the cells"),
    "a missing concat": ({k: v for k, v in RECORD.items() if k != "reduce_concat"}, "'reduce_concat'"),
    "an odd field": (changed(accurate_concat=[2]), "only the fields"),
    "a field that is no text": (RECORD | {7: 1}, "only the fields"),
    "an unknown operation": (changed(normal=[["sep_conv_3x4", 0], *CELL[1:]]), "Did you mean 'sep_conv_3x3'"),
    "a cycle": (changed(normal=[*CELL[:2], ["skip_connect", 3], *CELL[3:]]), "cycle"),
    "a later node": (changed(normal=[*CELL[:2], ["skip_connect", 5], *CELL[3:]]), "0..2, got 5"),
    "a negative input": (changed(normal=[["skip_connect", -1], *CELL[1:]]), "0..1, got -1"),
    "an odd number of edges": (changed(normal=CELL[:7]), "two edges per node"),
    "no edges": (changed(normal=[]), "two edges per node"),
    "too few edges": (changed(normal=CELL[:6]), "normal_concat"),
    "an edge of three": (changed(normal=[["skip_connect", 0, 1], *CELL[1:]]), "pair"),
    "an input that is no number": (changed(normal=[["skip_connect", "0"], *CELL[1:]]), "pair"),
    "an input that is a truth value": (changed(normal=[["skip_connect", True], *CELL[1:]]), "pair"),
    "an operation that is no text": (changed(normal=[[["skip_connect"], 0], *CELL[1:]]), "pair"),
    "edges that are no list": (changed(normal="CELL"), "list of"),
    "a concat that is no list": (changed(normal_concat=4), "whole numbers"),
    "a concat of fractions": (changed(normal_concat=[2.5]), "whole numbers"),
    "an empty concat": (changed(normal_concat=[]), "distinct nodes"),
    "a doubled concat": (changed(normal_concat=[2, 2, 3, 4]), "distinct nodes"),
    "a concat of inputs": (changed(normal_concat=[1, 2]), "2..5"),
    "a concat beyond the last node": (changed(normal_concat=[5, 6]), "2..5"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_record_is_refused_with_a_sentence(name: str) -> None:
    record, part = REFUSED[name]
    with pytest.raises(GenotypeError) as refusal:
        Genotype.from_dict(record)
    sentence = str(refusal.value)
    assert part in sentence
    assert len(sentence) < 500
    assert sentence.endswith((".", "?"))


@pytest.mark.parametrize("text", ["", "{", "nonsense", "[" * 100_000, '{"normal": NaN}', "null", "3", '"ARNAS"', "\x00"])
def test_text_that_is_no_genotype_is_refused(text: str) -> None:
    with pytest.raises(GenotypeError):
        Genotype.from_json(text)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(GenotypeError, match="robust"):
        Genotype.from_dict(RECORD).cell("robust")


def test_derive_takes_the_two_strongest_edges_and_their_strongest_operations() -> None:
    rows = [[0.1] * 7 for _ in EDGES]
    rows[EDGES.index((0, 2))][1] = 0.3
    rows[EDGES.index((1, 2))][4] = 0.4  # stronger, so first
    rows[EDGES.index((2, 3))][6] = 0.9
    rows[EDGES.index((0, 3))][0] = 0.2
    rows[EDGES.index((3, 5))][3] = 0.5
    rows[EDGES.index((4, 5))][2] = 0.6
    cell = derive(rows)
    assert cell.edges == (
        ("sep_conv_5x5", 1), ("avg_pool_3x3", 0),
        ("dil_conv_5x5", 2), ("max_pool_3x3", 0),
        ("max_pool_3x3", 0), ("max_pool_3x3", 1),  # all equal: first edges, first operation
        ("skip_connect", 4), ("sep_conv_3x3", 3),
    )
    assert cell.concat == (2, 3, 4, 5)


def test_derive_never_takes_none_nor_counts_it() -> None:
    primitives = ("none", *PRIMITIVES)
    rng = random.Random(0)
    rows = random_rows(rng, 8)
    with_none = [[5.0 * rng.random(), *row[1:]] for row in rows]
    assert derive(with_none, primitives) == derive([row[1:] for row in rows])


def test_derive_against_a_transcription_of_the_rule() -> None:
    rng = random.Random(1)
    for _ in range(20):
        rows = random_rows(rng)
        cell = derive(rows)
        for node in range(2, 6):
            strength = {state: max(rows[EDGES.index((state, node))]) for state in range(node)}
            kept = cell.edges[2 * (node - 2):2 * (node - 1)]
            assert [state for _, state in kept] == sorted(strength, key=strength.get, reverse=True)[:2]
            for name, state in kept:
                assert rows[EDGES.index((state, node))][PRIMITIVES.index(name)] == strength[state]


@pytest.mark.parametrize("rows", [
    [], [[0.1] * 7] * 13, [[0.1] * 6] * 14, [[0.1] * 6 + [float("nan")]] * 14, [[0.1] * 6 + [float("inf")]] * 14,
])
def test_derive_refuses_what_are_no_weights(rows: list[list[float]]) -> None:
    with pytest.raises(GenotypeError):
        derive(rows)


@pytest.mark.parametrize("kinds", KIND_SETS)
def test_a_derived_genotype_is_valid(kinds: tuple[str, ...]) -> None:
    rng = random.Random(2)
    genotype = derive_genotype({kind: random_rows(rng) for kind in reversed(kinds)})
    assert genotype.kinds == kinds
    assert Genotype.from_json(genotype.to_json()) == genotype


def test_derive_genotype_refuses_other_kinds() -> None:
    with pytest.raises(GenotypeError):
        derive_genotype({"normal": random_rows(random.Random(3))})


def test_a_genotype_is_checked_however_it_is_made() -> None:
    bad = Cell((("warp", 0), ("skip_connect", 1)), (2,))
    with pytest.raises(GenotypeError, match="warp"):
        Genotype(tuple((kind, bad) for kind in KINDS_OF_ARNAS))
    assert "warp" not in OPERATIONS
