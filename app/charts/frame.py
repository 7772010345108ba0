"""The look that all figures share: transparent background, font, margins and hover labels.

The style sheet sets the colours of text, grid and hover labels, so that each figure fits the light and the dark theme.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pydantic_core import to_json

PlainFigure = dict[str, Any]  # a figure as plain data: {"data": traces, "layout": layout}

FONT = '"Source Sans", "Source Sans Pro", "Segoe UI", system-ui, sans-serif'
MARGIN = {"l": 54, "r": 16, "t": 26, "b": 40}
AXIS = {"zeroline": False, "gridwidth": 1, "showline": False, "ticks": "", "automargin": False, "title": {"font": {"size": 12.5}}}

# The beginning of a tag in the JSON of a figure, unless the tag is one of ours. Plotly writes signs such as < as \u003c.
_FOREIGN_TAG = re.compile(
    r'(?:<|\\u003c)(?!(?:/|\\u002f)?'
    r'(?:b|br|extra|sub|span(?: style=(?:\\"|\\u0022)color:#[0-9a-fA-F]{6}(?:\\"|\\u0022))?)(?:>|\\u003e))')


def common_layout(*, legend: bool = True, margin: dict[str, int] | None = None) -> dict[str, Any]:
    """Return the layout that all figures share, except the style of the axes. The arguments are those of `themed`."""
    return {
        "template": "none", "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 12.5}, "margin": MARGIN | (margin or {}), "showlegend": legend,
        "hovermode": "x unified", "hoverdistance": 60, "hoverlabel": {"font": {"family": FONT, "size": 12.5}}, "dragmode": "zoom",
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom", "bgcolor": "rgba(0,0,0,0)"},
    }


class Figure(PlainFigure):
    """A figure as plain data, with those methods of `plotly.graph_objects.Figure` that our charts call.

    The figures of plotly take 16 MB, and check every value, which takes several times as long as all the rest. The tests of the
    charts use them, so every name and value is checked there.
    """

    def __init__(self) -> None:
        """Create a figure without traces."""
        super().__init__(data=[], layout={})

    def add_scatter(self, **trace: object) -> None:
        """Add points or lines."""
        self["data"].append({"type": "scatter", **trace})

    def add_bar(self, **trace: object) -> None:
        """Add bars."""
        self["data"].append({"type": "bar", **trace})

    def add_heatmap(self, **trace: object) -> None:
        """Add a heat map."""
        self["data"].append({"type": "heatmap", **trace})

    def add_shape(self, **shape: object) -> None:
        """Add a shape such as a rectangle."""
        self["layout"].setdefault("shapes", []).append(shape)

    def add_annotation(self, **annotation: object) -> None:
        """Add a text."""
        self["layout"].setdefault("annotations", []).append(annotation)

    def add_hline(self, y: float, **look: object) -> None:
        """Add a horizontal line across the plot."""
        self.add_shape(type="line", x0=0, x1=1, xref="x domain", y0=y, y1=y, yref="y", **look)

    def add_vline(self, x: float, **look: object) -> None:
        """Add a vertical line across the plot."""
        self.add_shape(type="line", x0=x, x1=x, xref="x", y0=0, y1=1, yref="y domain", **look)

    def update_layout(self, changes: Mapping[str, object] = MappingProxyType({}), **more: object) -> None:
        """Merge settings into the layout."""
        _merge(self["layout"], {**changes, **more})

    def update_xaxes(self, changes: Mapping[str, object] = MappingProxyType({}), **more: object) -> None:
        """Merge settings into all horizontal axes of the layout."""
        self._update_axes("xaxis", {**changes, **more})

    def update_yaxes(self, changes: Mapping[str, object] = MappingProxyType({}), **more: object) -> None:
        """Merge settings into all vertical axes of the layout."""
        self._update_axes("yaxis", {**changes, **more})

    def _update_axes(self, kind: str, changes: Mapping[str, object]) -> None:
        for name in {kind, *(one for one in self["layout"] if one.startswith(kind))}:
            _merge(self["layout"].setdefault(name, {}), changes)


def _merge(target: dict[str, Any], changes: Mapping[str, object]) -> None:
    """Write `changes` into `target`, dictionaries inside dictionaries as well. The dictionaries in `changes` are copied."""
    for name, value in changes.items():
        if isinstance(value, Mapping):
            if not isinstance(target.get(name), dict):
                target[name] = {}
            _merge(target[name], value)
        else:
            target[name] = value


def themed(figure: Figure, *, legend: bool = True, margin: dict[str, int] | None = None) -> Figure:
    """Apply the shared look to a figure and return it.

    Args:
        figure: the figure, which is changed in place.
        legend: True to show a horizontal legend above the plot.
        margin: widths of the margins in pixels, keyed by side ("l", "r", "t", "b"). Sides that are left out keep their default.
    """
    figure.update_layout(common_layout(legend=legend, margin=margin))
    figure.update_xaxes(AXIS)
    figure.update_yaxes(AXIS)
    return figure


BLANK_HEIGHT = 110


def figure_json(figure: PlainFigure) -> str:
    """Return a figure as JSON. In its texts, tags that our own charts never use become plain text.

    Plotly would draw the HTML tag <a> in the title of a run as a link. Every figure passes through this function on its way to a
    page.
    """
    text = to_json(figure, inf_nan_mode="null", fallback=lambda values: values.tolist()).decode()  # arrays and columns
    return _FOREIGN_TAG.sub("&lt;", text)


def blank(message: str) -> PlainFigure:
    """Return a low figure that shows a message instead of data."""
    hidden = AXIS | {"visible": False}
    return {"data": [], "layout": common_layout(legend=False) | {
        "height": BLANK_HEIGHT, "xaxis": hidden, "yaxis": hidden,
        "annotations": [{"text": message, "showarrow": False, "x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper"}]}}
