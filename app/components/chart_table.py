"""The points of a chart as a table below it, for readers who cannot see the chart or do not use a pointer.

The table is closed until its button, named "Data", is pressed. The browser makes the table from the drawn chart, so the table
costs the server nothing and always agrees with the chart, even while the chart changes.
"""

from __future__ import annotations

import streamlit as st

from app.assets import asset

MOST_ROWS = 200
_component = st.components.v2.component(
    "rampart_chart_table",
    html='<details class="rp-chartdata"><summary>Data</summary>'
         '<div class="rp-scroll" tabindex="0" role="region"></div></details>',
    js=asset("chart_table.js"), isolate_styles=False)


def chart_table(plot: str, label: str) -> None:
    """Show the button that opens the table of a chart.

    Args:
        plot: key of the chart, as given to `live_plot`.
        label: description of the chart, which also describes the table.
    """
    with st.container(key=f"rp-chartdata-{plot}"):
        _component(data={"plot": plot, "label": label, "most": MOST_ROWS}, key=f"{plot}_data")
