"""Buttons that download a robustness table or the report of a network. Each file is made when its button is clicked."""

from __future__ import annotations

from functools import partial

import pandas as pd
import streamlit as st

from app import evaluations, session
from engine.report.formats import FORMATS, export, openings_of
from engine.report.html import network_report
from engine.report.records import records
from engine.report.robustness import RobustnessTable


def export_buttons(table: RobustnessTable) -> None:
    """Show one download button per file format.

    A file contains the table, a comparison of every two networks in each column, and the number of times that runs have opened
    the test split so far. It equals the file that `rampart table` writes.
    """
    with st.container(horizontal=True, gap="small"):
        for name, form in FORMATS.items():
            st.download_button(form.title, partial(_content, table, name),
                               f"robustness-{table.protocol}{form.suffix}", form.mime, key=f"export_{table.protocol}_{name}",
                               on_click="ignore", help=f"{form.text[0].upper()}{form.text[1:]}.")


def report_button(run: str) -> None:
    """Show the button that downloads the report of an attacked network as one HTML file.

    Args:
        run: id of the attack run.
    """
    st.download_button("Report (HTML)", partial(network_report, session.run_log(), run), f"{run}.html", "text/html",
                       key=f"report_{run}", on_click="ignore",
                       help="Protocol, settings, cells, curves, results, checks and images in one file that opens offline.")


def table_frame(table: RobustnessTable) -> pd.DataFrame:
    """Return a robustness table with one row per network, as its files hold it, without the paired comparisons."""
    return records(table, (), openings_of(session.run_log(), table)).to_pandas()


def _content(table: RobustnessTable, form: str) -> bytes:
    compared = [evaluations.comparison(table, column.name) for column in table.columns]
    return export(table, form, compared, openings_of(session.run_log(), table))
