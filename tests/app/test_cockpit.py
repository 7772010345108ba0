"""The charts of how a search weighs its objectives: shares at each vertex, gradients and stationarity."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from app import theme
from app.charts.cockpit import gradients, ignored_by_epoch, vertices
from app.components.run_objectives import agreement
from engine.insight.objectives import ClosedForm, Vertices

WHOLE = Vertices(800, {"natural": 0.0, "adversarial": 0.25}, {"natural": 0.25, "adversarial": 0.0},
                 {"natural": 800, "adversarial": 800})
NEWEST = Vertices(500, {"natural": 0.0, "adversarial": 0.4}, {"natural": 0.4, "adversarial": 0.0},
                  {"natural": 500, "adversarial": 500})


def objectives_of(natural: np.ndarray, adversarial: np.ndarray) -> pd.DataFrame:
    """Return what `RunLog.objectives` returns, with these norms of the gradients by step."""
    return pd.concat([pd.DataFrame({"step": np.arange(1, len(norms) + 1), "objective": name, "norm": norms, "weight": 0.5})
                      for name, norms in (("natural", natural), ("adversarial", adversarial))])


def test_bars_hold_the_share_of_all_steps_at_each_vertex_and_lines_that_of_the_newest() -> None:
    alone, of_newest, ignored, ignored_of_newest = vertices(WHOLE, NEWEST)["data"]
    assert alone["y"] == ignored["y"] == ["natural", "adversarial"]
    assert (alone["x"], alone["text"], ignored["text"]) == ([0, 25], ["0 %", "25 %"], ["25 %", "0 %"])
    assert (of_newest["x"], ignored_of_newest["x"]) == ([0, 40], [40, 0]) and "last 500 steps" in of_newest["hovertemplate"]
    assert alone["marker"]["color"] == [theme.SERIES["natural"], theme.SERIES["adversarial"]]
    titles = [note["text"] for note in vertices(WHOLE, NEWEST)["layout"]["annotations"]]
    assert titles == ["<b>decides alone (weight 1)</b>", "<b>is ignored (weight 0)</b>"]
    assert len(vertices(WHOLE, WHOLE)["data"]) == 2  # without lines if the newest steps are all steps


def test_gradients_and_stationarity_are_drawn_on_logarithmic_scales_with_ticks() -> None:
    combined = pd.DataFrame({"step": [1, 2, 3], "stationarity": [2e-1, 0.0, 2e-5]})
    figure = gradients(objectives_of(np.array([0.05, 0.04, 0.03]), np.array([0.03, 0.03, 0.0])), combined)
    lines = {trace["name"]: trace for trace in figure["data"]}
    assert lines["natural gradient"]["y"] == [0.05, 0.04, 0.03]
    assert lines["adversarial gradient"]["x"] == [1, 2] and lines["weighted sum"]["x"] == [1, 3]  # no logarithm of zero
    assert figure["layout"]["yaxis"]["tickvals"] == [0.03, 0.039, 0.05] and figure["layout"]["yaxis2"]["dtick"] == 1
    assert figure["layout"]["yaxis2"]["title"]["text"] == "stationarity"


def test_the_share_ignored_is_drawn_by_epoch() -> None:
    epochs = pd.DataFrame({"epoch": [1, 1, 2, 2], "objective": ["natural", "adversarial"] * 2, "ignored": [0.0, 0.0, 0.5, 0.0]})
    natural, adversarial = ignored_by_epoch(epochs)["data"]
    assert natural["x"] == [1, 2] and natural["y"] == [0, 50] and adversarial["y"] == [0, 0]


def test_without_steps_the_charts_say_what_will_come() -> None:
    nothing = pd.DataFrame({"step": [], "objective": [], "norm": [], "stationarity": [], "epoch": [], "ignored": []})
    for figure in (gradients(nothing, nothing), ignored_by_epoch(nothing), vertices(Vertices(0, {}, {}, {}), NEWEST)):
        assert not figure["data"] and "appear after the first step" in figure["layout"]["annotations"][0]["text"]


@pytest.mark.parametrize(("found", "words"), [
    (ClosedForm(1200, 1.0, 3e-8), "In all 1,200 steps, the recorded weights are these to within 0.000001."),
    (ClosedForm(1, 1.0, 0.0), "In the only step, the recorded weights are these to within 0.000001."),
    (ClosedForm(200, 0.97, 0.0312), "97.0 % of 200 steps; the largest difference is 0.031.")])
def test_the_agreement_with_the_closed_form_is_told(found: ClosedForm, words: str) -> None:
    assert agreement(found).endswith(words)
