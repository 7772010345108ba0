"""The visual language in one place: palette, operation colours and dashes, series colours, and the style sheet.

Every colour here is a mid-tone that reads on white and on the dark background (at least 3:1 against both), so one value
serves both themes; what must differ is written `light-dark(light, dark)` in `styles/rampart.css`. No page or chart
names a colour of its own. Colour never carries a meaning alone: operations also differ by dash, series by label.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import streamlit as st

STYLE_SHEET = Path(__file__).parent / "styles" / "rampart.css"


@dataclass(frozen=True)
class OperationStyle:
    """How one candidate operation looks, everywhere.

    Attributes:
        title: what a reader calls it, for example "separable 3x3".
        short: label on an edge, for example "sep 3x3".
        colour: hex colour, told apart under the three common colour-vision deficiencies (tested).
        dash: Plotly's dash name; the second channel beside the colour.
        width: line width in pixels.
    """

    title: str
    short: str
    colour: str
    dash: str
    width: float

    @property
    def dash_array(self) -> str:
        """The dash as SVG's stroke-dasharray ("" for a solid line)."""
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

# Meanings that come back on many charts. Natural is always blue and solid, adversarial always vermilion.
SERIES = {"natural": "#2B7BD4", "adversarial": "#DB5A1F", "training": "#8A7FB8", "neutral": "#868D96", "accent": "#2B7BD4"}
# Colour and dash of series without a fixed meaning, in the order in which they come.
FURTHER_SERIES = (("#0F9D76", "dash"), ("#AF33A9", "dot"), ("#A88C50", "dashdot"), ("#8A7FB8", "longdash"),
                  ("#868D96", "longdashdot"))
FRONT = "#0F9D76"
DOMINATED = "#868D96"

# Status name -> (icon glyph, CSS tone class). Tones are defined in the style sheet; the word is always shown beside.
STATUS = {
    "queued": ("○", "muted"),
    "running": ("●", "live"),
    "stopping": ("◐", "warn"),
    "stopped": ("■", "warn"),
    "finished": ("✓", "good"),
    "failed": ("✕", "bad"),
}

# Cells as prose names them, in the order in which images meet them.
CELL_TITLES = {"accurate": "Accurate cell", "normal": "Normal cell", "reduce": "Reduction cell", "robust": "Robust cell"}
# Accurate cells are there for the natural accuracy and robust ones for the adversarial: they have the colours of those.
CELL_COLOURS = {"accurate": SERIES["natural"], "normal": "#9B51E0", "reduce": SERIES["neutral"], "robust": SERIES["adversarial"]}
KIND_TITLES = {"search": "Search", "retrain": "Retrain", "attack": "Attack"}


def operation(name: str) -> OperationStyle:
    """The style of an operation; an unknown one (a catalogue entry of another space) gets the neutral style."""
    return OPERATIONS.get(name) or OperationStyle(name, name, SERIES["neutral"], "solid", 2.0)


def faint(colour: str, strength: float = 0.45) -> str:
    """A hex colour at 45 % or another strength (0..1), for what stands behind the line that counts."""
    return "rgba({},{},{},{:g})".format(*(int(colour[i:i + 2], 16) for i in (1, 3, 5)), strength)


def cell_title(kind: str) -> str:
    """"Accurate cell" for "accurate"; an unknown kind is capitalised."""
    return CELL_TITLES.get(kind, f"{kind.capitalize()} cell")


@cache
def style_sheet() -> str:
    """The text of the one style sheet."""
    return STYLE_SHEET.read_text(encoding="utf-8")


def apply() -> None:
    """Puts the style sheet on the page; `main.py` calls it once per run."""
    st.html(f"<style>{style_sheet()}</style>")
