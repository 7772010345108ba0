"""The menu below a chart or table that saves it: the data as CSV or Parquet, the figure as SVG or PNG.

The menu is empty until it is opened, so that a page with many charts costs no more. Files are made when a button is clicked: the
data by the server, the figure by the browser, as it is zoomed at that moment.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pandas as pd
import streamlit as st

from app.assets import asset
from engine.report.frames import MIMES, frame_bytes

_TITLES = {"csv": "CSV", "parquet": "Parquet"}
_component = st.components.v2.component(
    "rampart_save_figure",
    html='<div class="rp-save"><button type="button" data-format="svg">SVG</button>'
         '<button type="button" data-format="png">PNG</button><span class="rp-save-note" role="status"></span></div>',
    css=asset("save_figure.css"), js=asset("save_figure.js"), isolate_styles=False)


def export_menu(name: str, data: Callable[[], pd.DataFrame], *, key: str, chart: str = "") -> None:
    """Show the menu of a chart or table.

    Args:
        name: name of the files, without their ending.
        data: function that returns the data, unsampled. It is called in another thread after a click, so it must not use the
            session of the page.
        key: key of the menu, unique on the page.
        chart: key of the chart, as `live_plot` got it; "" for a table.
    """
    with st.container(horizontal=True, horizontal_alignment="right"):
        menu = st.popover("Export", key=f"{key}_export", on_change="rerun", icon=":material/download:", type="tertiary")
    if not menu.open:
        return
    with menu:
        st.html('<span class="rp-label">Data, every point</span>')
        with st.container(horizontal=True, gap="small"):
            for form, mime in MIMES.items():
                st.download_button(_TITLES[form], partial(_content, data, form), f"{name}.{form}", mime, key=f"{key}_{form}",
                                   on_click="ignore")
        if chart:
            st.html('<span class="rp-label">Figure, as it is zoomed now</span>')
            _component(data={"chart": chart, "name": name}, key=f"{key}_figure")


def _content(data: Callable[[], pd.DataFrame], form: str) -> bytes:
    return frame_bytes(data(), form)
