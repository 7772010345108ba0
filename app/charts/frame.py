"""The look that all figures share: transparent background, font, margins and hover labels.

The style sheet sets the colours of text, grid and hover labels, so that each figure fits the light and the dark theme.
"""

from __future__ import annotations

import json
import re
from typing import Any

import plotly.graph_objects as go
from plotly.utils import PlotlyJSONEncoder

# A figure as plain data: {"data": traces, "layout": layout}. The charts of an active run are such, because they are drawn at each
# step, and a `go.Figure` checks every value, which takes several times as long as all the rest.
PlainFigure = dict[str, Any]

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


def themed(figure: go.Figure, *, legend: bool = True, margin: dict[str, int] | None = None) -> go.Figure:
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


def figure_json(figure: go.Figure | PlainFigure) -> str:
    """Return a figure as JSON. In its texts, tags that our own charts never use become plain text.

    Plotly would draw the HTML tag <a> in the title of a run as a link. Every figure passes through this function on its way to a
    page.
    """
    text = str(figure.to_json()) if isinstance(figure, go.Figure) else json.dumps(  # which writes NaN as null
        figure, cls=PlotlyJSONEncoder, separators=(",", ":"))
    return _FOREIGN_TAG.sub("&lt;", text)


def blank(message: str) -> PlainFigure:
    """Return a low figure that shows a message instead of data."""
    hidden = AXIS | {"visible": False}
    return {"data": [], "layout": common_layout(legend=False) | {
        "height": BLANK_HEIGHT, "xaxis": hidden, "yaxis": hidden,
        "annotations": [{"text": message, "showarrow": False, "x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper"}]}}
