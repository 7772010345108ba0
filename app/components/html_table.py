"""Static HTML tables with accessible markup, each with the menu that exports it. All text is escaped unless it is `Markup`."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Generic, TypeVar

import pandas as pd

from app.components.downloads import data_files, menu_html
from app.downloads import named
from app.formats import escape

Item = TypeVar("Item")


class Markup(str):
    """HTML that tables insert without escaping. The code that creates it must escape text from files or users."""


@dataclass(frozen=True)
class StaticColumn(Generic[Item]):
    """One column of a table. Each row of the table is an object of type `Item`.

    Attributes:
        title: heading of the column.
        cell: function that takes a row and returns the content of its cell in this column, as text or `Markup`.
        right: True to align the column to the right, as for numbers.
        names_row: True if the cells of this column are the headings of their rows.
        look: CSS class of the cells of this column.
        data: function that takes a row and returns {name of a column of the exported file, with its unit: value at full
            precision}. None to export the text of the cell, which is not suitable for numbers.
    """

    title: str
    cell: Callable[[Item], object]
    right: bool = False
    names_row: bool = False
    look: str = ""
    data: Callable[[Item], Mapping[str, object]] | None = None


def html_table(columns: Iterable[StaticColumn[Any]], rows: Iterable[Any], *, label: str, note: str = "", look: str = "",
               row_look: Callable[[Any], str] = lambda row: "", group: Callable[[Any], str] | None = None, file: str = "",
               facts: Mapping[str, object] | None = None) -> str:
    """Return a table as HTML, with the menu "Export" below it.

    Args:
        columns: columns from left to right.
        rows: rows from top to bottom.
        label: name of the table for screen readers.
        note: explanation in the caption of the table.
        look: additional CSS classes of the table.
        row_look: function that takes a row and returns its CSS class.
        group: function that takes a row and returns a heading. Adjacent rows with equal headings form a group under the heading.
        file: name of the exported files, without their ending, and unique on the page. By default it is made from the label.
        facts: {name of a column: value} for columns of the exported files that are the same in all rows, such as the protocol.
    """
    columns, rows = list(columns), list(rows)
    name = file or named(label)
    export = menu_html(data_files(name, exported(columns, rows, group, facts or {})), key=f"table.{name}")
    head = "".join(f'<th scope="col"{_class("rp-right" * one.right)}>{_html(one.title)}</th>' for one in columns)
    bodies = (_body(columns, members, row_look, title) for title, members in groupby(rows, group or (lambda row: "")))
    caption = f"<caption>{_html(note)}</caption>" if note else ""
    return (f'<div class="rp-scroll"><table{_class("rp-table", look)} aria-label="{escape(label)}">{caption}'
            f"<thead><tr>{head}</tr></thead>{''.join(bodies)}</table></div>{export}")


def exported(columns: list[StaticColumn[Any]], rows: list[Any], group: Callable[[Any], str] | None,
             facts: Mapping[str, object]) -> Callable[[], pd.DataFrame]:
    """Return a function that returns the exported content of a table.

    The content is computed at once, so that the function does not keep the row objects in memory. The arguments are those of
    `html_table`.
    """
    lines = [({"group": group(row)} if group else {}) | _values(columns, row) | dict(facts) for row in rows]
    return lambda: pd.DataFrame(lines)


def _values(columns: list[StaticColumn[Any]], row: Any) -> dict[str, object]:
    values: dict[str, object] = {}
    for column in columns:
        values |= column.data(row) if column.data else {column.title: plain(column.cell(row))}
    return values


def plain(text: object) -> str:
    """Return the content of a cell as plain text, without tags and with commas between lines."""
    if not isinstance(text, Markup):
        return str(text)
    lines = re.sub(r"<br>|</div>", "\n", re.sub(r'<span[^>]*aria-hidden="true">[^<]*</span>', "", text))
    return ", ".join(filter(None, (html.unescape(re.sub(r"<[^>]*>", " ", line)).strip() for line in lines.split("\n"))))


def code(text: object) -> Markup:
    """Return text as HTML in a monospaced font, as used for hashes."""
    return Markup(f"<code>{escape(text)}</code>")


def with_label(text: object, label: str, *, strong: bool = False) -> Markup:
    """Return text as HTML with `label` as a smaller second line. An empty label adds no line."""
    first = f"<b>{escape(text)}</b>" if strong else escape(text)
    return Markup(f'{first}<br><span class="rp-label">{escape(label)}</span>' if label else first)


def _body(columns: list[StaticColumn[Any]], rows: Iterable[Any], row_look: Callable[[Any], str], title: str) -> str:
    heading = f'<tr><th scope="rowgroup" colspan="{len(columns)}">{escape(title)}</th></tr>' if title else ""
    lines = (f"<tr{_class(row_look(row))}>{''.join(_cell(column, row) for column in columns)}</tr>" for row in rows)
    return f"<tbody>{heading}{''.join(lines)}</tbody>"


def _cell(column: StaticColumn[Any], row: Any) -> str:
    tag, scope = ("th", ' scope="row"') if column.names_row else ("td", "")
    return f"<{tag}{scope}{_class('rp-right' * column.right, column.look)}>{_html(column.cell(row))}</{tag}>"


def _class(*names: str) -> str:
    present = " ".join(filter(None, names))
    return f' class="{present}"' if present else ""


def _html(text: object) -> str:
    return text if isinstance(text, Markup) else escape(text)
