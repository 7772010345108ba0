"""Charts of the outcome of attacks on single images: accuracy per class, confusion matrix, and combinations of attacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from app import theme
from app.charts.frame import Figure, themed
from app.formats import plural, with_interval
from engine.report.outcomes import ClassAccuracy

BLUES = [[0, "rgba(43,123,212,0)"], [1, "rgba(43,123,212,0.85)"]]
MOST_COMBINATIONS = 16
UPSET_HEIGHT, UPSET_ROW = 190, 30  # pixels
MOST_NUMBERS = 20  # largest number of classes whose cells show their numbers


def classes_figure(classes: Sequence[ClassAccuracy]) -> Figure:
    """Return a figure of the natural and the worst-case accuracy of each class, with 95 % Wilson intervals.

    In the worst case, an image counts as correct only if it withstands every attack.
    """
    figure = Figure()
    for name, key, symbol, offset in (("Natural", "natural", "circle", -0.12), ("Worst case", "adversarial", "square", 0.12)):
        measured = [(one.label, result) for one in classes if (result := one.natural if key == "natural" else one.worst)]
        colour = theme.SERIES[key]
        figure.add_scatter(
            x=[label + offset for label, _ in measured], y=[100 * one.accuracy for _, one in measured], mode="markers", name=name,
            marker={"color": colour, "symbol": symbol, "size": 8}, hoverinfo="text",
            hovertext=[f"class {label}<br>{name} {with_interval(one.accuracy, one.low, one.high)}, {plural(one.images, 'image')}"
                       for label, one in measured],
            error_y={"type": "data", "symmetric": False, "color": colour, "thickness": 1.4, "width": 3,
                     "array": [100 * (one.high - one.accuracy) for _, one in measured],
                     "arrayminus": [100 * (one.accuracy - one.low) for _, one in measured]})
    themed(figure, margin={"l": 62, "t": 36, "b": 48})
    labels = [one.label for one in classes]
    ticks = labels if len(labels) <= MOST_NUMBERS else labels[::len(labels) // 10]
    figure.update_layout(hovermode="closest", xaxis={"title": {"text": "Class"}, "tickvals": ticks, "showgrid": False},
                         yaxis={"title": {"text": "Accuracy, test split (%)"}, "ticksuffix": " %", "range": [-2, 102]})
    return figure


def confusion_figure(matrix: npt.NDArray[np.int64], attack: str) -> Figure:
    """Return a heat map of a confusion matrix, with labels as rows and predictions as columns.

    `matrix` has numbers of images, indexed [label, prediction]. `attack` is the title of the attack.
    """
    classes = len(matrix)
    of_label = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    numbers = np.where(matrix > 0, matrix.astype(str), "") if classes <= MOST_NUMBERS else np.full(matrix.shape, "")
    hover = [[f"class {label} predicted as {prediction}: {plural(int(matrix[label, prediction]), 'image')}, "
              f"{100 * of_label[label, prediction]:.0f} % of the class on these images" for prediction in range(classes)]
             for label in range(classes)]
    figure = Figure()
    figure.add_heatmap(z=of_label, zmin=0, zmax=1, colorscale=BLUES, showscale=False, text=numbers, texttemplate="%{text}",
                       hovertext=hover, hoverinfo="text", xgap=1, ygap=1)
    themed(figure, legend=False, margin={"l": 50, "t": 16, "b": 48})
    ticks = list(range(0, classes, max(1, classes // 10)))
    axis = {"tickvals": ticks, "showgrid": False, "ticks": "outside", "ticklen": 5, "tickcolor": "rgba(0,0,0,0)"}
    figure.update_layout(hovermode="closest", xaxis={"title": {"text": f"Prediction under {attack}"}, **axis},
                         yaxis={"title": {"text": "Class"}, "autorange": "reversed", **axis})
    return figure


def upset_height(attacks: int) -> int:
    """Return the height in pixels of `upset_figure` for this number of attacks."""
    return UPSET_HEIGHT + UPSET_ROW * attacks


def upset_figure(combinations: Sequence[tuple[frozenset[str], int]], titles: Mapping[str, str]) -> Figure:
    """Return an UpSet plot (Lex et al. 2014) that counts the images broken by each combination of attacks.

    An attack breaks an image if the network misclassifies the attacked image. There is one bar per combination. The dots below a
    bar mark the attacks of the combination.

    Args:
        combinations: one (names of the attacks that break the images, number of images) pair per combination, from
            `engine.report.outcomes.falls`.
        titles: {name of an attack: title}. Each attack has a row of dots. The rows are in the order of this mapping.
    """
    shown = combinations[:MOST_COMBINATIONS]
    numbers = [number for _, number in shown]
    words = [_words(attacks, titles) for attacks, _ in shown]
    figure = Figure()
    figure.add_bar(x=list(range(len(shown))), y=numbers, yaxis="y2", text=[f"{number:,}" for number in numbers],
                   textposition="outside", cliponaxis=False, hoverinfo="text", width=0.6,
                   hovertext=[f"{plural(number, 'image')}: {text}" for number, text in zip(numbers, words, strict=True)],
                   marker={"color": [theme.SERIES["adversarial"] if attacks else theme.FRONT for attacks, _ in shown]})
    rows = {name: row for row, name in enumerate(titles)}
    for place, (attacks, _) in enumerate(shown):
        members = sorted(rows[name] for name in attacks)
        figure.add_scatter(x=[place] * len(rows), y=list(rows.values()), mode="markers", hoverinfo="skip",
                           marker={"size": 10, "color": theme.faint(theme.SERIES["neutral"], 0.25)})
        figure.add_scatter(x=[place] * len(members), y=members, mode="lines+markers", hoverinfo="skip",
                           marker={"size": 11, "color": theme.SERIES["adversarial"]},
                           line={"color": theme.SERIES["adversarial"], "width": 2})
    themed(figure, legend=False, margin={"l": 10, "t": 22, "b": 12})
    split = UPSET_ROW * len(rows) / upset_height(len(rows))
    totals = {name: sum(number for attacks, number in combinations if name in attacks) for name in titles}
    figure.update_layout(
        hovermode="closest", bargap=0.4,
        xaxis={"visible": False, "range": [-0.6, max(8, len(shown)) - 0.4], "anchor": "y"},
        yaxis={"domain": [0, split], "tickvals": list(rows.values()), "range": [len(rows) - 0.5, -0.5], "automargin": True,
               "ticktext": [f"{title} ({totals[name]:,})" for name, title in titles.items()], "showgrid": False},
        yaxis2={"domain": [split + 0.04, 1], "title": {"text": "Images", "font": {"size": 12.5}}, "anchor": "x",
                "zeroline": False, "gridwidth": 1, "range": [0, 1.15 * max(numbers, default=1)], "automargin": True})
    return figure


def _words(attacks: frozenset[str], titles: Mapping[str, str]) -> str:
    if not attacks:
        return "withstand every attack"
    return f"fall to {', '.join(title for name, title in titles.items() if name in attacks)}" + (
        " only" if len(attacks) < len(titles) else "")
