"""Palette, cell graph, layout, log tail, formats and the small HTML components."""

from __future__ import annotations

import itertools
import random
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from app import formats, theme
from app.assets import asset
from app.components.attack_table import attack_table_html, ordered
from app.components.chain import step_words, steps_html
from app.components.html_table import StaticColumn, code, html_table
from app.components.log_tail import read_tail
from app.components.progress import progress_html
from app.components.run_alphas import change_words
from app.components.status import status_chip_html
from app.drawing.cell_graph import cells_html, changed_edges
from app.formats import about, rounded
from engine.architecture.catalogue import CATALOG, find_genotype
from engine.architecture.genotype import KIND_SETS, PRIMITIVES, Cell, Genotype
from engine.drawing.cell import LABEL, SMALLEST, cell_svg, cell_width, description, legend_html
from engine.drawing.cell_layout import Link, place
from engine.drawing.dot import to_dot
from tests.sample_runs import genotype_at

# Machado, Oliveira and Fernandes 2009, severity 1: linear RGB as seen by the three kinds of dichromats.
VISIONS = {
    "usual": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
SRGB_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour: str) -> np.ndarray:
    """A hex colour as linear RGB."""
    value = np.array([int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """Linear RGB as CIE L*a*b*, D65."""
    xyz = SRGB_TO_XYZ @ np.clip(rgb, 0, 1) / np.array([0.9505, 1, 1.089])
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(one: str, other: str) -> float:
    """WCAG contrast ratio."""
    low, high = sorted(linear(c) @ SRGB_TO_XYZ[1] for c in (one, other))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("vision", VISIONS)
def test_operations_differ_for_every_kind_of_colour_vision(vision):
    seen = {name: lab(np.array(VISIONS[vision]) @ linear(theme.operation(name).colour)) for name in PRIMITIVES}
    for one, other in itertools.combinations(PRIMITIVES, 2):
        assert np.linalg.norm(seen[one] - seen[other]) > 19, (one, other)


@pytest.mark.parametrize("vision", VISIONS)
def test_cells_differ_for_every_kind_of_colour_vision(vision):
    seen = {kind: lab(np.array(VISIONS[vision]) @ linear(colour)) for kind, colour in theme.CELL_COLOURS.items()}
    for kinds in KIND_SETS:
        for one, other in itertools.combinations(kinds, 2):
            assert np.linalg.norm(seen[one] - seen[other]) > 19, (one, other)


@pytest.mark.parametrize("background", ["#FFFFFF", "#10151C"])
def test_colours_read_on_both_themes(background):
    colours = [*(theme.operation(name).colour for name in PRIMITIVES), *theme.SERIES.values(), *theme.CELL_COLOURS.values(),
               *(colour for colour, _ in theme.FURTHER_SERIES), theme.FRONT]
    assert all(contrast(colour, background) >= 3 for colour in colours)
    assert background in (Path(theme.__file__).parents[0] / ".streamlit" / "config.toml").read_text()


def test_operations_also_differ_without_any_colour():
    looks = {(theme.operation(name).dash, theme.operation(name).width, theme.operation(name).short) for name in PRIMITIVES}
    assert len(looks) == len(PRIMITIVES)


@pytest.mark.parametrize("name", list(CATALOG))
def test_every_published_cell_is_drawn_with_all_its_edges(name):
    genotype = CATALOG[name].genotype
    if genotype is None:
        pytest.skip("kept as data without a genotype of this space")
    for kind, cell in genotype.cells:
        root = ElementTree.fromstring(cell_svg(cell, title=kind))
        labels = [node.text for node in root.iter("text") if node.get("class") == "rp-edge-label"]
        assert sorted(labels) == sorted(theme.operation(operation).short for operation, _ in cell.edges)
        box = [float(number) for number in root.get("viewBox").split()]
        for node in root.iter("text"):
            assert 0 <= float(node.get("x")) <= box[2] and 0 <= float(node.get("y")) <= box[3]


def boxes_of(svg):
    """Return (left, right, top, bottom, what) of every label and node of a drawing; letters are at most 7.4 pixels wide."""
    boxes = []
    for element in ElementTree.fromstring(svg).iter():
        if element.get("class") == "rp-edge-label":
            x, y, half = float(element.get("x")), float(element.get("y")), 3.7 * len("".join(element.itertext()))
            boxes.append((x - half, x + half, y - 11, y + 3, "label"))
        elif element.tag == "rect":
            x, y, width, height = (float(element.get(name)) for name in ("x", "y", "width", "height"))
            boxes.append((x, x + width, y, y + height, "node"))
        elif element.tag == "circle":
            x, y, r = (float(element.get(name)) for name in ("cx", "cy", "r"))
            boxes.append((x - r, x + r, y - r, y + r, "node"))
    return boxes


def shallow_and_random_cells():
    for operation in PRIMITIVES:  # all nodes next to the inputs, all operations equal, also on doubled edges
        for states in ((0, 1), (0, 0)):
            yield Cell(tuple((operation, state) for _ in range(4) for state in states), (2, 3, 4, 5))
    draw = random.Random(1)
    for _ in range(60):
        yield Cell(tuple((draw.choice(PRIMITIVES), state) for node in range(2, 6) for state in draw.sample(range(node), 2)),
                   (2, 3, 4, 5))


def test_labels_of_a_cell_overlap_neither_each_other_nor_a_node():
    for cell in shallow_and_random_cells():
        for one, other in itertools.combinations(boxes_of(cell_svg(cell, title="cell")), 2):
            apart = one[1] <= other[0] or other[1] <= one[0] or one[3] <= other[2] or other[3] <= one[2]
            assert apart or one[4] == other[4] == "node", cell


def test_all_cells_of_a_network_have_one_scale_at_which_labels_have_11_pixels():
    found = find_genotype("ARNAS")
    widths = [cell_width(found.cell(kind)) for kind in found.kinds]
    assert len(set(widths)) > 1
    sizes = re.findall(r"width:clamp\((\d+)px,calc\(([\d.]+) \* 100cqw\),(\d+)px\)", cells_html(found))
    shares = [float(share) / float(widest) for _, share, widest in sizes]
    assert len(sizes) == 3 and max(shares) - min(shares) < 1e-5  # equally wide containers give one scale
    assert all(float(smallest) / float(full) == pytest.approx(SMALLEST, abs=0.002) for smallest, _, full in sizes)
    assert SMALLEST * LABEL >= 11 and ".rp-edge-label { font-size: 13px" in asset("rampart.css")


def test_changed_edges_are_those_their_node_did_not_have():
    before = Cell((("skip_connect", 0), ("sep_conv_3x3", 1)), (2,))
    after = Cell((("sep_conv_3x3", 1), ("skip_connect", 1)), (2,))  # the kept edge moved to the first place
    assert changed_edges(before, after) == [1]
    assert changed_edges(before, before) == []
    marked = cell_svg(after, title="cell", changed=[1])
    assert marked.count("rp-changed-halo") == 1 and "✱" in marked


def test_graph_in_words_and_as_dot():
    genotype = genotype_at(40)
    words = description(genotype.cell("robust"), "Robust cell")
    assert words.startswith("Robust cell: ") and "Output joins nodes 0, 1, 2, 3." in words
    dot = to_dot(genotype, "robust")
    assert dot.startswith("digraph robust_cell") and dot.count("->") == 12


def test_legend_names_each_operation():
    assert all(theme.operation(name).title in legend_html(PRIMITIVES) for name in PRIMITIVES)


def test_layout_keeps_distances_and_avoids_a_needless_crossing():
    layer = {0: 0, 1: 0, 2: 2, 3: 2}
    links = [Link("a", 0, 3, 20.0), Link("b", 1, 2, 20.0)]
    nodes = place(layer, links, node_gap=40.0).nodes
    assert abs(nodes[2][1] - nodes[3][1]) >= 40
    assert nodes[3][1] < nodes[2][1]  # each opposite to its source, so that the links do not cross


def test_log_tail_pins_the_last_error_and_survives_odd_bytes(tmp_path: Path):
    path = tmp_path / "log.txt"
    assert read_tail(path).text == ""
    path.write_bytes(b"step 1\r 10%\r 50%\nValueError: first\n\xff\xfe odd\ntorch.OutOfMemoryError: second\nlast line\n")
    tail = read_tail(path)
    assert tail.error == "torch.OutOfMemoryError: second"
    assert tail.text.splitlines()[0] == " 50%" and not tail.cut
    assert read_tail(path, "LAST").text == "last line" and read_tail(path, "no such text").text == ""


def test_long_log_is_cut_at_a_line(tmp_path: Path):
    path = tmp_path / "log.txt"
    path.write_text("".join(f"line {i}\n" for i in range(50_000)))
    tail = read_tail(path)
    assert tail.cut and tail.text.endswith("line 49999") and tail.text.splitlines()[0].startswith("line ")


def test_formats():
    assert formats.percent(0.9561) == "95.6 %" and formats.percent(float("nan")) == "–"
    assert formats.interval(0.918, 0.967) == "91.8 to 96.7 %"
    assert [formats.duration(s) for s in (9, 75, 700, 4000, 7200, 172_800)] == [
        "9 s", "1 min 15 s", "12 min", "1 h 6 min", "2 h", "2 d"]
    assert [formats.epsilon(e) for e in (8 / 255, 0.15)] == ["8/255", "0.15"]
    assert re.fullmatch(r"2026-11-1[78] \d\d:\d\d", formats.moment(1_795_000_000.0)) and formats.moment(None) == "–"
    assert formats.coarse(190.0) == "3 min"
    assert [formats.count(number) for number in (1797, 999_999, 1e6, 4_520_394, 10_999_000, 526e6, 999.9e6, 1.9e9, 5e12)] == [
        "1,797", "999,999", "1.00 million", "4.52 million", "11.0 million", "526 million", "1.00 billion", "1.90 billion",
        "5,000 billion"]
    assert [formats.times(number) for number in (1, 3)] == ["once", "3 times"]


def test_text_from_files_is_escaped():
    assert "<script>" not in status_chip_html("failed", "<script>alert(1)</script>")
    assert "<b>" not in steps_html([{"id": "x", "kind": "<b>", "status": "queued"}], "y").replace("<b>&lt;b&gt;</b>", "")


def test_chip_says_how_long_a_live_run_is_silent():
    assert "no news for 4 min" in status_chip_html("running", silent_s=250)
    assert "no news" not in status_chip_html("finished", silent_s=250)


def test_steps_link_to_the_other_runs_and_mark_the_current():
    runs = [{"id": "a", "kind": "search", "status": "finished"},
            {"id": "b", "kind": "retrain", "status": "running", "progress": 0.42, "seconds_left": 75.0}]
    html = steps_html(runs, "a")
    assert 'aria-current="page"' in html and 'href="run?id=b"' in html and 'href="run?id=a"' not in html
    assert step_words(runs[1]) == "Running, 42 %, 1 min 15 s left"
    held = [{"id": "a", "kind": "search", "status": "stopped"}, {"id": "b", "kind": "retrain", "status": "queued", "parent": "a"}]
    assert "Held until" in steps_html(held, "a") and "Waiting" not in steps_html(held, "a")


def test_steps_of_one_kind_are_told_apart_by_the_ends_of_their_ids():
    kinds = {"20261118-0906-retrain-digits-7f3b": "retrain", "20261118-0906-attack-digits-7f3c": "attack",
             "20261118-0920-attack-digits-0d01": "attack"}
    html = steps_html([{"id": run, "kind": kind, "status": "finished"} for run, kind in kinds.items()], "")
    assert [end in html for end in (">7f3b<", ">7f3c<", ">0d01<")] == [False, True, True]


def test_progress_shows_a_number_that_moves():
    html = progress_html(title="Search", done=2.7, total=40, passes=12, detail="PGD step 3 of 7", seconds_left=90)
    assert 'data-measured="12"' in html and "2 of 40 steps" in html and "about 1 min 30 s left" in html
    assert 'aria-valuenow="7"' in html
    assert "waits its turn" in progress_html(title="Attack", done=None, total=None, pending="waits its turn")
    assert ">1 forward pass<" in progress_html(title="Search", done=0, total=40, passes=1)


def test_a_table_is_escaped_and_says_what_its_cells_are():
    columns = (StaticColumn("Name", lambda row: row[0], names_row=True),
               StaticColumn("<i>", lambda row: code(row[1]), right=True))
    html = html_table(columns, [("<b>", 1), ("c", "<d>")], label='Say "x"', note="<note>", group=lambda row: row[0],
                      row_look=lambda row: "rp-strong" if row[0] == "c" else "")
    table = ElementTree.fromstring(f"<div>{html}</div>").find(".//table")
    assert table.get("aria-label") == 'Say "x"' and table.find("caption").text == "<note>"
    assert [(th.get("scope"), th.text) for th in table.iter("th")] == [
        ("col", "Name"), ("col", "<i>"), ("rowgroup", "<b>"), ("row", "<b>"), ("rowgroup", "c"), ("row", "c")]
    assert [td.find("code").text for td in table.iter("td")] == ["1", "<d>"]
    assert [tr.get("class") for tr in table.iter("tr")] == [None, None, None, None, "rp-strong"]


def test_attack_table_keeps_parts_below_their_suite():
    columns = ["attack", "title", "part_of", "epsilon", "images", "accuracy", "low", "high", "fingerprint"]
    rows = [["pgd-20", "PGD-20", "", 0.15, 360, 0.6, 0.5, 0.7, "a"],
            ["square", "Square", "autoattack", 0.15, 64, 0.5, 0.4, 0.6, "b"],
            ["natural", "Natural", "", 0.0, 360, 0.96, 0.9, 0.98, "c"],
            ["autoattack", "AutoAttack", "", 0.15, 64, 0.5, 0.4, 0.6, "d"]]
    frame = pd.DataFrame(rows, columns=columns)
    assert ordered(frame)["attack"].tolist() == ["natural", "pgd-20", "autoattack", "square"]
    assert ordered(frame.iloc[:3])["attack"].tolist() == ["natural", "pgd-20", "square"]  # AutoAttack is not complete
    html = attack_table_html(frame)
    assert "90.0 to 98.0 %" in html and "<td class=\"rp-right\">0.15</td>" in html


def test_words_about_changes():
    assert "Before the first step" in change_words(0, 0, 0)  # nothing can have changed yet
    assert change_words(3, 2, 0) == "Epoch 3: 2 of 8 edges of this cell changed, marked ✱."
    assert change_words(3, 0, 2) == "Epoch 3: all cells unchanged for 2 epochs."
    assert change_words(3, 0, 0) == "Epoch 3: this cell did not change, but another did."
    assert "in progress" in change_words(4, 1, None)


def test_a_genotype_of_the_darts_family_has_titles_too():
    kinds = {kind for entry in CATALOG.items() if isinstance(entry[1].genotype, Genotype) for kind in entry[1].genotype.kinds}
    assert all(kind in theme.CELL_TITLES for kind in kinds)


def test_expected_durations_are_no_more_exact_than_they_can_be_known() -> None:
    hour, day = 3600, 86_400
    texts = {20: "under 1 min", 40: "1 min", 329: "5 min", 3580: "1 h", 9000: "2 h 30 min", 7250: "2 h", 1.5 * day: "1.5 d",
             3 * day: "3 d", 35.4 * day: "35 d", 150 * day: "5 months", 484 * day: "more than a year", 23.99 * hour: "1 d"}
    assert {seconds: rounded(seconds) for seconds in texts} == texts
    assert (about(10), about(300), about(500 * day)) == ("under 1 min", "about 5 min", "more than a year")
