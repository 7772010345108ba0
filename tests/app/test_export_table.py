"""A robustness table and the report of a network as files."""

from __future__ import annotations

from app import session
from app.components.export_table import _content, further_files, report_file
from engine import api
from engine.report.formats import FORMATS
from engine.report.robustness import robustness_tables
from tests.app.conftest import Samples


def test_every_format_is_a_file_and_a_network_has_its_report(samples: Samples) -> None:
    table = robustness_tables(session.run_log())[0]
    files = further_files(table)
    assert ["CSV", "Parquet", *(file.title for file in files)] == [form.title for form in FORMATS.values()]
    assert all(table.protocol in file.name for file in files)
    assert b"<html" in report_file(table.rows[0].run).make()


def test_a_button_makes_its_file_with_the_ledger_of_the_moment(samples: Samples) -> None:
    """The content that a click asks for counts the openings of the test split."""
    log = session.run_log()
    table = robustness_tables(log)[0]
    text = _content(table, "latex").decode()
    assert text == api.table("latex", protocol=table.protocol, runs=samples.root).decode(), "the command writes the same file"
    assert "The test split was opened once." in text and r"\bottomrule" in text
