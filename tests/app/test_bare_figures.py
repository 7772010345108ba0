"""No page shows a bare accuracy: a result has its interval and number of images, other figures their split and "not a result"."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests import sample_runs
from tests.app.conftest import Samples
from tests.app.pages import component_data, open_page

PERCENTAGE = re.compile(r"\d %(?!\{)|:\.\d%\}")
INTERVAL = re.compile(r"\d+\.\d to \d+\.\d(?! points|\d)")
WORTH = re.compile("images|search seed", re.I)  # what an interval comes from
# Percentages that are no accuracies: the level of an interval or of tests, progress, a share of steps, a tolerance, a power, a
# share of edges.
OTHERS = re.compile(r"95 %|at 5 %|within 5 %|(Running|Stopping), \d+ %|\d+ % of the last [\d,]+ steps|at 80 % power|"
                    r"(Search|Retrain|Attack) \d+ %|agree on \d+ % of the edges; random cells on \d+ %")


def is_bare(statement: str) -> bool:
    """Return True if a statement has an accuracy without interval and without the images or search seeds behind the interval.

    An accuracy that is "not a result" needs its split instead.
    """
    text = OTHERS.sub("", statement).strip()
    if not PERCENTAGE.search(text):
        return False
    return not (INTERVAL.search(text) and WORTH.search(text)) and not ("split" in text and "not a result" in text)


def statements(page: AppTest, row: str = "tr") -> Iterator[str]:
    """Yield every text of a page: paragraphs, boxes, rows of tables with their heads and captions, cells, hover texts.

    Args:
        page: the page.
        row: "tr", or "td" to read each cell of a table by itself, with the caption of its table.
    """
    for kind in ("markdown", "caption"):
        yield from (str(element.value) for element in page.get(kind))
    for element in page.get("html"):
        yield from of_html(element.proto.body, row)
    for data in component_data(page, "rampart_table"):
        yield from (f"{cell['text']} {cell.get('sub', '')}" for row in data["rows"] for name, cell in row["cells"].items()
                    if name != "progress")
    for data in component_data(page, "rampart_live_plot"):
        yield from of_figure(json.loads(data["figure"]))


def of_html(body: str, row: str = "tr") -> Iterator[str]:
    """Yield the texts of a piece of HTML."""
    for table in re.findall(r"<table.*?</table>", body, re.S):
        frame = " ".join(re.findall("<caption>.*?</caption>" + "|<thead>.*?</thead>" * (row == "tr"), table, re.S))
        yield from (plain(f"{frame} {one}") for one in re.findall(rf"<{row}\b.*?</{row}>", table.split("</thead>")[1], re.S))
    rest = re.sub(r"<table.*?</table>", "", body, flags=re.S)
    yield from map(plain, re.split(r"</p>|</div>|</li>", rest))


def of_figure(figure: dict[str, Any]) -> Iterator[str]:
    """Yield the hover texts of a chart."""
    for trace in figure["data"]:
        texts = trace.get("hovertext", [])
        yield from [texts] if isinstance(texts, str) else texts
        yield trace.get("hovertemplate", "")


def plain(markup: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", " ", markup))


@pytest.mark.parametrize(("statement", "bare"), [
    ("64.9 %", True), ("64.9 % 59.8 to 69.7 %, 359 images", False), ("64.9 % 59.8 to 69.7 %", True),
    ("PGD-7 24.4 % alphas split", True), ("PGD-7 24.4 % alphas split, not a result", False), ("Running, 32 %", False),
    ("95 % Wilson intervals", False), ("the highest mean (64.9 %)", True), ("64.9 % (95 %: 59.8 to 69.7)", True),
    ("mean 64.9 % (95 %: 59.8 to 69.7; 5 search seeds)", False)])
def test_a_bare_accuracy_is_recognised(statement: str, bare: bool) -> None:
    assert is_bare(statement) == bare


def test_no_page_shows_a_bare_accuracy(samples: Samples) -> None:
    """Every statement of the pages, with runs of every kind and in every state, says what its accuracies are worth."""
    runs = [*samples.ids.values(), *sample_runs.write_hand_made(samples.root), sample_runs.write_random_search(samples.root)]
    pages = [("runs", {}), ("pareto", {}), ("launch", {}), ("launch", {"kind": "retrain", "parent": samples.ids["search"]}),
             ("launch", {"kind": "attack", "parent": samples.ids["retrain"]}), *(("run", {"id": run}) for run in runs),
             ("compare", {"runs": ",".join(runs)}), ("compare", {"runs": ",".join(run for run in runs if "-attack-" in run)})]
    said, bare = 0, []
    for name, query in pages:
        page = open_page(name, **query)
        assert not page.exception
        texts = list(statements(page))
        said += sum(bool(PERCENTAGE.search(text)) for text in texts)
        bare += [(name, *query.values(), text) for text in texts if is_bare(text)]
    assert not bare, "\n".join(map(str, bare))
    assert said > 100


def test_no_page_of_studies_shows_a_bare_accuracy(sample_studies: Samples) -> None:
    """In every state of a study, each accuracy has an interval, in cells and headlines, too."""
    pages = [("studies", {}), *(("study", {"id": study}) for study in sample_studies.ids.values())]
    said, bare = 0, []
    for name, query in pages:
        page = open_page(name, **query)
        assert not page.exception
        texts = list(statements(page, "td"))
        said += sum(bool(PERCENTAGE.search(text)) for text in texts)
        bare += [(name, *query.values(), text) for text in texts if is_bare(text)]
    assert not bare, "\n".join(map(str, bare))
    assert said > 100
