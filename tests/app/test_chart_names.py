"""Charts and tables name methods and datasets by their titles: "ARNAS" and "Digits 8x8", never as the command line does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from engine.data.catalogue import DATASETS
from engine.search.methods.registry import METHODS
from tests import sample_runs
from tests.app.conftest import Samples
from tests.app.pages import component_data, open_page, table_rows

NAMES = "|".join(map(re.escape, (*METHODS, *DATASETS)))
# A name inside the id of a run, in a command or in the address of a link is no name that a chart or table shows.
IN_TEXT = re.compile(rf"(?<![\w-])(?<!--method )(?<!--dataset )({NAMES})(?![\w-])")
TAG = re.compile(r"<[^>]*>")
UNSEEN = ("legendgroup", "stackgroup", "uirevision", "customdata")


def texts(value: Any, field: str = "") -> Iterator[str]:
    """Yield all texts in a figure or table that a reader can see."""
    if isinstance(value, str) and field not in UNSEEN:
        yield value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from texts(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner, field)


def test_no_chart_or_table_shows_the_name_of_a_setting(samples: Samples) -> None:
    ids = samples.ids
    sample_runs.write_hand_made(samples.root)
    drawn_at_random = sample_runs.write_random_search(samples.root)
    wrong, drawn = set(), 0
    search = [("run", {"id": ids["search"], "tab": tab}) for tab in ("overview", "alphas", "objectives", "settings")]
    for page, query in (("pareto", {}), ("robustness", {}), ("runs", {}), *search, ("run", {"id": ids["attack"]}),
                        ("compare", {"runs": f"{ids['search']},{drawn_at_random}"})):
        test = open_page(page, **query)
        assert not test.exception
        charts = [[json.loads(data["figure"]), data["label"]] for data in component_data(test, "rampart_live_plot")]
        markup = [TAG.sub(" ", element.proto.body) for element in test.get("html")]
        drawn += len(charts)
        shown = [*texts(charts), *texts(markup), *texts(table_rows(test))]
        wrong |= {f"{page}: {text}" for text in shown if IN_TEXT.search(text)}
    assert drawn > 10
    assert not wrong
