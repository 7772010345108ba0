"""Markdown: a table that renders with the right columns whatever names hold."""

from __future__ import annotations

import re
from dataclasses import replace

from engine.report.markdown import escaped, to_markdown
from engine.report.words import printed_label
from tests.engine.report.made_tables import NASTY, SPECIAL, distinguished, made_table


def cells(line: str) -> list[str]:
    """Return the cells of a line by the rule of GitHub's specification: a pipe separates unless a backslash precedes it."""
    parts, escaping = [""], False
    for character in line:
        if character == "|" and not escaping:
            parts.append("")
        else:
            parts[-1] += character
        escaping = character == "\\" and not escaping
    return [part.strip() for part in parts[1:-1]]


def shown(text: str) -> str:
    """Return a text of Markdown without markup as a reader sees it."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text)


def test_every_line_has_the_columns_of_the_head() -> None:
    """Each line of the table splits into as many cells as the head, and the delimiter row aligns numbers to the right."""
    table = made_table()
    text = to_markdown(table, [distinguished(table)], 3).decode()
    lines = [cells(line) for line in text.splitlines() if line.startswith("|")]
    assert {len(line) for line in lines} == {len(table.columns) + 4}
    assert lines[1] == ["---", *["---:"] * (len(table.columns) + 2), "---"]
    assert len(lines) == 2 + len(table.rows) + 1
    names = [shown(line[0]).removesuffix(" †") for line in lines[2:]]
    assert names[:len(NASTY)] == [title.replace("\n", " ") for title in NASTY]
    assert names[-1] == "*Seeds, mean of 3 networks*" and lines[-1][1] == "91.0 ± 1.0"


def test_escaping_is_lossless_and_leaves_no_markup() -> None:
    """Every special character has a backslash in front, and dropping the backslashes gives the text back."""
    assert shown(escaped(SPECIAL)) == SPECIAL
    assert not re.search(r"(?<!\\)[`*_<>|\[\]]", escaped("`*_<>|[]"))


def test_notes_name_protocol_ledger_and_reasons() -> None:
    """The text around the table holds protocol, ledger and the reason of every dagger."""
    text = shown(to_markdown(made_table(), [], 1).decode())
    assert "Protocol 0a280fcfcb3c." in text and "The test split was opened once." in text and f"Reason {SPECIAL}" in text


def test_a_preset_other_than_paper_is_printed_next_to_the_name() -> None:
    row = made_table().rows[0]
    assert printed_label(row) == row.label
    assert printed_label(replace(row, preset="quick", complete=False)) == f"{row.label} (quick, in progress)"
