"""The strip of a network's cells: one bar per cell, coloured by kind, its height the width of the cell; and the form above it."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app import theme
from app.components.form import value_text
from app.drawing.placement_picture import TALLEST, description, network_svg, rule_figure, rules_figures
from engine.architecture.genotype import KINDS_OF_ARNAS, KINDS_OF_DARTS
from engine.architecture.placement import RULES, positions
from engine.config import RetrainConfig
from engine.errors import ConfigError
from engine.run.folder import run_ids
from engine.search.methods.registry import METHODS
from tests.app.pages import component_data, open_launch, text_of

CIFAR = {"channels": 24, "image_shape": (3, 32, 32)}
SEARCH = "launch.search.arnas.digits.quick.0"
RETRAIN = "launch.retrain..digits.quick.0"


def elements(svg: str, tag: str) -> list[ElementTree.Element]:
    return ElementTree.fromstring(svg).findall(f".//{tag}")


@pytest.mark.parametrize("layers", [3, 4, 8, 20, 64])
@pytest.mark.parametrize("rule", list(RULES))
def test_a_bar_is_a_cell(rule: str, layers: int) -> None:
    cells = positions(RULES[rule].kinds, layers, rule, "1:2:16")
    bars = elements(network_svg(cells, **CIFAR), "rect")
    assert [bar.get("fill") for bar in bars] == [theme.CELL_COLOURS[cell.kind] for cell in cells]
    for bar, cell in zip(bars, cells, strict=True):
        tallest = max(one.channels_multiplier for one in cells)
        assert float(bar.get("height", 0)) == pytest.approx(TALLEST * cell.channels_multiplier / tallest, abs=0.06)
    lefts, widths = ([float(bar.get(name, 0)) for bar in bars] for name in ("x", "width"))
    assert all(left + width <= after for left, width, after in zip(lefts, widths, lefts[1:], strict=False))
    marked = [text.text for text in elements(network_svg(cells, **CIFAR), "text")]
    assert marked.count("÷2") == 2


def test_the_numbers_below_the_strip_are_those_of_the_thirds() -> None:
    svg = network_svg(positions(KINDS_OF_DARTS, 8), **CIFAR)
    words = [text.text for text in elements(svg, "text")]
    assert [word for word in words if word and word.isdigit()] == ["24", "48", "96"]
    assert [word for word in words if word and "×" in word] == ["32×32", "16×16", "8×8"]


def test_the_strip_in_words() -> None:
    assert description(positions(KINDS_OF_ARNAS, 8, "robust_first"), channels=4) == (
        "From input to output: 2 robust cells of 4 channels, 1 reduction cell of 8 channels, 2 robust cells of 8 channels, "
        "1 reduction cell of 8 channels, 2 accurate cells of 8 channels.")


def test_every_rule_has_its_name_its_sentence_and_a_picture_of_its_own() -> None:
    sizes = {"width_ratio": "1:2:2", "channels": 8, "layers": 8, "image_shape": (1, 8, 8)}
    figures = {name: rule_figure(name, **sizes) for name in RULES}
    for name, rule in RULES.items():
        assert rule.title in figures[name] and rule.text.replace("'", "&#x27;") in figures[name]
    assert len({re.search("<svg viewBox.*?</svg>", figure)[0] for figure in figures.values()}) == len(RULES)  # type: ignore[index]
    assert rules_figures(None, **sizes).count("<figure") == len(RULES)
    assert rules_figures(KINDS_OF_DARTS, **sizes).count("<figure") == 1
    with pytest.raises(ConfigError, match="width_ratio"):
        rule_figure("normal", **sizes | {"width_ratio": "2:2:2"})


def test_choices_have_titles() -> None:
    for cls in (*(method.config for _, method in METHODS.items()), RetrainConfig):
        assert value_text(cls.model_fields["placement"], "robust_first") == "Robust cells first"
    assert value_text(RetrainConfig.model_fields["placement"], "") == "as searched or published"
    assert value_text(RetrainConfig.model_fields["match"], "none") == "none"


def drawn(page: AppTest) -> str:
    """Return the picture of the rule on the form; "" for none."""
    drawings = component_data(page, "rampart_cell_graph", "launch.placement")
    return drawings[0]["html"] if drawings else ""


def arnas_form() -> AppTest:
    """The Launch page, set to a search with ARNAS."""
    page = open_launch()
    return page.selectbox(key="launch.method").select("arnas").run()


def test_the_picture_follows_the_form_and_the_run_is_what_was_drawn(empty: Path) -> None:
    page = arnas_form()
    assert "<b>Accurate cells first.</b>" in drawn(page) and drawn(page).count("<rect") == 5 + 3  # and three in the legend
    page.selectbox(key=f"{SEARCH}.placement").select("robust_first").run()
    page.text_input(key=f"{SEARCH}.width_ratio").input("1:2:4").run()
    page.number_input(key=f"{SEARCH}.layers").set_value(6).run()
    assert not page.exception
    assert "<b>Robust cells first.</b>" in drawn(page) and "1 robust cell of 8 channels" not in drawn(page)
    assert "2 robust cells of 8 channels, 1 reduction cell of 16 channels" in drawn(page)
    assert "--placement robust_first" in text_of(page) and "--width-ratio 1:2:4" in text_of(page)
    page.button(key="launch.go").click().run()
    runs = [json.loads((empty / run / "run.json").read_text(encoding="utf-8")) for run in run_ids(empty)]
    assert {run["title"] for run in runs} == {"ARNAS, robust cells first, widths 1:2:4"}
    (search,) = (run for run in runs if run["kind"] == "search")
    assert (search["config"]["placement"], search["config"]["width_ratio"]) == ("robust_first", "1:2:4")


def test_a_refused_ratio_has_its_sentence_and_no_picture(empty: Path) -> None:
    page = arnas_form()
    page.text_input(key=f"{SEARCH}.width_ratio").input("1:2").run()
    assert not page.exception and drawn(page) == ""
    assert "three whole numbers from 1 to 16" in text_of(page) and page.button(key="launch.go").disabled


def test_the_form_of_a_retraining_shows_the_network_of_its_genotype(empty: Path) -> None:
    page = open_launch(kind="retrain")
    page.selectbox(key="launch.catalogue").select("DARTS_V2").run()
    assert "<b>Normal cells.</b>" in drawn(page)
    page.selectbox(key="launch.catalogue").select("ARNAS").run()
    page.selectbox(key=f"{RETRAIN}.placement").select("alternating").run()
    assert "<b>Alternating cells.</b>" in drawn(page)
    before = text_of(page)
    page.text_input(key=f"{RETRAIN}.width_ratio").input("1:1:1").run()
    assert not page.exception and "parameters" in text_of(page) and text_of(page) != before
    page.selectbox(key=f"{RETRAIN}.placement").select("normal").run()
    assert not page.exception and drawn(page) == ""
    assert "placement must be a rule for the cells accurate, reduce, robust" in "\n".join(element.value for element in page.text)


def test_an_empty_text_says_what_it_stands_for(empty: Path) -> None:
    page = open_launch(kind="retrain")
    assert page.text_input(key=f"{RETRAIN}.width_ratio").placeholder == "as searched or published"
    assert page.text_input(key=f"{RETRAIN}.match_to").placeholder == "none"
    assert not page.text_input(key=f"{RETRAIN}.momentum").placeholder
