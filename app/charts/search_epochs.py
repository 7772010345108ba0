"""The plot of search epochs: natural versus adversarial accuracy of supernets, one line per search."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

from app import theme
from app.charts.accuracies import accuracy_axes
from app.charts.categories import OTHERS, looks_of
from app.charts.frame import Figure
from app.charts.geometry import padded
from app.charts.labels import places_of
from app.charts.pareto import HEIGHT, WIDTH
from app.formats import epsilon, escape, percent

MOST_TRAILS = 12  # searches whose whole course is drawn
MOST_NAMED = 6  # searches whose name stands beside their latest epoch


def epochs_figure(frame: pd.DataFrame, attack: str, chosen: Collection[str] = ()) -> Figure:
    """Return a plot with one marker per search at its latest epoch, and lines through all epochs of a few searches.

    Colour and symbol show the method. Lines are drawn for the chosen searches, or for the newest ones if none is chosen. The
    names of up to `MOST_NAMED` of these searches are written beside their latest epoch where there is space.

    Args:
        frame: rows of `RunLog.pareto_epochs` that share one group, with the additional columns `label`, the name of the search in
            the plot, and `kind`, the name of its method.
        attack: title of the attack, for the label of the axis.
        chosen: ids of the searches that the reader has selected.
    """
    figure = Figure()
    looks = looks_of(frame["kind"])
    frame = frame.assign(kind=[kind if kind in looks else OTHERS for kind in frame["kind"]])
    latest = frame.sort_values("epoch").groupby("run", sort=False).tail(1).sort_values("run", ascending=False)
    trails = [run for run in latest["run"] if run in set(chosen)] or list(latest["run"][:MOST_TRAILS])
    for run in trails:
        rows = frame[frame["run"] == run].sort_values("epoch")
        colour = looks[rows["kind"].iloc[0]].colour
        figure.add_scatter(x=rows["natural"] * 100, y=rows["adversarial"] * 100, mode="lines+markers", showlegend=False,
                           line={"color": theme.faint(colour, 0.55), "width": 1.4}, marker={"size": 4, "color": colour},
                           hovertext=_hovers(rows), hoverinfo="text", customdata=rows[["run"]].to_numpy())
    for kind, look in looks.items():
        rows = latest[latest["kind"] == kind]
        figure.add_scatter(x=rows["natural"] * 100, y=rows["adversarial"] * 100, mode="markers", name=kind,
                           hovertext=_hovers(rows), hoverinfo="text", customdata=rows[["run"]].to_numpy(),
                           marker={"color": look.colour, "symbol": look.symbol,
                                   "line": {"width": 1, "color": "rgba(127,127,127,.6)"},
                                   "size": [13 if run in trails else 8 for run in rows["run"]],
                                   "opacity": [1 if run in trails else 0.6 for run in rows["run"]]})
    _add_names(figure, latest[latest["run"].isin(trails[:MOST_NAMED])], frame)
    accuracy_axes(figure, "Natural accuracy, alphas split, batch statistics (%)",
                  f"{attack} accuracy, alphas split,<br>batch statistics (%)")
    figure.update_layout(clickmode="event")
    return figure


def _hovers(rows: pd.DataFrame) -> list[str]:
    return [f"<b>{escape(row.label)}</b><br>epoch {row.epoch:g}<br>natural {percent(row.natural)}<br>{row.attack_title}, epsilon "
            f"{epsilon(row.epsilon)}: {percent(row.adversarial)}<br>alphas split, batch statistics, not a result<br>{row.run}"
            for row in rows.itertuples()]


def _add_names(figure: Figure, rows: pd.DataFrame, frame: pd.DataFrame) -> None:
    """Write the names of searches beside their latest epoch, as far as there is space."""
    ranges = [padded(list(frame[name] * 100)) for name in ("natural", "adversarial")]
    points = [((100 * row.natural - ranges[0][0]) / (ranges[0][1] - ranges[0][0]) * WIDTH,
               (100 * row.adversarial - ranges[1][0]) / (ranges[1][1] - ranges[1][0]) * HEIGHT) for row in rows.itertuples()]
    shown = rows.assign(position=places_of(points, list(rows["label"]), (WIDTH, HEIGHT)))
    shown = shown[shown["position"].notna()]
    figure.add_scatter(x=shown["natural"] * 100, y=shown["adversarial"] * 100, mode="text",
                       text=list(map(escape, shown["label"])), textposition=list(shown["position"]), hoverinfo="skip",
                       showlegend=False)
