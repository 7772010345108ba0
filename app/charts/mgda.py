"""What MGDA decided: the weight of each objective, and the angle between their gradients."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from app import theme
from app.charts.frame import blank, themed

EXPLAINED = ("Each step follows a weighted sum of the two gradients. MGDA chooses the weights, which add up to 1, so that a "
             "small step lowers both losses; the loss with the smaller gradient gets more weight. Above 90°, the gradients "
             "pull apart.")


def weights_and_angle(objectives: pd.DataFrame) -> go.Figure:
    """Above, the weight of each objective per step (they add up to 1); below, the angle between the two gradients.

    Args:
        objectives: `RunLog.objectives`: columns step, epoch, objective, weight, norm, loss, cosine. `cosine` is between the
            gradients of the two objectives, the same on both rows of a step; absent (NaN) on runs with one objective.
    """
    if objectives.empty:
        return blank("The first weights appear after the first step")
    figure = go.Figure()
    for name, points in objectives.sort_values("step").groupby("objective", sort=False):
        colour = theme.SERIES.get(str(name), theme.SERIES["neutral"])
        figure.add_scatter(x=points["step"].tolist(), y=points["weight"].tolist(), mode="lines", name=str(name),
                           line={"color": colour, "width": 1.8}, hovertemplate=f"{name} weight %{{y:.3f}}<extra></extra>")
    angles = objectives.dropna(subset=["cosine"]).drop_duplicates("step").sort_values("step")
    figure.add_scatter(x=angles["step"].tolist(), y=degrees(angles["cosine"]).tolist(), mode="lines", name="angle", yaxis="y2",
                       showlegend=False, line={"color": theme.SERIES["training"], "width": 1.6},
                       hovertemplate="angle %{y:.0f}°<extra></extra>")
    themed(figure, margin={"l": 62, "b": 42})
    figure.update_layout(
        xaxis={"title": {"text": "step", "font": {"size": 12.5}}, "anchor": "y2"},
        yaxis={"title": {"text": "weight", "font": {"size": 12.5}}, "domain": [0.55, 1], "range": [-0.03, 1.03]},
        yaxis2={"title": {"text": "angle (degrees)", "font": {"size": 12.5}},
                "domain": [0, 0.44], "range": [0, 184], "tickvals": [0, 90, 180]},
        shapes=[{"type": "line", "xref": "paper", "x0": 0, "x1": 1, "yref": "y2", "y0": 90, "y1": 90,
                 "line": {"color": theme.SERIES["neutral"], "width": 1, "dash": "dot"}}])
    return figure


def degrees(cosine: pd.Series) -> pd.Series:
    """Angles in 0..180 degrees; rounding errors outside -1..1 are cut."""
    return np.degrees(np.arccos(cosine.clip(-1, 1)))


def in_words(shares: pd.DataFrame) -> str:
    """One plain sentence about what MGDA did.

    Args:
        shares: `RunLog.share_at_vertex`: columns objective, share_ignored (0..1, its weight was 0), share_alone, steps.
    """
    if shares.empty or not shares["steps"].max():
        return "MGDA has not weighed anything yet."
    steps = int(shares["steps"].max())
    span = f"the last {steps:,} steps" if steps > 1 else "the only step"
    row = shares.sort_values("share_ignored", ascending=False).iloc[0]
    if row["share_ignored"] > 0:
        return (f"The {row['objective']} loss was ignored in {100 * row['share_ignored']:.0f} % of {span}: there, following the "
                f"other gradient alone lowers both losses.")
    return f"Both losses counted in {'all of ' if steps > 1 else ''}{span}: no gradient was followed alone."
