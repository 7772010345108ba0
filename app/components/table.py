"""An interactive table that keeps its selection when rows are added, and redraws only the rows that have changed.

The selection is stored as the id of a row. Streamlit's own table stores the position instead, so a new run would move the
selection to another run. Rows are sorted in the browser. Texts are inserted with `textContent` only, so markup in a text has no
effect.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pandas as pd
import streamlit as st

from app.assets import asset
from app.components.downloads import export_menu
from app.downloads import File
from app.formats import coarse

NO_SORT = -1e300
UNSORTED = "unsorted"


def age_text(seconds: float) -> str:
    """Return an age as text: 40 s as "under 1 min", 200 s as "3 min". The browser formats `CellText.since` in the same way."""
    return "under 1 min" if seconds < 60 else coarse(seconds)


@dataclass(frozen=True)
class Column:
    """One column of the table.

    Attributes:
        key: key of the column's cells in `Row.cells`.
        label: heading.
        align: alignment of heading and cells.
        help: tooltip of the heading.
    """

    key: str
    label: str
    align: Literal["left", "right"] = "left"
    help: str = ""


@dataclass(frozen=True)
class CellText:
    """The content of one cell.

    Attributes:
        text: first line of the cell.
        sub: second, smaller line.
        sort: value to sort by. None sorts by the text, and `NO_SORT` keeps the row at the end.
        tone: if set, the text is drawn as a coloured chip: "good", "bad", "warn", "live" or "muted".
        glyph: sign in the chip. It distinguishes chips without the help of colour.
        href: if set, the text is a link to this address. A plain click does not open the address but is reported in
            `TableAction.opened`.
        fraction: if set, a bar that is filled to this fraction (0..1) is drawn below the text.
        since: if set, a Unix time in seconds. The browser replaces the text by the time that has passed since then.
        fill: colour of the bar that `fraction` draws: "" (neutral), "good", "warn" or "bad".
        hint: tooltip of the cell.
        muted: True to draw the text in grey, for example "not measured".
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
    """One row of the table.

    Attributes:
        id: name of the row, which must not change when the table is redrawn.
        cells: cells of the row, keyed by `Column.key`.
        name: name of the row for screen readers, needed for a heading and for a row with a checkbox.
        group: id of the heading row to which this row belongs, or "". Sorting keeps the rows of a group below the heading.
        heading: True for the heading of a group. It can be folded instead of selected.
        folded: True for a heading whose rows are hidden.
        picked: state of the row's checkbox, or None for a row without one.
    """

    id: str
    cells: dict[str, CellText] = field(default_factory=dict)
    name: str = ""
    group: str = ""
    heading: bool = False
    folded: bool = False
    picked: bool | None = None


@dataclass(frozen=True)
class TableAction:
    """The reader's click on the table. Each click is reported only once.

    Attributes:
        clicked: id of the row that was clicked, or None.
        opened: id of the row whose link was clicked, or None.
        picked: id of the row whose checkbox was clicked, or None.
        folded: id of the heading that was clicked, or None.
        sort: order that the reader has chosen by a click on a column's heading: the key of the column, with a minus sign in
            front if the largest value comes first, or `UNSORTED`. None if no heading was clicked.
        picks: ids of all rows whose checkboxes are now ticked, in a selectable table. None if no checkbox was clicked.
    """

    clicked: str | None
    opened: str | None
    picked: str | None = None
    folded: str | None = None
    sort: str | None = None
    picks: tuple[str, ...] | None = None


_component = st.components.v2.component("rampart_table", html='<div class="rp-data"></div>', css=asset("table.css"),
                                        js=asset("table.js"), isolate_styles=False)


def table(columns: Sequence[Column], rows: Sequence[Row], *, key: str, label: str, selected: str | None = None,
          sort: str | None = None, presorted: bool = False, selectable: bool = False, file: str,
          data: Callable[[], pd.DataFrame], further: Sequence[File] = ()) -> TableAction:
    """Show the table with the menu that exports it, and return what the reader has clicked since it was last drawn.

    Args:
        columns: columns from left to right.
        rows: rows from top to bottom, until the reader sorts them.
        key: name of the table, unique on the page and the same each time Streamlit runs the script.
        label: name of the table for screen readers.
        selected: id of the row to mark as selected, or None.
        sort: order of the rows, as in `TableAction.sort`. An unknown column leaves the rows unsorted. None lets the browser keep
            the order that the reader chooses.
        presorted: True if the rows are in the order `sort` already, so that the browser leaves them as they are.
        selectable: True for a table in which the reader can tick many rows. A click on a checkbox ticks its row, a click with
            Shift ticks all rows in between, and the space bar ticks the focused row. A click on a row ticks only this row.
            `TableAction.picks` reports all ticked rows at once, so that no click is lost if the reader is faster than the page.
        file: name of the exported files, without their ending.
        data: function that returns the table at full precision, with every row. See `export_menu`.
        further: exported files in other formats.
    """
    known = {row.id for row in rows}
    sent: dict[str, Any] = {"columns": [asdict(column) for column in columns], "label": label, "selected": selected,
                            "sort": sort, "presorted": presorted, "selectable": selectable,
                            "seen": st.session_state.get(f"{key}.seen", 0), "rows": [_row(row) for row in rows]}
    result = _component(data=sent, key=key, on_clicked_change=_nothing, on_opened_change=_nothing, on_picked_change=_nothing,
                        on_folded_change=_nothing, on_sort_change=_nothing, on_picks_change=_nothing)
    export_menu(file, data, key=key, further=further)
    order = result.get("sort")
    clicked, opened, picked, folded = (one if (one := result.get(name)) in known else None
                                       for name in ("clicked", "opened", "picked", "folded"))
    return TableAction(clicked, opened, picked, folded, order if order in orders_of(columns) else None,
                       _picks(result.get("picks"), key, known))


def _picks(sent: Any, key: str, known: set[str]) -> tuple[str, ...] | None:
    """Return the ids of the rows that are ticked, from a report of the browser; None if the report is not new.

    The number of the newest report is stored in the session, so that each report is returned only once. Unknown ids are left out.

    Args:
        sent: the report, {"number": its number, "ids": ids of the rows}, or anything else for none.
        key: key of the table.
        known: ids of all rows.
    """
    if not isinstance(sent, dict) or sent.get("number", 0) <= st.session_state.get(f"{key}.seen", 0):
        return None
    st.session_state[f"{key}.seen"] = sent["number"]
    return tuple(one for one in sent["ids"] if one in known)


def orders_of(columns: Sequence[Column]) -> list[str]:
    """Return all orders in which rows can be sorted, as in `TableAction.sort`."""
    return [UNSORTED, *(sign + column.key for column in columns for sign in ("", "-"))]


def _row(row: Row) -> dict[str, Any]:
    """Return the attributes of a row as a dict: always the id and the cells, and other attributes only if they are set."""
    further = {name: value for name in ("name", "group", "heading", "folded") if (value := getattr(row, name))}
    if row.picked is not None:
        further["picked"] = row.picked
    return {"id": row.id, "cells": {name: _slim(cell) for name, cell in row.cells.items()}} | further


def _slim(cell: CellText) -> dict[str, Any]:
    """Return the attributes of a cell as a dict: always the text, and other attributes only if they are set.

    The other attributes are left out to keep the message to the browser small. The whole table is sent at each change.
    """
    return {name: value for name, value in asdict(cell).items()
            if name == "text" or not (value == "" or value is None or value is False)}


def _nothing() -> None:
    """Do nothing. Streamlit reports a value of a component only if the value has a callback."""
