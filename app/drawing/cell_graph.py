"""Functions that show drawings of cells on a page."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import streamlit as st

from app import theme
from app.assets import asset
from app.formats import escape, plural
from engine.architecture.genotype import Cell, Genotype
from engine.drawing.cell import cell_svg, legend_html

_component = st.components.v2.component("rampart_cell_graph", html='<div class="rp-drawing"></div>', js=asset("drawing.js"),
                                        isolate_styles=False)


def drawing(html: str, *, key: str) -> None:
    """Show a picture on the page. A redraw under the same key replaces the old picture in place.

    Args:
        html: picture as HTML. Its texts must be escaped already.
        key: name of the picture, unique on the page.
    """
    _component(data={"html": html}, key=key)


def cell_graph(cell: Cell, *, key: str, title: str, changed: Collection[int] = ()) -> None:
    """Draw one cell of a genotype on the page.

    Args:
        cell: cell to draw.
        key: name of the picture, unique on the page.
        title: title in the caption and for screen readers, for example "Robust cell".
        changed: indices into `cell.edges` of the edges to mark as new, for example from `changed_edges`.
    """
    drawing(cell_html(cell, title, changed), key=key)


def cell_html(cell: Cell, title: str, changed: Collection[int] = ()) -> str:
    """Return the picture of a cell as HTML. The arguments are those of `cell_graph`."""
    note = f" · {plural(len(changed), 'edge')} changed" if changed else ""
    caption = f"<figcaption><b>{escape(title)}</b>{note}</figcaption>"
    return f'<figure class="rp-cell">{caption}{cell_svg(cell, title=title, changed=changed)}</figure>'


def genotype_graphs(genotype: Genotype, *, key: str) -> None:
    """Draw all cells of a genotype, in the order in which images pass through them, with a legend of the operations."""
    kinds = [kind for kind in theme.CELL_TITLES if kind in genotype.kinds]
    figures = "".join(cell_html(genotype.cell(kind), theme.cell_title(kind)) for kind in kinds)
    drawing(f'<div class="rp-cells">{figures}</div>', key=f"{key}_cells")
    legend([operation for kind in kinds for operation, _ in genotype.cell(kind).edges], key=f"{key}_legend")


def changed_edges(before: Cell, after: Cell) -> list[int]:
    """Return the indices of the new edges of `after`.

    An edge is new if `before` has no edge with the same operation between the same two states (inputs or nodes).
    """
    old = before.incoming()
    changed = []
    for index, edge in enumerate(after.incoming()):
        if edge in old:
            old.remove(edge)
        else:
            changed.append(index)
    return changed


def legend(operations: Sequence[str], *, key: str) -> None:
    """Draw a legend that shows the line style and the full name of each operation, in the order of `theme.OPERATIONS`."""
    drawing(legend_of(operations), key=key)


def legend_of(operations: Iterable[str]) -> str:
    """Return the legend of operations as HTML."""
    return legend_html(sorted(set(operations), key=_order))


def _order(name: str) -> int:
    names = list(theme.OPERATIONS)
    return names.index(name) if name in names else len(names)
