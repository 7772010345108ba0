"""A robustness table and the report of a network as files to download."""

from __future__ import annotations

from functools import partial

import pandas as pd

from app import evaluations, session
from app.downloads import File
from engine.report.formats import FORMATS, export, openings_of
from engine.report.frames import MIMES
from engine.report.html import network_report
from engine.report.records import records
from engine.report.robustness import Distinctions, RobustnessTable, distinctions


def further_files(table: RobustnessTable) -> list[File]:
    """Return one file with the robustness table for each export format other than CSV and Parquet.

    Each file contains the table, the paired comparisons of its networks (every two networks, in each column of results), and the
    number of times that runs have opened the test split so far. It equals the file that `rampart table` writes.
    """
    return [File(form.title, f"{file_name(table)}{form.suffix}", form.mime, partial(_content, table, name),
                 f"{form.text[0].upper()}{form.text[1:]}.") for name, form in FORMATS.items() if name not in MIMES]


def file_name(table: RobustnessTable) -> str:
    """Return the name of the files of a robustness table, without their ending."""
    return f"robustness-{table.dataset}-{table.protocol}"


def report_file(run: str) -> File:
    """Return the report of an attacked network as one HTML file.

    Args:
        run: id of the attack run.
    """
    return File("Report (HTML)", f"{run}-report.html", "text/html", partial(network_report, session.run_log(), run),
                "Protocol, settings, cells, curves, results, checks and images in one file that opens offline.")


def table_frame(table: RobustnessTable) -> pd.DataFrame:
    """Return a robustness table as a data frame for export: one row per network, with the paired comparisons."""
    return records(table, _compared(table), openings_of(session.run_log(), table)).to_pandas()


def _content(table: RobustnessTable, form: str) -> bytes:
    return export(table, form, _compared(table), openings_of(session.run_log(), table))


def _compared(table: RobustnessTable) -> list[Distinctions]:
    """Compare all networks in each column. The result is not cached, because 300 networks take 25 MB per column."""
    runs = [run for run, _ in evaluations.recorded(table)]
    return [distinctions(session.run_log(), table, column.name, runs) for column in table.columns]
