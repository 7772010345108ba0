"""The chart of a search's objectives: the weights of the objectives, and the angles between the gradients of the objectives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from app import theme
from app.charts.frame import AXIS, PlainFigure, blank, common_layout
from app.charts.objectives import label_of, looks


def explained(words: str, count: int = 2) -> str:
    """Return the explanation to show below the chart of the objectives' weights and of the angles between their gradients.

    Args:
        words: sentences that explain how the run computes the weights, from `engine.search.registries.Weighting.words`.
        count: number of objectives that have weights.
    """
    angle = " The angle of a loss is the largest between its gradient and any other." if count > 2 else ""
    return f"Each step follows a weighted sum of the gradients. {words}{angle} Above 90°, gradients conflict."


def weights_and_angle(objectives: pd.DataFrame) -> PlainFigure:
    """Return a figure with the weights of the objectives in the upper half and the angles between gradients in the lower half.

    For two objectives, the lower half shows the angle between the two gradients. For more, it shows one line per objective: the
    largest angle between the gradient of this objective and the gradient of any other objective.

    Args:
        objectives: table from `RunLog.objectives` with columns step, epoch, objective, weight, norm, loss and cosine. `cosine` is
            the smallest cosine between the gradient of the row's objective and the gradient of any other objective. It is NaN in
            steps with only one objective.
    """
    if objectives.empty:
        return blank("The first weights appear after the first step")
    lines = looks(objectives["objective"])
    points = dict(tuple(objectives.sort_values("step").groupby("objective", sort=False)))
    traces = [{"type": "scatter", "x": points[name]["step"].tolist(), "y": points[name]["weight"].tolist(), "mode": "lines",
               "name": label_of(name), "line": line, "hovertemplate": f"{label_of(name)} weight %{{y:.3f}}<extra></extra>"}
              for name, line in lines.items()]
    return {"data": traces + _angles(points, lines), "layout": common_layout(margin={"l": 62, "b": 42}) | {
        "xaxis": AXIS | {"title": {"text": "step", "font": {"size": 12.5}}, "anchor": "y2"},
        "yaxis": AXIS | {"title": {"text": "weight", "font": {"size": 12.5}}, "domain": [0.55, 1],
                         "range": [min(0.0, objectives["weight"].min()) - 0.03, max(1.0, objectives["weight"].max()) + 0.03]},
        "yaxis2": {"title": {"text": "angle (degrees)", "font": {"size": 12.5}},
                   "domain": [0, 0.44], "range": [0, 184], "tickvals": [0, 90, 180]},
        "shapes": [{"type": "line", "xref": "paper", "x0": 0, "x1": 1, "yref": "y2", "y0": 90, "y1": 90,
                    "line": {"color": theme.SERIES["neutral"], "width": 1, "dash": "dot"}}]}}


def _angles(points: dict[str, pd.DataFrame], lines: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the traces of the angles between gradients.

    Args:
        points: {objective: its rows of `RunLog.objectives`}.
        lines: Plotly style of each objective's line, keyed by objective.
    """
    measured = {name: rows.dropna(subset=["cosine"]) for name, rows in points.items()}
    names = [name for name, rows in measured.items() if len(rows)]
    drawn = ({name: (f"{label_of(name)}: largest angle", lines[name] | {"width": 1.4}) for name in names} if len(names) > 2
             else {name: ("angle", {"color": theme.SERIES["training"], "width": 1.6}) for name in names[:1]})
    return [{"type": "scatter", "x": measured[name]["step"].tolist(), "y": degrees(measured[name]["cosine"]).tolist(),
             "mode": "lines", "name": text, "yaxis": "y2", "showlegend": False, "line": line,
             "hovertemplate": f"{text} %{{y:.0f}}°<extra></extra>"} for name, (text, line) in drawn.items()]


def degrees(cosine: pd.Series) -> pd.Series:
    """Convert cosines to angles in degrees (0..180). Cosines that lie outside -1..1 because of rounding are clipped."""
    return np.degrees(np.arccos(cosine.clip(-1, 1)))
