"""The trail of a run over the front: its ends are labelled, and the front is that of all runs like it."""

from __future__ import annotations

import pandas as pd

from app.charts.trail import trail_figure

OTHER, OWN = "20261118-1000-arnas-digits-0001", "20261118-1001-arnas-digits-0002"


def epochs_of(run: str, points: list[tuple[float, float]], front: set[int]) -> pd.DataFrame:
    """Return rows of `RunLog.pareto_epochs` of one run; `front` holds its epochs on the front."""
    return pd.DataFrame([{
        "run": run, "title": "ARNAS <b>", "epoch": epoch, "natural": natural, "adversarial": adversarial, "attack_title": "PGD-7",
        "epsilon": 8 / 255, "measured": "alphas split, batch statistics", "is_front": epoch in front,
        "is_last": epoch == len(points)} for epoch, (natural, adversarial) in enumerate(points, start=1)])


def test_the_trail_is_drawn_over_the_front_and_the_newest_epochs_of_the_others() -> None:
    own = epochs_of(OWN, [(0.2, 0.1), (0.5, 0.3), (0.8, 0.35)], {3})
    other = epochs_of(OTHER, [(0.6, 0.4), (0.7, 0.3)], {1})
    figure = trail_figure(own, pd.concat([own, other]), "search")
    traces = {trace["name"]: trace for trace in figure["data"]}
    assert (traces["trail"]["x"], traces["trail"]["y"]) == ([20, 50, 80], [10, 30, 35])
    assert traces["trail"]["marker"]["symbol"] == ["circle-open", "circle", "circle"]
    assert (traces["others"]["x"], traces["others"]["y"]) == ([70], [30])
    assert {(60, 40), (80, 35)} <= {(round(x), round(y)) for x, y in zip(traces["front"]["x"], traces["front"]["y"], strict=True)}
    notes = [note["text"] for note in figure["layout"]["annotations"]]
    assert notes[:2] == ["<b>this search, epoch 3</b>", "epoch 1"] and ">front of all 2 searches<" in notes[2]
    hover = traces["trail"]["hovertext"][0]
    assert "ARNAS &lt;b&gt;" in hover and "PGD-7, epsilon 8/255: 10.0 %" in hover and "not a result" in hover
    assert figure["layout"]["yaxis"]["title"]["text"] == "PGD-7 accuracy,<br>alphas split, batch statistics (%)"


def test_a_single_epoch_has_one_label_and_a_run_without_epochs_says_what_will_come() -> None:
    own = epochs_of(OWN, [(0.2, 0.1)], {1})
    notes = [note["text"] for note in trail_figure(own, own, "retrain")["layout"]["annotations"]]
    assert notes[0] == "<b>this retraining, epoch 1</b>" and ">front of this retraining<" in notes[1] and len(notes) == 2
    assert "begins with the first epoch" in trail_figure(own[:0], own[:0], "search")["layout"]["annotations"][0]["text"]
