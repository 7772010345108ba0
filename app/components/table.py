"""An interactive table whose rows have names: the selection survives new rows, and a refresh touches only what changed.

Streamlit's own table selects by position, so a new run would move the selection to another one. Rows are drawn with
`textContent` only, so nothing in a run's title is read as markup. The browser sorts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import streamlit as st

from app.assets import asset
from app.formats import coarse

NO_SORT = -1e300


def age_text(seconds: float) -> str:
    """Return the text that the browser writes for `CellText.since`: 40 as "under 1 min", 200 as "3 min"."""
    return "under 1 min" if seconds < 60 else coarse(seconds)


@dataclass(frozen=True)
class Column:
    """One column: key of its cells, heading, alignment, and a hint on the heading."""

    key: str
    label: str
    align: Literal["left", "right"] = "left"
    help: str = ""


@dataclass(frozen=True)
class CellText:
    """The content of one cell.

    Attributes:
        text: the text.
        sub: a second, smaller line.
        sort: value to sort by; None for the text, `NO_SORT` to stay at the end.
        tone: draws the text as a chip: "good", "bad", "warn", "live" or "muted".
        glyph: sign in the chip, so that its meaning does not rest on colour alone.
        href: draws the text as a link; a plain click is reported to the page (`TableAction.opened`).
        fraction: draws a bar of this length, 0..1, below the text.
        since: Unix seconds; the browser replaces the text by the time since then.
        fill: tone of the bar: "", "good", "warn" or "bad".
        hint: shown when the pointer rests on the cell.
        muted: draws the text as secondary ("not measured").
    """

    text: str
    sub: str = ""
    sort: float | str | None = None
    tone: str = ""
    glyph: str = ""
    href: str = ""
    fraction: float | None = None
    since: float | None = None
    fill: str = ""
    hint: str = ""
    muted: bool = False


@dataclass(frozen=True)
class Row:
    """One row: a name that is constant across refreshes, and its cells by column key."""

    id: str
    cells: dict[str, CellText] = field(default_factory=dict)


@dataclass(frozen=True)
class TableAction:
    """The reader's last action, reported once: the id of the clicked row, and of the row whose link was clicked."""

    clicked: str | None
    opened: str | None


_component = st.components.v2.component("rampart_table", html='<div class="rp-data"></div>', css=asset("table.css"),
                                        js=asset("table.js"), isolate_styles=False)


def table(columns: Sequence[Column], rows: Sequence[Row], *, key: str, label: str, selected: str | None) -> TableAction:
    """Draw the table and return the reader's last action.

    Args:
        columns: from left to right.
        rows: from top to bottom, until the reader sorts them.
        key: identity of the element.
        label: name for screen readers.
        selected: id of the row that is marked.
    """
    known = {row.id for row in rows}
    data: dict[str, Any] = {"columns": [asdict(column) for column in columns], "label": label, "selected": selected,
                            "rows": [{"id": row.id, "cells": {name: _slim(cell) for name, cell in row.cells.items()}}
                                     for row in rows]}
    result = _component(data=data, key=key, on_clicked_change=_nothing, on_opened_change=_nothing)
    clicked, opened = result.get("clicked"), result.get("opened")
    return TableAction(clicked if clicked in known else None, opened if opened in known else None)


def _slim(cell: CellText) -> dict[str, Any]:
    """Return only the attributes that are set: a table of a thousand runs is sent at each change."""
    return {name: value for name, value in asdict(cell).items()
            if name == "text" or not (value == "" or value is None or value is False)}


def _nothing() -> None:
    """Do nothing: the component reports a value only if a callback exists, and `table` reads the value itself."""
