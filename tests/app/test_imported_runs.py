"""Imported runs on every page: shown like any other, marked as imported, and without claims about unknown settings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.drawing.cell_graph import widest_of
from engine.architecture.catalogue import find_genotype
from engine.drawing.cell import cell_svg
from engine.exchange import entry
from tests.app.pages import PAGES, component_data, open_page, run_tabs, table_rows, text_of
from tests.engine.exchange.public_files import search_log


@pytest.fixture
def imported(empty: Path, tmp_path: Path) -> dict[str, str]:
    """Import a log, alphas, a genotype and a checkpoint as runs; return form -> id."""
    import torch

    from engine.space.network import Network

    genotype = find_genotype("DARTS_V2")
    (tmp_path / "log.txt").write_text(search_log([find_genotype("RACL"), genotype]))
    (tmp_path / "g.json").write_text(genotype.to_json())
    torch.save(Network(genotype, channels=2, layers=4, classes=10, image_shape=(1, 8, 8)).state_dict(), tmp_path / "w<b>.pt")
    weights = np.random.default_rng(0).dirichlet(np.ones(8), (3, 14)).astype(np.float32)
    for name in ("alphas_normal.npy", "alphas_reduce.npy"):
        np.save(tmp_path / name, weights)
    return {"curves": entry.take(empty, tmp_path / "alphas_normal.npy"),
            "log": entry.take(empty, tmp_path / "log.txt"), "genotype": entry.take(empty, tmp_path / "g.json"),
            "checkpoint": entry.take(empty, tmp_path / "w<b>.pt", genotype="DARTS_V2", dataset="digits")}


def test_every_page_shows_them(imported: dict[str, str]):
    for page in PAGES:
        assert not open_page(page).exception
    rows = table_rows(open_page("runs"))
    assert set(imported.values()) <= set(rows)
    assert "search of log.txt, imported" in " ".join(rows[imported["log"]].values())


@pytest.mark.parametrize("form", ["log", "curves", "genotype", "checkpoint"])
def test_the_run_page_says_what_is_known_and_no_more(imported: dict[str, str], form: str):
    tabs = run_tabs(imported[form])
    words = "\n".join(map(text_of, tabs.values()))
    assert not any(test.exception for test in tabs.values())
    further = {"log": ["genotype"], "curves": ["alphas", "genotype"]}.get(form, [])
    assert list(tabs) == ["overview", *further, "settings", "lineage"]
    assert ", imported" in words and "which holds no other settings" in words
    assert "the published settings" not in words and "<b>.pt" not in words
    assert "repeats this import" in words
    # The page announces no data that an import never has, and says nothing on the weighting of losses.
    assert "appear" not in words and "MGDA" not in words and "Natural versus adversarial" not in words
    if form == "curves":
        assert component_data(tabs["alphas"], "rampart_live_plot", "run_heat_normal")
    if form != "checkpoint":  # a search's cells; those of a retraining appear with its chain
        graphs = [data["html"] for data in component_data(tabs["overview"], "rampart_cell_graph")]
        assert sum(html.count("<svg viewBox") for html in graphs) >= 2


def test_the_epochs_of_an_imported_log_can_be_played(imported: dict[str, str]):
    test = open_page("run", id=imported["log"], tab="genotype")
    (player,) = component_data(test, "rampart_time_machine")
    widest = widest_of([find_genotype("RACL"), find_genotype("DARTS_V2")])
    first, last = (player["frames"][one["frame"]] for one in player["epochs"])
    assert not test.exception and cell_svg(find_genotype("RACL").cell("normal"), title="Normal cell", widest=widest) in first
    assert [one["words"].split(":")[0] for one in player["epochs"]] == ["Epoch 0 of 1", "Epoch 1 of 1"]
    assert "rp-changed-halo" in last and "rp-changed-halo" not in first
