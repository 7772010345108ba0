"""The collapse of a search: the rule on published genotypes, on planted collapses, and on weights that are almost even."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.architecture.catalogue import CATALOG
from engine.architecture.genotype import PRIMITIVES
from engine.insight.collapse import RADAR, last_healthy_epoch, level_of, radar
from engine.log import RunLog
from engine.log.alpha_queries import AlphaHistory
from tests.engine.insight.planted import SEARCH, alphas_of, write_search
from tests.sample_runs import write_resumed_retrain


def test_the_rule_on_published_genotypes_is_as_its_description_says() -> None:
    levels = {name: {level_of(kind, cell, math.nan) for kind, cell in entry.genotype.cells}
              for name, entry in CATALOG.items() if entry.genotype}
    collapsed = [name for name, found in levels.items() if "warning" in found]
    assert len(collapsed) == 9 and all("E2RNAS" in name or "LRNAS" in name for name in collapsed)
    skips = [name for name, entry in CATALOG.items() if entry.genotype and any(
        kind != "reduce" and sum(operation == "skip_connect" for operation, _ in cell.edges) >= 2
        for kind, cell in entry.genotype.cells)]
    assert len(skips) == len(levels) / 2 and {"ARNAS", "DARTS_V2"} <= set(skips)
    assert levels["ARNAS"] == {"", "info"} and levels["PC_DARTS_CIFAR"] == {""}


def test_a_planted_collapse_is_found_in_its_cell_with_the_last_healthy_epoch(read: Callable[[], RunLog], tmp_path: Path) -> None:
    sound, fallen = alphas_of(), alphas_of(robust="skip_connect")
    write_search(tmp_path, [sound, sound, sound, fallen, fallen])
    table = radar(read(), SEARCH)
    assert list(table.columns) == list(RADAR) and len(table) == 15
    assert table[table["alarm"]][["cell", "epoch", "level"]].to_numpy().tolist() == [["robust", 3, "warning"],
                                                                                    ["robust", 4, "warning"]]
    last = table[(table["cell"] == "robust") & (table["epoch"] == 4)].iloc[0]
    assert (last["skips"], last["parameter_free"], last["edges"]) == (8, 8, 8)
    assert last["dominant"] == "skip_connect" and last["dominant_share"] == 1 == last["parameter_free_share"]
    assert last["parameter_free_mass"] == pytest.approx((math.exp(2) + 2) / (math.exp(2) + 6), abs=2e-3)
    assert last_healthy_epoch(table) == 2 == last_healthy_epoch(table, "robust") and last_healthy_epoch(table, "reduce") is None


def test_two_skip_connections_are_the_criterion_of_darts_plus(read: Callable[[], RunLog], tmp_path: Path) -> None:
    alphas = alphas_of()
    alphas["accurate"][:2, PRIMITIVES.index("skip_connect")] = 3.0  # both edges into the first node
    write_search(tmp_path, [alphas])
    table = radar(read(), SEARCH).set_index("cell")
    assert table["level"].to_dict() == {"accurate": "info", "reduce": "", "robust": ""}
    assert table.loc["accurate", "skips"] == 2 and last_healthy_epoch(table.reset_index()) == -1


def test_reduction_cells_and_almost_even_weights_raise_no_alarm(read: Callable[[], RunLog], tmp_path: Path) -> None:
    write_search(tmp_path, [alphas_of(0.1, operation="skip_connect"), alphas_of(reduce="max_pool_3x3")])
    table = radar(read(), SEARCH)
    assert not table["alarm"].any() and last_healthy_epoch(table) is None
    first = table[table["epoch"] == 0]
    assert (first["skips"] == 8).all() and (first["relative_entropy"] > 0.99).all()


def test_a_recovered_search_has_no_last_healthy_epoch(read: Callable[[], RunLog], tmp_path: Path) -> None:
    write_search(tmp_path, [alphas_of(), alphas_of(robust="skip_connect"), alphas_of()])
    table = radar(read(), SEARCH)
    assert table["alarm"].sum() == 1 and last_healthy_epoch(table) is None


def test_a_run_without_genotypes_has_no_rows(read: Callable[[], RunLog], tmp_path: Path) -> None:
    run = write_resumed_retrain(tmp_path)
    table = radar(read(), run)
    assert table.empty and list(table.columns) == list(RADAR) and last_healthy_epoch(table) is None


def test_the_signs_are_computed_once_until_the_run_has_news(tmp_path: Path) -> None:
    class Counting(RunLog):
        asked = 0

        def alpha_history(self, run: str, cell: str, *, by_epoch: bool = False) -> AlphaHistory | None:
            self.asked += 1
            return super().alpha_history(run, cell, by_epoch=by_epoch)

    write_search(tmp_path, [alphas_of(), alphas_of()])
    log = Counting.open(tmp_path, in_memory=True)
    log.ingest()
    first = radar(log, SEARCH)
    first["alarm"] = True  # the answer is the caller's own
    again = radar(log, SEARCH)
    assert log.asked == 3 and len(again) == 6 and not again["alarm"].any()
    write_search(tmp_path, [alphas_of()] * 3)
    log.ingest()
    assert len(radar(log, SEARCH)) == 9 and log.asked == 6
    log.close()
