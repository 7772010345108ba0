"""The visual language of the dashboard: colours and dashes of operations, colours of series, and the style sheet.

Every colour here is a mid-tone with a contrast of at least 3:1 against both the white and the dark background, so one value
serves both themes. A colour that must differ between themes is written `light-dark(light, dark)` in `assets/rampart.css`. Pages
and charts define no colours themselves. Nothing is distinguished by colour alone: operations also differ by dash, and series
by label.
"""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from app.assets import asset


@dataclass(frozen=True)
class OperationStyle:
    """The look of a candidate operation in every chart and drawing.

    Attributes:
        title: full name, for example "separable convolution 3×3".
        short: label on an edge, for example "sep 3×3".
        colour: hex colour. A test checks that the colours of all operations are distinct under the three common colour-vision
            deficiencies.
        dash: Plotly's name for the dash pattern of the line, which helps readers who cannot tell the colours apart.
        width: line width in pixels.
    """

    title: str
    short: str
    colour: str
    dash: str
    width: float

    @property
    def dash_array(self) -> str:
        """The dash pattern as a value of SVG's stroke-dasharray, or "" for a solid line."""
        return {"solid": "", "dash": "7 4", "dot": "2 3", "dashdot": "8 3 2 3"}[self.dash]


OPERATIONS: dict[str, OperationStyle] = {
    "max_pool_3x3": OperationStyle("max pooling 3×3", "max pool 3×3", "#A88C50", "dot", 2.2),
    "avg_pool_3x3": OperationStyle("average pooling 3×3", "avg pool 3×3", "#E25B0F", "dot", 2.2),
    "skip_connect": OperationStyle("skip connection", "skip", "#8B9196", "dash", 2.0),
    "sep_conv_3x3": OperationStyle("separable convolution 3×3", "sep 3×3", "#0A97E6", "solid", 2.2),
    "sep_conv_5x5": OperationStyle("separable convolution 5×5", "sep 5×5", "#2B59DB", "solid", 3.4),
    "dil_conv_3x3": OperationStyle("dilated convolution 3×3", "dil 3×3", "#1F7752", "dashdot", 2.2),
    "dil_conv_5x5": OperationStyle("dilated convolution 5×5", "dil 5×5", "#AF33A9", "dashdot", 3.4),
    "none": OperationStyle("no connection", "none", "#9AA1A9", "dot", 1.5),
}

# Colours of series that appear in many charts. Natural is always blue and solid, adversarial always vermilion.
SERIES = {"natural": "#2B7BD4", "adversarial": "#DB5A1F", "training": "#8A7FB8", "neutral": "#868D96", "accent": "#2B7BD4"}
# (colour, dash) of series that are not in SERIES, assigned in this order.
FURTHER_SERIES = (("#0F9D76", "dash"), ("#AF33A9", "dot"), ("#A88C50", "dashdot"), ("#8A7FB8", "longdash"),
                  ("#868D96", "longdashdot"))
FRONT = "#0F9D76"
DOMINATED = "#868D96"

# Status -> (glyph, tone). The style sheet defines the tones (colours). The status is always written next to the glyph.
STATUS = {
    "queued": ("○", "muted"),
    "running": ("●", "live"),
    "stopping": ("◐", "warn"),
    "stopped": ("■", "warn"),
    "finished": ("✓", "good"),
    "failed": ("✕", "bad"),
}

# Titles of cell kinds, in the order in which images pass through them.
CELL_TITLES = {"accurate": "Accurate cell", "normal": "Normal cell", "reduce": "Reduction cell", "robust": "Robust cell"}
# Accurate cells serve natural accuracy and robust cells serve adversarial accuracy, so they take the colours of these series.
CELL_COLOURS = {"accurate": SERIES["natural"], "normal": "#9B51E0", "reduce": SERIES["neutral"], "robust": SERIES["adversarial"]}
KIND_TITLES = {"search": "Search", "retrain": "Retrain", "attack": "Attack"}


def operation(name: str) -> OperationStyle:
    """Return the style of an operation.

    An operation outside our search space, as in some published genotypes, gets a neutral solid line.
    """
    return OPERATIONS.get(name) or OperationStyle(name, name, SERIES["neutral"], "solid", 2.0)


def faint(colour: str, strength: float = 0.45) -> str:
    """Convert a hex colour to an rgba colour of opacity `strength` (0..1), for lines in the background of a chart."""
    return "rgba({},{},{},{:g})".format(*(int(colour[i:i + 2], 16) for i in (1, 3, 5)), strength)


def cell_title(kind: str) -> str:
    """Return the title of a cell kind, for example "Accurate cell" for "accurate"."""
    return CELL_TITLES.get(kind, f"{kind.capitalize()} cell")


def apply() -> None:
    """Add the style sheet to the page. `main.py` calls this each time Streamlit runs the script."""
    st.html(f"<style>{asset('rampart.css')}</style>")
