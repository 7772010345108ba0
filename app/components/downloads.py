"""Links that download files: as buttons, or in the menu "Export" below a chart or table.

The links are plain HTML, so they need no widget. One component, which is part of every page, fetches the file after a click, says
in a sentence if something went wrong, and saves charts as SVG or PNG with the reader's zoom.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd
import streamlit as st

from app.assets import asset
from app.downloads import File, address_of
from app.formats import escape
from engine.report.frames import MIMES, frame_bytes

TITLES = {"csv": "CSV", "parquet": "Parquet"}
FIGURES = ("svg", "png")
_NOTE = '<span class="rp-filenote" role="status"></span>'
_component = st.components.v2.component("rampart_downloads", html="<span hidden></span>", js=asset("downloads.js"),
                                        isolate_styles=False)


def handle_downloads() -> None:
    """Add the component that handles clicks on download links to the page."""
    with st.container(key="rp-downloads"):
        _component(key="downloads")


def data_files(name: str, data: Callable[[], pd.DataFrame]) -> list[File]:
    """Return the CSV and the Parquet file of a table.

    Args:
        name: name of the files, without their ending.
        data: function that returns the table with every row, at full precision.
    """
    return [File(TITLES[form], f"{name}.{form}", mime, partial(_content, data, form), "Every row, at full precision")
            for form, mime in MIMES.items()]


def menu_html(files: Sequence[File], *, key: str, chart: str = "", name: str = "") -> str:
    """Return the menu "Export" as HTML. It is closed until the reader opens it.

    Args:
        files: files with the data.
        key: key of the menu, unique on the page.
        chart: key of the chart above the menu, as given to `live_plot`, so that the menu can save the figure; "" for a table.
        name: name of the files with the figure, without their ending.
    """
    links = "".join(_link_html(file, key, "") for file in files)
    figure = "".join(f'<button type="button" data-chart="{escape(chart)}" data-name="{escape(name)}" data-format="{form}" '
                     f'title="The figure as it is zoomed now">{form.upper()}</button>' for form in FIGURES if chart)
    return f'<details class="rp-export"><summary>Export</summary><div class="rp-files">{links}{figure}{_NOTE}</div></details>'


def export_menu(name: str, data: Callable[[], pd.DataFrame], *, key: str, chart: str = "",
                further: Sequence[File] = ()) -> None:
    """Show the menu "Export" of a chart or table.

    Args:
        name: name of the files, without their ending.
        data: function that returns the data, unsampled. It runs in another thread, so it must not use the session of the page.
        key: key of the menu, unique on the page.
        chart: see `menu_html`.
        further: files in other formats.
    """
    st.html(menu_html([*data_files(name, data), *further], key=key, chart=chart, name=name))


def download_buttons(files: Sequence[File], *, key: str) -> None:
    """Show one button for each file, in a row.

    Args:
        files: the files. Without any, nothing is shown.
        key: key of the row, unique on the page.
    """
    if files:
        links = "".join(_link_html(file, key, "rp-filebutton") for file in files)
        st.html(f'<div class="rp-files">{links}{_NOTE}</div>')


def _link_html(file: File, key: str, look: str) -> str:
    return (f'<a class="rp-file {look}" href="{escape(address_of(file, key))}" download="{escape(file.name)}" '
            f'title="{escape(file.help)}">{escape(file.title)}</a>')


def _content(data: Callable[[], pd.DataFrame], form: str) -> bytes:
    return frame_bytes(data(), form)
