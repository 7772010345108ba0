"""The Architectures page: the gallery, one architecture, several side by side, changed ones, and their accuracy."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import parse_qs
from xml.etree import ElementTree

import pytest
from streamlit.testing.v1 import AppTest

from app.architectures import Size, numbers
from app.components.architecture_detail import picture
from app.downloads import file_at
from app.formats import count
from engine.architecture.canonical import canonical
from engine.architecture.catalogue import find_genotype
from engine.architecture.cost import cost
from engine.architecture.genotype import Genotype
from engine.architecture.swaps import read_swap, swapped
from engine.drawing.cell import description
from engine.run.folder import RunFolder
from engine.run.lineage import found_genotype
from engine.whatif.question import Answer, Counts, Question
from tests import sample_runs
from tests.app.conftest import Samples
from tests.app.pages import component_data, open_page, text_of
from tests.engine.whatif.searches import real_search
from tests.sample_runs import genotype_at

ARNAS, DARTS = (canonical(find_genotype(name)).hash for name in ("ARNAS", "DARTS_V2"))
FOUND = canonical(genotype_at(40)).hash


def drawings(page: AppTest, key: str) -> list[str]:
    return [element.proto.json for element in page.get("bidi_component") if element.proto.component_name == "rampart_cell_graph"
            and element.proto.id.split("-")[-1].startswith(key)]


def asked(page: AppTest, name: str) -> str:
    """Return a query parameter of the page's address. AppTest holds it as a list before the page has changed it."""
    value = page.query_params.get(name, "")
    return value if isinstance(value, str) else ",".join(value)


def test_an_empty_folder_shows_the_published_genotypes_with_equal_ones_on_one_card(empty: Path) -> None:
    page = open_page("architectures", find="dsara")
    text = text_of(page)
    assert not page.exception and "1 of 36 architectures" in text and "also DSARA" in text and "Not trained here yet." in text
    assert "4.52 million parameters" in text  # at 64 channels, 20 cells, CIFAR-10, as published
    assert len(drawings(page, "architecture_sketch")) == 1
    page.button(key=f"architectures.open.{ARNAS}").click().run()
    assert not page.exception and asked(page, "show") == ARNAS
    assert "No run has found it as its result, or trained it yet." in text_of(page) and "Nothing is changed yet." in text_of(page)
    page.number_input(key="architectures.channels").set_value(36).run()
    size = cost(find_genotype("ARNAS"), channels=36, layers=20, classes=10, image_shape=(3, 32, 32))
    assert f"{size.parameters / 1e6:.2f} million" in text_of(page) and asked(page, "channels") == "36"
    page.button(key="architectures.back").click().run()
    assert not page.exception and "1 of 36 architectures" in text_of(page)


def test_the_gallery_shows_found_architectures_with_results_filters_and_orders(samples: Samples) -> None:
    page = open_page("architectures", source="attacked")
    text = text_of(page)
    assert not page.exception and "1 of " in text and "found on Digits" in text
    assert "natural <b>96.4 %</b> (93.9 to 97.9 %, 360 images), worst case <b>48.4 %</b> (36.6 to 60.4 %, 64 images)" in text
    assert "AutoAttack" in text and f"run?id={samples.ids['attack']}" in text
    page = open_page("architectures", source="published", order="parameters", dataset="digits", channels="8", layers="5")
    keys = [str(one.key).rpartition(".")[2] for one in page.button if str(one.key).startswith("architectures.open.")]
    assert len(keys) == 12 and page.button(key="architectures.more").label == "Show all 36"
    page = open_page("architectures", find="no such words")
    assert not page.exception and "No architecture matches." in text_of(page)


def test_two_ticked_architectures_open_side_by_side_at_one_scale_with_differences_marked(samples: Samples) -> None:
    page = open_page("architectures", pick=FOUND, find="arnas fyqsama")
    page.checkbox(key=f"architectures.pick.{ARNAS}").check().run()
    assert asked(page, "pick") == f"{FOUND},{ARNAS}"
    page.button(key="architectures.side").click().run()
    assert not page.exception and asked(page, "show") == f"{FOUND},{ARNAS}"
    assert open_page("architectures", show=samples.ids["retrain"]).multiselect(key="architectures.show").value == [FOUND]
    first, second = drawings(page, "architecture_cells")
    assert "rp-changed-halo" not in first and "rp-changed-halo" in second
    text = text_of(page)
    assert "edges of ARNAS that ARNAS · " in text and "of 24." in text
    assert f"run?id={samples.ids['attack']}" in text and "48.4 %" in text and "12 channels, 5 cells" in text
    assert {one.label for one in page.selectbox} >= {"Accurate cell", "Robust cell", "Cell", "Edge", "Operation"}


def test_an_address_that_names_nothing_known_says_so_and_shows_the_gallery(samples: Samples) -> None:
    page = open_page("architectures", show="0123456789ab", channels="x", layers="999", source="?")
    assert not page.exception and "neither published nor in this folder: 0123456789ab." in text_of(page)
    assert [page.number_input(key=f"architectures.{name}").value for name in ("channels", "layers")] == [64, 20]
    page = open_page("architectures", show=ARNAS, swap="robust.99.none,x,robust.3.nothing", part="nobody.accurate:robust,a:b")
    text = text_of(page)
    assert not page.exception and "from 0 to 7, got 99" in text and "must be CELL.EDGE.OPERATION" in text
    assert "must come from an architecture of this page" in text and "Nothing is changed yet." in text


def test_a_swap_shows_its_sizes_at_once_and_goes_to_launch(samples: Samples) -> None:
    page = open_page("architectures", show=ARNAS, edge="robust.2")
    base, size = find_genotype("ARNAS"), Size("cifar10", 64, 20)
    assert page.selectbox(key="architectures.edge").value == 2
    page.selectbox(key="architectures.operation").select("skip_connect").run()
    changed = swapped(base, [read_swap("robust.2.skip_connect")])
    assert not page.exception and asked(page, "swap") == "robust.2.skip_connect"
    (drawn,) = (data["html"] for data in component_data(page, "rampart_cell_graph", "architecture_draft"))
    assert drawn.count("rp-changed-halo") == 1 and "Robust cell" in drawn and "Accurate cell" not in drawn
    fewer = numbers(base, size).parameters - numbers(changed, size).parameters
    assert fewer > 0 and f"−{count(fewer)} (−{fewer / numbers(base, size).parameters:.1%})" in text_of(page)
    assert f">{count(numbers(changed, size).parameters)}<" in text_of(page)
    assert "No search that has ended here has weights for these cells" in text_of(page)  # the samples have no checkpoints
    page.button(key="architectures.retrain").click().run()
    assert not page.exception and asked(page, "kind") == "retrain"
    launch = page.segmented_control(key="launch.source")
    assert launch.value == "paste" and Genotype.from_json(page.text_area(key="launch.pasted").value) == changed


def test_a_pasted_genotype_is_opened_and_stays_in_the_address(empty: Path) -> None:
    own = swapped(find_genotype("ARNAS"), [read_swap("robust.2.skip_connect"), read_swap("reduce.0.none")])
    page = open_page("architectures")
    page.text_area(key="architectures.pasted").set_value('{"accurate": 1}').run()
    page.button(key="architectures.paste").click().run()
    assert not page.exception and "A genotype must have the cells" in text_of(page)
    page.text_area(key="architectures.pasted").set_value(own.to_json()).run()
    page.button(key="architectures.paste").click().run()
    assert not page.exception and asked(page, "show") == canonical(own).hash
    again = open_page("architectures", show=canonical(own).hash, genotype=own.to_json())
    assert not again.exception and f"genotype {canonical(own).hash}" in text_of(again)
    assert "A genotype must be JSON" in text_of(open_page("architectures", genotype="{"))


def test_swaps_are_undone_one_by_one_or_all(samples: Samples) -> None:
    page = open_page("architectures", show=ARNAS, swap="robust.2.skip_connect,accurate.0.avg_pool_3x3", edge="robust.2")
    assert "Accurate cell, c(k−2) → node 0: skip is now avg pool 3×3" in text_of(page)
    page.button(key="architectures.undo").click().run()
    assert asked(page, "swap") == "robust.2.skip_connect"
    page.selectbox(key="architectures.operation").select(find_genotype("ARNAS").cell("robust").edges[2][0]).run()
    assert not page.exception and not asked(page, "swap") and "Nothing is changed yet." in text_of(page)


def test_cells_are_taken_from_another_architecture_or_used_everywhere(samples: Samples) -> None:
    page = open_page("architectures", show=f"{ARNAS},{DARTS}", swap="robust.2.skip_connect")
    page.selectbox(key="architectures.part.robust").select(f"{DARTS}.normal").run()
    assert not page.exception and asked(page, "part") == f"{DARTS}.normal:robust" and not asked(page, "swap")
    arnas, darts = find_genotype("ARNAS"), find_genotype("DARTS_V2")
    (drawn,) = component_data(page, "rampart_cell_graph", "architecture_draft")
    assert description(darts.cell("normal"), "Robust cell") in drawn["html"]
    page.button(key="architectures.everywhere.accurate").click().run()
    assert asked(page, "part") == f"{ARNAS}.accurate:robust"
    page.button(key="architectures.retrain").click().run()
    pasted = Genotype.from_json(page.text_area(key="launch.pasted").value)
    assert pasted.cell("robust") == arnas.cell("accurate") and pasted.cell("reduce") == arnas.cell("reduce")


def test_a_known_answer_is_shown_with_intervals_and_as_no_result(samples: Samples) -> None:
    folder = RunFolder(samples.root, samples.ids["search"])
    folder.checkpoint.mkdir()
    (folder.checkpoint / "last.pt").write_bytes(b"weights")
    base = genotype_at(40)
    operation = "avg_pool_3x3" if base.cell("robust").edges[1][0] != "avg_pool_3x3" else "skip_connect"
    question = Question(folder.id, (base, swapped(base, [read_swap(f"robust.1.{operation}")])))
    answer = Answer((Counts(200, 120, 60), Counts(200, 90, 30)), "digits", 0.15, 10)
    sample_runs.write_json(samples.root / "control" / "whatif" / f"{question.key(samples.root)}.json", {
        "counts": [vars(one) for one in answer.counts], "dataset": "digits", "epsilon": 0.15, "steps": 10})
    page = open_page("architectures", show=FOUND, swap=f"robust.1.{operation}")
    text = text_of(page)
    assert not page.exception and "Inherited weights, not a result: 200 images of the select split of Digits" in text
    assert "60.0 %" in text and "53.1 to 66.5 %" in text and "15.0 %" in text and "PGD-10" in text and "L∞ 0.15" in text
    assert page.selectbox(key="architectures.weights").value == folder.id


@pytest.mark.slow
def test_an_answer_comes_from_the_weights_of_a_real_search(empty: Path) -> None:
    search = real_search(empty)
    found = found_genotype(empty, search)
    page = open_page("architectures", show=canonical(found).hash, swap="robust.1.none")
    task = page.session_state["architectures.inherited"][1]
    assert "Measuring with inherited weights" in text_of(page)
    task.wait(120)
    page.run()
    assert not page.exception and "Inherited weights, not a result: 64 images of the select split" in text_of(page)


def test_cells_are_downloaded_as_svg_and_genotypes_as_json(samples: Samples) -> None:
    page = open_page("architectures", show=ARNAS)
    bodies = " ".join(element.proto.body for element in page.get("html"))
    addresses = [part.split('"')[0] for part in bodies.split('href="')[1:] if part.startswith("files/") and "table." not in part]
    files = {file.name: file for one in addresses if (file := file_at(one.replace("&amp;", "&"))) is not None}
    root = ElementTree.fromstring(files["arnas-robust.svg"].make())
    assert root.tag.endswith("svg") and sum(one.tag.endswith("circle") for one in root.iter()) == 4
    assert files["arnas-robust.svg"].make() == picture(find_genotype("ARNAS"), "robust")
    assert Genotype.from_dict(json.loads(files["arnas.json"].make())) == find_genotype("ARNAS")


def test_a_run_page_address_is_a_link_on_every_card(samples: Samples) -> None:
    page = open_page("architectures", source="found")
    links = [parse_qs(part.split('"')[0])["run?id"] for part in text_of(page).split('href="')[1:] if part.startswith("run?id=")]
    assert links and all(one[0].startswith("2026") for one in links)


def test_the_card_of_a_random_search_is_its_best_candidate_and_links_to_the_others(empty: Path) -> None:
    run = sample_runs.write_random_search(empty)
    sample_runs.write_random_search(empty, f"{run[:-1]}6", measured=2, ended="", ranking="none")
    best = canonical(genotype_at(10, seed=3)).hash
    link = f'Best of 4 candidates: <a href="run?id={run}&amp;tab=candidates" target="_self">see the 3 others</a>'
    found, detail = (text_of(open_page("architectures", **asked)) for asked in ({"source": "found"}, {"show": best}))
    for text in (found, detail):
        assert best in text and text.count(link) == 1
    assert "First of 2 candidates so far: " in found and found.count(">see the other one</a>") == 1
    assert "First of 2" not in detail
