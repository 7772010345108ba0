"""A Plotly chart that keeps its DOM node and the reader's zoom while its data change.

`st.plotly_chart` replaces the node at each change of data, so a live chart flickers and forgets its zoom each second.
This component mounts one node per key and calls `Plotly.react` on it, and only when the figure differs. This server also
serves plotly.min.js (`session.prepare_static`); nothing is fetched from elsewhere.
"""

from __future__ import annotations

import hashlib

import plotly.graph_objects as go
import streamlit as st

from app.assets import asset

_component = st.components.v2.component("rampart_live_plot", html='<div class="rp-plot"></div>', js=asset("live_plot.js"),
                                        isolate_styles=False)


def live_plot(figure: go.Figure, *, key: str, label: str, height: int = 320) -> None:
    """Draw a figure from `app.charts`; node and zoom stay across updates.

    Args:
        figure: a themed figure (`charts.frame.themed`); text and grid take the colours of the theme from the style sheet.
        key: unique on the page and constant for the life of the chart; another key is another chart, with a zoom of its own.
        label: text for screen readers, for example "Loss per epoch".
        height: pixels.
    """
    text = figure.to_json()
    revision = hashlib.sha1(text.encode()).hexdigest()[:12]
    _component(data={"figure": text, "revision": revision, "height": height, "label": label, "name": key}, key=key)
