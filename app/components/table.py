"""A table whose rows have names: selection survives new rows, refreshing touches only what changed, text is real text.

Streamlit's own table selects by position, so a run that arrives would move the selection to another run. Rows are drawn
with `textContent` only: nothing that a run's title contains is ever read as markup. Sorting is done in the browser.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import streamlit as st

from app.components.formats import coarse

JAVASCRIPT = """
export default function(component) {
  const {data, parentElement, setTriggerValue} = component;
  const host = parentElement.querySelector('.rp-data');
  const make = (tag, name, text) => {
    const node = document.createElement(tag);
    if (name) node.className = name;
    if (text !== undefined && text !== null) node.textContent = text;
    return node;
  };
  const state = host.rampart || (host.rampart = {sort: null, falling: false, drawn: new Map(), head: ''});
  state.send = {setTriggerValue};
  state.data = data;

  const age = (since) => {
    const s = Math.max(0, Date.now() / 1000 - since);
    return s < 60 ? 'under 1 min' : s < 3600 ? Math.floor(s / 60) + ' min' : s < 86400 ? Math.floor(s / 3600) + ' h'
      : Math.floor(s / 86400) + ' d';
  };
  const cellNode = (column, cell) => {
    const td = make('td', column.align === 'right' ? 'rp-right' : '');
    if (cell.tone) {
      const chip = make('span', 'rp-chip rp-tone-' + cell.tone);
      if (cell.glyph) { const g = make('span', 'rp-glyph', cell.glyph); g.setAttribute('aria-hidden', 'true'); chip.append(g); }
      chip.append(make('span', '', cell.text));
      td.append(chip);
    } else if (cell.href) {
      const link = make('a', 'rp-data-link', cell.text);
      link.href = cell.href;
      link.addEventListener('click', (event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
        event.preventDefault(); event.stopPropagation();
        state.send.setTriggerValue('opened', td.parentElement.dataset.id);
      });
      td.append(link);
    } else if (cell.fraction !== null && cell.fraction !== undefined) {
      const track = make('div', 'rp-track'), fill = make('div', 'rp-fill' + (cell.fill ? ' rp-' + cell.fill : ''));
      fill.style.width = (100 * cell.fraction).toFixed(1) + '%';
      track.append(fill);
      td.append(make('span', 'rp-num', cell.text), track);
    } else if (cell.since) {
      const span = make('span', 'rp-num', age(cell.since));
      span.dataset.since = cell.since;
      td.append(span);
    } else td.append(make('span', 'rp-num' + (cell.muted ? ' rp-muted' : ''), cell.text));
    if (cell.sub) td.append(make('span', 'rp-sub rp-num', cell.sub));
    if (cell.hint) td.title = cell.hint;
    return td;
  };
  const choose = (id) => state.send.setTriggerValue('clicked', id);
  const rowNode = (row, columns) => {
    const tr = make('tr');
    tr.dataset.id = row.id; tr.tabIndex = 0;
    for (const column of columns) tr.append(cellNode(column, row.cells[column.key] || {text: ''}));
    tr.addEventListener('click', () => choose(row.id));
    tr.addEventListener('keydown', (event) => {
      if (event.target !== tr) return;
      if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); choose(row.id); }
      const next = {ArrowDown: 'nextElementSibling', ArrowUp: 'previousElementSibling'}[event.key];
      const other = next && tr[next];
      if (other) { event.preventDefault(); other.focus(); }
    });
    return tr;
  };
  const order = (rows) => {
    if (state.sort === null) return rows;
    const key = state.sort, sign = state.falling ? -1 : 1;
    const value = (row) => { const c = row.cells[key] || {}; return c.sort === null || c.sort === undefined ? c.text : c.sort; };
    const missing = (v) => v === '' || v === null || v === undefined || v === -1e300;
    return [...rows].sort((a, b) => {
      const x = value(a), y = value(b);
      if (missing(x) || missing(y)) return missing(x) - missing(y);
      return sign * (typeof x === 'number' && typeof y === 'number' ? x - y : String(x).localeCompare(String(y)));
    });
  };
  const draw = () => {
    const {columns, rows, selected, label} = state.data;
    const head = JSON.stringify([columns, label, state.sort, state.falling]);
    let table = host.querySelector('table');
    if (!table) { table = make('table', 'rp-table rp-rows'); table.append(make('thead'), make('tbody')); host.append(table); }
    const body = table.tBodies[0];
    if (head !== state.head) {
      state.head = head;
      table.setAttribute('aria-label', label);
      const tr = make('tr');
      for (const column of columns) {
        const th = make('th', column.align === 'right' ? 'rp-right' : '');
        const button = make('button', 'rp-sort', column.label + (state.sort === column.key ? (state.falling ? ' ↓' : ' ↑') : ''));
        if (column.help) button.title = column.help;
        th.setAttribute('aria-sort', state.sort !== column.key ? 'none' : state.falling ? 'descending' : 'ascending');
        button.addEventListener('click', () => {
          if (state.sort !== column.key) { state.sort = column.key; state.falling = column.align === 'right'; }
          else if (state.falling === (column.align === 'right')) state.falling = !state.falling;
          else state.sort = null;
          draw();
        });
        th.append(button); tr.append(th);
      }
      table.tHead.replaceChildren(tr);
    }
    const shape = JSON.stringify(columns), seen = new Set();
    let place = body.firstElementChild;
    for (const row of order(rows)) {
      const text = shape + JSON.stringify(row);
      let old = state.drawn.get(row.id);
      if (!old || old.text !== text) {
        const node = rowNode(row, columns), focused = old && document.activeElement === old.node;
        if (old) { if (place === old.node) place = node; old.node.replaceWith(node); }
        old = {node, text};
        state.drawn.set(row.id, old);
        if (focused) node.focus();
      }
      seen.add(row.id);
      if (old.node === place) place = place.nextElementSibling; else body.insertBefore(old.node, place);
      const chosen = row.id === selected ? 'true' : 'false';
      if (old.node.getAttribute('aria-selected') !== chosen) old.node.setAttribute('aria-selected', chosen);
    }
    for (const [id, old] of state.drawn) if (!seen.has(id)) { old.node.remove(); state.drawn.delete(id); }
  };
  draw();
  // Ages grow by themselves; a node is touched only when its words change.
  if (!state.timer) state.timer = setInterval(() => {
    if (!host.isConnected) { clearInterval(state.timer); state.timer = null; return; }
    for (const span of host.querySelectorAll('[data-since]')) {
      const text = age(Number(span.dataset.since));
      if (span.textContent !== text) span.textContent = text;
    }
  }, 5000);
}
"""

STYLE = """
.rp-data { overflow-x: auto; }
.rp-rows th { vertical-align: bottom; line-height: 1.35; }
.rp-rows tbody tr { cursor: pointer; }
.rp-rows tbody tr:hover td { background: color-mix(in srgb, var(--rp-accent) 5%, transparent); }
.rp-rows tbody tr[aria-selected="true"] td { background: color-mix(in srgb, var(--rp-accent) 12%, transparent); }
.rp-rows tbody tr[aria-selected="true"] td:first-child { box-shadow: inset 3px 0 0 var(--rp-accent); }
.rp-rows .rp-sort { all: unset; cursor: pointer; white-space: pre-line; } .rp-rows .rp-sort:hover { color: var(--rp-ink); }
.rp-rows .rp-sort:focus-visible { outline: 2px solid var(--rp-accent); outline-offset: 2px; }
.rp-rows .rp-sub { display: block; font-size: 0.8rem; color: var(--rp-ink-2); white-space: nowrap; }
.rp-rows .rp-chip + .rp-sub { white-space: normal; max-width: 17rem; min-width: 9rem; }
.rp-rows .rp-muted { color: var(--rp-ink-2); }
.rp-rows .rp-track { height: 5px; min-width: 6rem; margin-top: 0.3rem; }
.rp-rows .rp-data-link { color: var(--rp-accent); text-decoration: none; font-weight: 560; display: inline-block;
  white-space: normal; min-width: 7rem; }
.rp-rows .rp-data-link:hover { text-decoration: underline; }
"""

NO_SORT = -1e300


def age_text(seconds: float) -> str:
    """The words that the browser writes for `CellText.since`: 40 -> "under 1 min", 200 -> "3 min"."""
    return "under 1 min" if seconds < 60 else coarse(seconds)


@dataclass(frozen=True)
class Column:
    """One column: the cells' key, its heading, alignment ("left" or "right") and a hint on the heading."""

    key: str
    label: str
    align: Literal["left", "right"] = "left"
    help: str = ""


@dataclass(frozen=True)
class CellText:
    """What stands in one cell.

    Attributes:
        text: the text.
        sub: a second, smaller line.
        sort: what sorting compares; None for the text, `NO_SORT` to stay at the end.
        tone: draws the text as a chip of this tone ("good", "bad", "warn", "live", "muted").
        glyph: sign inside the chip, so that colour is not alone.
        href: draws the text as a link; a plain click asks the page instead (`TableAction.opened`).
        fraction: draws a bar of this length, 0..1, under the text.
        since: Unix seconds; the browser writes the time that has passed since then in place of the text.
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
    """One row: a name that stays the same over refreshes, and its cells by column key."""

    id: str
    cells: dict[str, CellText] = field(default_factory=dict)


@dataclass(frozen=True)
class TableAction:
    """What the reader just did: the id of the row that was clicked, and of the row whose link was. Reported once."""

    clicked: str | None
    opened: str | None


_component = st.components.v2.component("rampart_table", html='<div class="rp-data"></div>', css=STYLE, js=JAVASCRIPT,
                                        isolate_styles=False)


def table(columns: Sequence[Column], rows: Sequence[Row], *, key: str, label: str, selected: str | None) -> TableAction:
    """Draws the table.

    Args:
        columns: from left to right.
        rows: from top to bottom until the reader sorts.
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
    """Only what is set: a table of a thousand runs is sent at each change."""
    return {name: value for name, value in asdict(cell).items()
            if name == "text" or not (value == "" or value is None or value is False)}


def _nothing() -> None:
    """The component reports a value only to callbacks that exist; the page reads the value itself."""
