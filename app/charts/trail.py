"""The trail of a run: its natural and adversarial accuracy from epoch to epoch, drawn over the front of comparable runs."""

from __future__ import annotations

from typing import Any

import pandas as pd

from app import theme
from app.charts.frame import AXIS, PlainFigure, blank, common_layout
from app.charts.geometry import Range, boundary, padded
from app.formats import epsilon, escape, percent
from engine.report.pareto import on_front

SMALL, PLAIN = {"size": 11.5}, {"size": 12.5}
NOUNS = {"search": ("search", "searches"), "retrain": ("retraining", "retrainings")}  # kind of run -> one, several


def trail_figure(trail: pd.DataFrame, others: pd.DataFrame, kind: str) -> PlainFigure:
    """Return a figure with the trail of a run (its two accuracies from epoch to epoch) and the epochs of comparable runs.

    It shows all epochs of the run, the newest epoch of each other run, and the front of all epochs of all these runs.

    Args:
        trail: rows of `RunLog.pareto_epochs` of the run.
        others: rows of the other runs of the group. Rows of this run are ignored.
        kind: kind of the runs: "search" or "retrain".
    """
    if trail.empty:
        return blank("The trail begins with the first epoch that has both accuracies")
    trail, first = trail.sort_values("epoch"), trail.iloc[0]
    others = others[others["run"] != first["run"]]
    front, newest = front_of(others, trail), others[others["is_last"]]
    shown = pd.concat([trail, newest, front])
    ranges = padded(list(shown["natural"] * 100)), padded(list(shown["adversarial"] * 100))
    traces = [_front(front, ranges), _others(newest), _trail(trail)]
    notes = [*_ends(trail, kind), *_front_note(front, others["run"].nunique() + 1, kind, ranges)]
    layout = common_layout(legend=False, margin={"l": 70, "t": 24, "b": 56})
    return {"data": [one for one in traces if one["x"]], "layout": layout | {
        "hovermode": "closest", "annotations": notes,
        "xaxis": _axis(f"Natural accuracy, {first['measured']} (%)", ranges[0]),
        "yaxis": _axis(f"{first['attack_title']} accuracy,<br>{first['measured']} (%)", ranges[1])}}


def front_of(others: pd.DataFrame, trail: pd.DataFrame) -> pd.DataFrame:
    """Return the front of all epochs: the epochs that no other epoch dominates.

    Args:
        others: epochs of other runs. It must not contain epochs of the run in `trail`.
        trail: epochs of the run whose trail is drawn.
    """
    # An epoch of another run that is not on its front has been beaten by one that is, or by one of the trail.
    candidates = pd.concat([others[others["is_front"]], trail])
    return candidates[on_front(list(zip(candidates["natural"], candidates["adversarial"], strict=True)), (True, True))]


def _axis(title: str, ends: Range) -> dict[str, Any]:
    return AXIS | {"title": {"text": title, "font": PLAIN}, "ticksuffix": " %", "range": ends}


def _points(rows: pd.DataFrame) -> dict[str, Any]:
    """Return the coordinates of epochs in the plot, and their hover texts."""
    texts = [f"<b>{escape(row.title)}</b><br>epoch {row.epoch}<br>natural {percent(row.natural)}<br>{row.attack_title}, epsilon "
             f"{epsilon(row.epsilon)}: {percent(row.adversarial)}<br>{row.measured}, not a result<br>{row.run}"
             for row in rows.itertuples()]
    return {"type": "scatter", "x": (rows["natural"] * 100).tolist(), "y": (rows["adversarial"] * 100).tolist(),
            "hovertext": texts, "hoverinfo": "text", "showlegend": False}


def _trail(rows: pd.DataFrame) -> dict[str, Any]:
    """Return the trace of a run's epochs: hollow marker for the first, large one for the newest, small ones for the others."""
    last, colour = len(rows) - 1, theme.SERIES["accent"]
    sizes = [9 if place == 0 else 5 for place in range(last)] + [13]
    symbols = ["circle-open" if place == 0 and last else "circle" for place in range(last + 1)]
    return _points(rows) | {"mode": "lines+markers", "name": "trail", "line": {"color": theme.faint(colour, 0.6), "width": 1.8},
                            "marker": {"size": sizes, "opacity": 1, "symbol": symbols, "color": colour,
                                       "line": {"width": 1.6, "color": colour}}}


def _others(rows: pd.DataFrame) -> dict[str, Any]:
    return _points(rows) | {"mode": "markers", "name": "others", "marker": {
        "size": 8, "color": theme.faint(theme.SERIES["neutral"], 0.75), "symbol": "x-thin-open", "line": {"width": 1.6}}}


def _front(rows: pd.DataFrame, ranges: tuple[Range, Range]) -> dict[str, Any]:
    places = list(zip(rows["natural"] * 100, rows["adversarial"] * 100, strict=True))
    path = boundary(places, (True, True), ranges) if places else []
    return {"type": "scatter", "x": [x for x, _ in path], "y": [y for _, y in path], "mode": "lines", "name": "front",
            "hoverinfo": "skip", "showlegend": False, "line": {"color": theme.FRONT, "width": 1.6, "dash": "dot"}}


def _ends(trail: pd.DataFrame, kind: str) -> list[dict[str, Any]]:
    """Return the labels of the first and of the newest epoch of the trail, on opposite sides of their points."""
    first, last = trail.iloc[0], trail.iloc[-1]
    texts = [(last, f"<b>this {NOUNS[kind][0]}, epoch {last['epoch']}</b>", "top")]
    texts += [(first, f"epoch {first['epoch']}", "bottom")] * (len(trail) > 1)
    middle = (trail["natural"].min() + trail["natural"].max()) / 2
    return [{"text": text, "x": row["natural"] * 100, "y": row["adversarial"] * 100, "showarrow": False, "font": SMALL,
             "xanchor": "right" if row["natural"] > middle else "left", "yanchor": "bottom" if side == "top" else "top",
             "yshift": 9 if side == "top" else -7} for row, text, side in texts]


def _front_note(front: pd.DataFrame, runs: int, kind: str, ranges: tuple[Range, Range]) -> list[dict[str, Any]]:
    """Return the label of the front, at its left end."""
    if front.empty:
        return []
    text = f"front of this {NOUNS[kind][0]}" if runs == 1 else f"front of all {runs:,} {NOUNS[kind][1]}"
    return [{"text": f'<span style="color:{theme.FRONT}">{text}</span>', "x": ranges[0][0], "y": front["adversarial"].max() * 100,
             "xanchor": "left", "yanchor": "bottom", "showarrow": False, "font": SMALL, "xshift": 6}]
