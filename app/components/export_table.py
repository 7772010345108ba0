"""Buttons that download a robustness table in every format, and the report of a network. A file is made when it is asked for."""

from __future__ import annotations

from functools import partial

import streamlit as st

from app import session
from engine.report.formats import FORMATS, export, openings_of
from engine.report.html import network_report
from engine.report.robustness import Distinctions, RobustnessTable


def export_buttons(table: RobustnessTable, *distinctions: Distinctions) -> None:
    """Draw one download button per format.

    The files have the rows and columns of the table in their order, the letters of the paired comparisons, and the number of
    openings of the test split at the time of the click.

    Args:
        table: the table that the page shows.
        distinctions: paired comparisons of its columns, as shown. Without any, no figure is bold.
    """
    with st.container(horizontal=True, gap="small"):
        for name, form in FORMATS.items():
            st.download_button(form.title, partial(_content, table, name, distinctions),
                               f"robustness-{table.protocol}{form.suffix}", form.mime, key=f"export_{table.protocol}_{name}",
                               on_click="ignore", help=f"{form.text[0].upper()}{form.text[1:]}.")


def report_button(run: str) -> None:
    """Draw the button that downloads the report of an attacked network as one HTML file.

    Args:
        run: id of the attack run.
    """
    st.download_button("Report (HTML)", partial(network_report, session.run_log(), run), f"{run}.html", "text/html",
                       key=f"report_{run}", on_click="ignore",
                       help="Protocol, settings, cells, curves, results, checks and images in one file that opens offline.")


def _content(table: RobustnessTable, form: str, distinctions: tuple[Distinctions, ...]) -> bytes:
    return export(table, form, distinctions, openings_of(session.run_log(), table))
