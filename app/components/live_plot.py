"""A Plotly chart whose data can change without replacing the DOM node and without losing the reader's zoom.

`st.plotly_chart` replaces the node at each change of data, so a live chart would flicker and lose its zoom every second. This
component creates one node per key. If the figure has changed, it updates the node with `Plotly.react`. With a feed, the server
sends new points to the node without a rerun of the panel, and the reader can pause the chart. The menu below the chart saves its
data and the figure. The dashboard's own server delivers plotly.min.js, so no other server is contacted.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import streamlit as st

from app import session
from app.assets import asset
from app.charts.frame import PlainFigure
from app.components.chart_table import chart_table
from app.components.downloads import export_menu
from app.downloads import named
from app.live_values import Feed, Value

_component = st.components.v2.component(
    "rampart_live_plot", isolate_styles=False, js=asset("live_lines.js", "live_plot.js"),
    html='<div class="rp-plot"></div><div class="rp-pause" hidden><span role="status"></span><button type="button"></button>'
         "</div>")


def live_plot(figure: PlainFigure, *, key: str, label: str, data: Callable[[], pd.DataFrame], height: int = 320,
              feed: Feed | None = None, file: str = "") -> None:
    """Draw a figure from `app.charts`. The reader's zoom is kept when the data change.

    Args:
        figure: figure styled by `charts.frame.themed`.
        key: name of the chart, unique on the page. A figure drawn under a new key is a new chart without zoom.
        label: description for screen readers, for example "Loss per epoch".
        data: function that returns the data of the chart, unsampled and at full precision. If the figure is not empty, a menu
            below the chart saves the data and the figure (`export_menu`).
        height: height in pixels. If the layout of the figure (or of the newest figure of the feed) gives a height, that height is
            used instead.
        feed: source of the figure, which keeps the chart up to date without reruns; None if only a rerun changes it.
        file: name of the saved files, without their ending. By default it is made from the key.
    """
    value, name = Value.of(figure), feed.name(key) if feed else ""
    if feed:
        session.hub().values.offer(name, feed, value)
    _component(data={"figure": value.text, "revision": value.revision, "height": height, "label": label, "name": key,
                     "feed": name}, key=key)
    if figure["data"]:
        chart_table(key, label)
        with st.container(key=f"rp-exportof-{key}"):
            export_menu(file or named(key.replace("_", "-")), data, key=key, chart=key)
