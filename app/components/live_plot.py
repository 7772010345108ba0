"""A Plotly chart that keeps its DOM node and the reader's zoom while its data changes.

`st.plotly_chart` replaces the node at each change of data, so a live chart flickers and forgets its zoom each second.
This component mounts one node per key and calls `Plotly.react` on it, only when the figure really differs. plotly.min.js
is served by this server (`session.prepare_static`); nothing is fetched from elsewhere.
"""

from __future__ import annotations

import hashlib

import plotly.graph_objects as go
import streamlit as st

_SCRIPT = """
export default function ({ data, parentElement }) {
  const node = parentElement.querySelector(".rp-plot");
  if (node.dataset.revision === data.revision) return;
  node.dataset.revision = data.revision;
  node.style.height = data.height + "px";
  node.setAttribute("role", "img");
  node.setAttribute("aria-label", data.label);
  const library = (window.__rampartPlotly ??= window.Plotly ? Promise.resolve() : new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = "app/static/plotly.min.js";
    script.onload = done;
    script.onerror = () => { window.__rampartPlotly = undefined; failed(new Error("plotly.min.js")); };
    document.head.appendChild(script);
  }));
  const figure = JSON.parse(data.figure);
  Object.assign(figure.layout, { uirevision: data.name, height: data.height });
  library.then(() => {
    if (node.dataset.revision !== data.revision) return;  // a newer figure is on its way
    window.Plotly.react(node, figure.data, figure.layout, {
      displaylogo: false, responsive: true, scrollZoom: false, doubleClick: "reset",
      modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
      toImageButtonOptions: { format: "svg", filename: data.name },
    });
  }).catch(() => { node.textContent = "The chart library could not be loaded from this server. Reload the page."; });
}
"""

_component = st.components.v2.component("rampart_live_plot", html='<div class="rp-plot"></div>', js=_SCRIPT,
                                        isolate_styles=False)


def live_plot(figure: go.Figure, *, key: str, label: str, height: int = 320) -> None:
    """Draws a figure from `app.charts` and keeps node and zoom across updates.

    Args:
        figure: a themed figure (`charts.frame.themed`); its background is transparent, its text and grid take the
            theme's colours through the style sheet.
        key: unique on the page and the same for the life of the chart; another key is another chart (zoom starts anew).
        label: what a screen reader says, for example "Loss per epoch".
        height: pixels.
    """
    text = figure.to_json()
    revision = hashlib.sha1(text.encode()).hexdigest()[:12]
    _component(data={"figure": text, "revision": revision, "height": height, "label": label, "name": key}, key=key)
