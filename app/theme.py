"""The colours and line styles of the dashboard, and its style sheet.

* Every colour here has a contrast of at least 3:1 against both the white and the dark background, so it suits both themes.
* A colour that must differ between themes is written `light-dark(light, dark)` in `assets/rampart.css`.
* Pages and charts define no colours themselves.
* Nothing is distinguished by colour alone: operations also differ by dash, and other lines also differ by label.
"""

from __future__ import annotations

import streamlit as st

from app.assets import asset
from engine.drawing.operations import CELL_TITLES, OPERATIONS, OperationStyle, cell_title, operation

__all__ = ["CELL_TITLES", "OPERATIONS", "OperationStyle", "apply", "cell_title", "faint", "operation"]

# Colours of series that appear in many charts. Natural is always blue and solid, adversarial always vermilion.
SERIES = {"natural": "#2B7BD4", "adversarial": "#DB5A1F", "training": "#8A7FB8", "neutral": "#868D96", "accent": "#2B7BD4"}
# (colour, dash) of series that are not in SERIES, assigned in this order.
FURTHER_SERIES = (("#0F9D76", "dash"), ("#AF33A9", "dot"), ("#A88C50", "dashdot"), ("#8A7FB8", "longdash"),
                  ("#868D96", "longdashdot"))
FRONT = "#0F9D76"
DOMINATED = "#868D96"
# Level of an alarm in a chart -> colour.
ALARMS = {"info": "#A88C50", "warning": "#D6453D"}

# Status -> (glyph, tone). The style sheet defines the tones (colours). The status is always written next to the glyph.
STATUS = {
    "queued": ("○", "muted"),
    "running": ("●", "live"),
    "stopping": ("◐", "warn"),
    "stopped": ("■", "warn"),
    "finished": ("✓", "good"),
    "failed": ("✕", "bad"),
}

# Colour of a reliability badge -> (tone, glyph, word).
BADGES = {"green": ("good", "✓", "Green"), "amber": ("warn", "!", "Amber"), "red": ("bad", "✕", "Red")}

# Accurate cells serve natural accuracy and robust cells serve adversarial accuracy, so they take the colours of these series.
CELL_COLOURS = {"accurate": SERIES["natural"], "normal": "#9B51E0", "reduce": SERIES["neutral"], "robust": SERIES["adversarial"]}
KIND_TITLES = {"search": "Search", "retrain": "Retrain", "attack": "Attack"}


def faint(colour: str, strength: float = 0.45) -> str:
    """Convert a hex colour to an rgba colour of opacity `strength` (0..1), for lines in the background of a chart."""
    return "rgba({},{},{},{:g})".format(*(int(colour[i:i + 2], 16) for i in (1, 3, 5)), strength)


def apply() -> None:
    """Add the style sheet to the page. `main.py` calls this each time Streamlit runs the script."""
    st.html(f"<style>{asset('rampart.css')}</style>")
