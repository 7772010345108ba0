"""Download buttons of tables and reports."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest

from app import session
from app.components.export_table import _content
from engine import api
from engine.report.formats import FORMATS
from engine.report.robustness import robustness_tables
from tests.app.conftest import Samples


def page() -> None:
    """Draw the buttons of the first table and of its first network."""
    from app import session
    from app.components.export_table import export_buttons, report_button
    from engine.report.robustness import robustness_tables

    log = session.run_log()
    table = robustness_tables(log)[0]
    export_buttons(table)
    report_button(table.rows[0].run)


def test_every_format_has_a_button_and_a_network_its_report(samples: Samples) -> None:
    """The page shows one download button per format and one for the report."""
    shown = AppTest.from_function(page).run()
    assert not shown.exception
    labels = [one.proto.label for one in shown.get("download_button")]
    assert labels == [*(form.title for form in FORMATS.values()), "Report (HTML)"]


def test_a_button_makes_its_file_with_the_ledger_of_the_moment(samples: Samples) -> None:
    """The content that a click asks for counts the openings of the test split."""
    log = session.run_log()
    table = robustness_tables(log)[0]
    text = _content(table, "latex").decode()
    assert text == api.table("latex", protocol=table.protocol, runs=samples.root).decode(), "the command writes the same file"
    assert "The test split was opened 1 time." in text and r"\bottomrule" in text
