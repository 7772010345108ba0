"""How a step weighed its objectives: the weight of each, and the angle between their gradients."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from app import theme
from app.charts.frame import blank, themed

# Series whose meaning an objective shares; objectives without a series of their own differ by dash.
SERIES_OF = {"trades": "adversarial"}
DASHES = ("dash", "dot", "dashdot")


def explained(words: str) -> str:
    """What the chart shows. words: `engine.search.registries.Weighting.words` of the run's weighting."""
    return f"Each step follows a weighted sum of the gradients. {words} Above 90°, gradients pull apart."


def weights_and_angle(objectives: pd.DataFrame) -> go.Figure:
    """Above, the weight of each objective per step; below, the angle between the gradients, of several the largest.

    Args:
        objectives: `RunLog.objectives`: columns step, epoch, objective, weight, norm, loss, cosine. `cosine` is the smallest
            between the gradient of a row's objective and any other's; absent (NaN) in steps with one objective.
    """
    if objectives.empty:
        return blank("The first weights appear after the first step")
    figure = go.Figure()
    others = 0
    for name, points in objectives.sort_values("step").groupby("objective", sort=False):
        series = SERIES_OF.get(str(name), str(name))
        line = {"color": theme.SERIES.get(series, theme.SERIES["neutral"]), "width": 1.8}
        if series not in theme.SERIES:
            line, others = line | {"dash": DASHES[others % len(DASHES)]}, others + 1
        figure.add_scatter(x=points["step"].tolist(), y=points["weight"].tolist(), mode="lines", name=str(name), line=line,
                           hovertemplate=f"{name} weight %{{y:.3f}}<extra></extra>")
    angles = objectives.dropna(subset=["cosine"]).groupby("step", as_index=False)["cosine"].min()
    figure.add_scatter(x=angles["step"].tolist(), y=degrees(angles["cosine"]).tolist(), mode="lines", name="angle", yaxis="y2",
                       showlegend=False, line={"color": theme.SERIES["training"], "width": 1.6},
                       hovertemplate="angle %{y:.0f}°<extra></extra>")
    themed(figure, margin={"l": 62, "b": 42})
    figure.update_layout(
        xaxis={"title": {"text": "step", "font": {"size": 12.5}}, "anchor": "y2"},
        yaxis={"title": {"text": "weight", "font": {"size": 12.5}}, "domain": [0.55, 1],
               "range": [min(0.0, objectives["weight"].min()) - 0.03, max(1.0, objectives["weight"].max()) + 0.03]},
        yaxis2={"title": {"text": "angle (degrees)", "font": {"size": 12.5}},
                "domain": [0, 0.44], "range": [0, 184], "tickvals": [0, 90, 180]},
        shapes=[{"type": "line", "xref": "paper", "x0": 0, "x1": 1, "yref": "y2", "y0": 90, "y1": 90,
                 "line": {"color": theme.SERIES["neutral"], "width": 1, "dash": "dot"}}])
    return figure


def degrees(cosine: pd.Series) -> pd.Series:
    """Angles in 0..180 degrees; rounding errors outside -1..1 are cut."""
    return np.degrees(np.arccos(cosine.clip(-1, 1)))


def in_words(shares: pd.DataFrame) -> str:
    """One plain sentence about what MGDA did; of a search in several stages, in the steps that weighed that loss.

    Args:
        shares: `RunLog.share_at_vertex`: columns objective, share_ignored (0..1, its weight was 0), share_alone, steps.
    """
    if shares.empty or not shares["steps"].max():
        return "MGDA has not weighed anything yet."
    if len(shares) == 1:
        return f"So far every step has followed the {shares['objective'].iloc[0]} loss alone: there was nothing to weigh."
    row = shares.sort_values("share_ignored", ascending=False, kind="stable").iloc[0]
    steps = int(row["steps"])
    span = f"the last {steps:,} steps" if steps > 1 else "the only step"
    both, all_losses, other = (("Both", "both", "the other gradient") if len(shares) == 2
                               else ("All", "all", "the other gradients"))
    if row["share_ignored"] > 0:
        return (f"The {row['objective']} loss was ignored in {100 * row['share_ignored']:.0f} % of {span}: there, following "
                f"{other} alone lowers {all_losses} losses.")
    return f"{both} losses counted in {'all of ' if steps > 1 else ''}{span}: no gradient was followed alone."
