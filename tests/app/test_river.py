"""The river of a cell: the strongest operations stand out, flips are marked, and an edge can be seen at full size."""

from __future__ import annotations

import numpy as np

from app.charts.river import apart, edge_river, river
from engine.architecture.genotype import EDGES, derive
from engine.insight.alphas import river_of
from engine.log.alpha_queries import AlphaHistory, Course
from tests.app.conftest import Samples
from tests.app.pages import component_data, open_page

OPERATIONS = ("skip_connect", "sep_conv_3x3", "dil_conv_5x5")


def history(steps: int = 4) -> AlphaHistory:
    """Return alphas in which the strongest operation of edge 3 changes once, between steps 2 and 3."""
    alpha = np.zeros((steps, len(EDGES), len(OPERATIONS)), np.float32)
    alpha[..., 1] = 1.0
    alpha[2:, 3, 2] = 2.0
    return AlphaHistory(OPERATIONS, np.arange(1, steps + 1), np.arange(1, steps + 1), alpha, None)


def courses(of: AlphaHistory) -> list[Course]:
    weights = np.exp(of.alpha) / np.exp(of.alpha).sum(axis=2, keepdims=True)
    return [Course(edge, name, of.steps.tolist(), weights[:, edge, column].round(4).tolist())
            for edge in range(len(EDGES)) for column, name in enumerate(OPERATIONS)]


def test_the_strongest_operation_of_each_edge_stands_out_and_flips_are_marked() -> None:
    known = history()
    figure = river(courses(known), river_of(known, "normal"))
    strong = [trace for trace in figure["data"] if trace.get("name")]
    assert [trace["meta"] for trace in strong] == [str(edge) for edge in range(len(EDGES))]
    assert {trace["name"] for trace in strong} == {"sep 3×3", "dil 5×5"} and strong[3]["name"] == "dil 5×5"
    ticks = {trace["meta"]: trace for trace in figure["data"] if trace["mode"] == "markers"}
    assert {edge: trace["x"] for edge, trace in ticks.items() if trace["x"]} == {"3": [3]}
    assert ticks["3"]["text"] == ["sep 3×3 → dil 5×5, epoch 3"]
    faint = next(trace for trace in figure["data"] if trace["meta"] == "3" and trace["mode"] == "lines" and not trace.get("name"))
    assert faint["x"] == [1, 2, 3, 4, None] * 2  # gaps separate the lines of the other operations
    bold = [note["text"].startswith("<b>") for note in figure["layout"]["annotations"]]
    kept = {(source, target) for _, source, target in derive(np.exp(known.alpha[-1]).tolist(), OPERATIONS).incoming()}
    assert bold == [edge in kept for edge in EDGES] and sum(bold) == 8 and bold[3]


def test_an_edge_at_full_size_shows_shares_that_add_up_entropy_and_margin() -> None:
    course = river_of(history(), "normal", by_epoch=False)
    figure = edge_river(course, 3)
    areas = [trace["y"] for trace in figure["data"] if trace.get("stackgroup")]
    assert np.allclose(np.sum(areas, axis=0), 1, atol=1e-3)
    lines = {trace["name"]: trace["y"] for trace in figure["data"] if trace.get("yaxis") == "y2"}
    weights = np.exp([0, 1, 2]) / np.exp([0, 1, 2]).sum()
    assert np.isclose(lines["entropy"][-1], -(weights * np.log(weights)).sum() / np.log(3), atol=1e-4)
    assert np.isclose(lines["margin"][-1], weights[2] - weights[1], atol=1e-4)
    assert [shape["x0"] for shape in figure["layout"]["shapes"]] == [3]
    assert not edge_river(course, 0)["layout"]["shapes"]


def test_without_weights_both_say_what_will_come() -> None:
    for figure in (river([], None), edge_river(None, 0)):
        assert not figure["data"] and "appear after the first step" in figure["layout"]["annotations"][0]["text"]


def test_the_page_shows_the_edge_of_its_address(samples: Samples) -> None:
    test = open_page("run", id=samples.ids["search"], tab="alphas", edge="5", cell="robust")
    assert not test.exception and test.selectbox(key="run_edge").value == "5"
    assert component_data(test, "rampart_live_plot", "run_edge_robust_5")


def test_names_at_the_end_of_an_edge_stand_apart_and_inside() -> None:
    assert apart([0.1, 0.5, 0.9], 0.065) == [0.1, 0.5, 0.9]
    crowded = apart([0.3, 0.31, 0.97, 0.98, 0.99], 0.065)
    assert min(np.diff(crowded)) > 0.0649 and max(crowded) <= 1 and crowded[0] == 0.3
    known = history()
    known.alpha[-1, 3, 2] = 9.0  # the other areas are too thin for a line of text
    notes = edge_river(river_of(known, "normal"), 3)["layout"]["annotations"]
    heights = [note["y"] for note in notes if note["yref"] == "y"]
    assert len(heights) == len(OPERATIONS) and min(np.diff(heights)) > 0.0649
