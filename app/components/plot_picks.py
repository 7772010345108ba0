"""Clicks on the points of a live plot. While the pointer is over a point, the browser also draws the point's intervals.

`live_plot` draws the figure. The custom data of a point are a list:

* The first entry is the id that a click on the point reports.
* Three more entries, if present, are the value and the lower and upper end of its interval on the horizontal axis.
* The next three are the same numbers for the vertical axis.

A click on a point without custom data reports the text `meta` of the point's trace.
"""

from __future__ import annotations

import streamlit as st

from app.assets import asset

_component = st.components.v2.component("rampart_plot_picks", html='<span class="rp-picks" hidden></span>',
                                        js=asset("plot_picks.js"), isolate_styles=False)


def picked(plot: str) -> str | None:
    """Return the id of the point that the reader has clicked since the page was last rerun, or None.

    Args:
        plot: key of the plot, as given to `live_plot`.
    """
    value = _component(data={"plot": plot}, key=f"{plot}_picks", on_picked_change=_nothing).get("picked")
    return str(value) if value else None


def _nothing() -> None:
    """Do nothing. Streamlit reports a value of a component only if the value has a callback."""
