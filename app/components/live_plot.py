"""A Plotly chart whose data can change without replacing the DOM node and without losing the reader's zoom.

`st.plotly_chart` replaces the node at each change of data, so a live chart would flicker and lose its zoom every second. This
component creates one node per key. If the figure has changed, it updates the node with `Plotly.react`. With a feed, the server
sends new points to the node without a rerun of the panel. Two buttons above the chart save the chart as SVG or PNG. The
dashboard's own server delivers plotly.min.js, so no other server is contacted.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from app import session
from app.assets import asset
from app.components.chart_table import chart_table
from app.components.export_menu import export_menu
from app.live_values import Feed, Value

_component = st.components.v2.component("rampart_live_plot", html='<div class="rp-plot"></div>', js=asset("live_plot.js"),
                                        isolate_styles=False)


def live_plot(figure: go.Figure, *, key: str, label: str, height: int = 320,
              data: Callable[[], pd.DataFrame] | None = None, feed: Feed | None = None) -> None:
    """Draw a figure from `app.charts`. The reader's zoom is kept when the data change.

    Args:
        figure: figure styled by `charts.frame.themed`.
        key: name of the chart, unique on the page. A figure drawn under a new key is a new chart without zoom.
        label: description for screen readers, for example "Loss per epoch".
        height: height in pixels.
        data: function that returns the data of the chart, unsampled. With it, and if the figure is not empty, a menu below the
            chart saves the data and the figure (`export_menu`).
        feed: source of the figure, which keeps the chart up to date without reruns; None if only a rerun changes it.
    """
    value, name = Value.of(figure), feed.name(key) if feed else ""
    if feed:
        session.hub().values.offer(name, feed, value)
    _component(data={"figure": value.text, "revision": value.revision, "height": height, "label": label, "name": key,
                     "feed": name}, key=key)
    if data is not None and figure.data:
        export_menu(key.replace("_", "-"), data, key=key, chart=key)
    if figure.data:
        chart_table(key, label)
