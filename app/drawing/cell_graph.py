"""Functions that show drawings of cells on a page. A reader can zoom and move every drawing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import streamlit as st

from app import theme
from app.assets import asset
from app.formats import escape, plural
from engine.architecture.genotype import Cell, Genotype
from engine.drawing.cell import SMALLEST, cell_sketch, cell_svg, cell_width, legend_html
from engine.drawing.operations import in_order

_component = st.components.v2.component("rampart_cell_graph", html='<div class="rp-drawing"></div>',
                                        js=asset("cells.js", "drawing.js"), isolate_styles=False)


@dataclass(frozen=True)
class Pick:
    """A click of the reader in a drawing.

    Attributes:
        cell: name of the cell: the argument `pick` of `cell_html`.
        edge: index of the edge, in the order of `Cell.incoming`; None for a click beside the edges.
    """

    cell: str
    edge: int | None


def drawing(html: str, *, key: str) -> Pick | None:
    """Show a picture on the page. Another picture under the same key replaces it in place.

    Args:
        html: picture as HTML. Its texts must be escaped already.
        key: name of the picture, unique on the page.

    Returns:
        The reader's click since the last rerun; None if there was none, or if a click on the picture does nothing.
    """
    picked = _component(data={"html": html}, key=key, on_picked_change=_nothing).get("picked")
    return Pick(str(picked["cell"]), int(picked["edge"]) if picked["edge"] else None) if picked else None


def _nothing() -> None:
    """Do nothing. Streamlit reports a value of a component only if the value has a callback."""


def cell_graph(cell: Cell, *, key: str, title: str, changed: Collection[int] = (), widest: float = 0.0) -> None:
    """Draw one cell of a genotype on the page.

    Args:
        cell: cell to draw.
        key: name of the picture, unique on the page.
        title: title in the caption and for screen readers, for example "Robust cell".
        changed: indices into `cell.edges` of the edges to mark as new, for example from `changed_edges`.
        widest: width of the widest drawing with the same scale, from `widest_of`; 0 if this is the only drawing.
    """
    drawing(cell_html(cell, title, changed, widest=widest), key=key)


def cell_html(cell: Cell, title: str, changed: Collection[int] = (), *, widest: float = 0.0, pick: str = "",
              picked: int | None = None) -> str:
    """Return the picture of a cell as HTML.

    Args:
        cell, title, changed, widest: see `cell_graph`.
        pick: name under which `drawing` reports a click on the cell or one of its edges; "" if clicks do nothing.
        picked: index of the edge that the reader has clicked; None without one.
    """
    note = f" · {plural(len(changed), 'edge')} changed" if changed else ""
    caption = f"<figcaption><b>{escape(title)}</b>{note}</figcaption>"
    named = f'rp-cell rp-pickable" data-cell="{escape(pick)}' if pick else "rp-cell"
    svg = cell_svg(cell, title=title, changed=changed, widest=widest, pickable=bool(pick), picked=picked)
    return f'<figure class="{named}">{caption}{svg}</figure>'


def genotype_graphs(genotype: Genotype, *, key: str) -> None:
    """Draw all cells of a genotype, in the order in which images pass through them, with a legend of the operations."""
    drawing(cells_html(genotype), key=f"{key}_cells")
    legend(operations_of([genotype]), key=f"{key}_legend")


def cells_html(genotype: Genotype, changed: Mapping[str, Collection[int]] = MappingProxyType({}), *, widest: float = 0.0,
               pick: str = "", picked: tuple[str, int] | None = None) -> str:
    """Return the pictures of all cells of a genotype as HTML, at one scale.

    Args:
        genotype: the architecture.
        changed: {cell kind: indices of the edges to mark as new}.
        widest: width of the widest drawing with the same scale, from `widest_of`; 0 if these are the only drawings.
        pick: name of the genotype. A click on one of its cells is reported as "NAME.KIND". "" if clicks do nothing.
        picked: cell kind and index of the edge that the reader has clicked; None without one.
    """
    widest = max(widest, widest_of([genotype]))
    figures = (cell_html(genotype.cell(kind), theme.cell_title(kind), changed.get(kind, ()), widest=widest,
                         pick=f"{pick}.{kind}" if pick else "",
                         picked=picked[1] if picked and picked[0] == kind else None) for kind in in_order(genotype.kinds))
    return f'<div class="rp-cells" style="--narrowest:{SMALLEST * widest:.0f}px">{"".join(figures)}</div>'


def sketches_html(genotype: Genotype) -> str:
    """Return small pictures of all cells of a genotype without labels, as HTML. The scale is the same for all genotypes."""
    rows = (f"<span>{escape(theme.cell_title(kind).removesuffix(' cell'))}</span>"
            f"{cell_sketch(genotype.cell(kind), title=theme.cell_title(kind))}" for kind in in_order(genotype.kinds))
    return f'<div class="rp-cell rp-sketches">{"".join(rows)}</div>'


def widest_of(genotypes: Iterable[Genotype]) -> float:
    """Return the width of the widest drawing of a cell of these genotypes, for the argument `widest` of `cell_html`."""
    return max(cell_width(cell) for genotype in genotypes for _, cell in genotype.cells)


def operations_of(genotypes: Iterable[Genotype]) -> list[str]:
    """Return the operations on the edges of these genotypes, for a legend."""
    return [operation for genotype in genotypes for _, cell in genotype.cells for operation, _ in cell.edges]


def changes_between(before: Genotype, after: Genotype) -> dict[str, list[int]]:
    """Return {cell kind: indices of the new edges of `after`} for the cell kinds that both genotypes have."""
    return {kind: changed_edges(before.cell(kind), cell) for kind, cell in after.cells if kind in before.kinds}


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
