"""Changes to an architecture: swapped operations, cells taken from other architectures, and the effect on size and accuracy.

A click on an edge or a cell of the drawings does the same as the controls here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import streamlit as st

from app import address, theme
from app.architectures import Numbers, Size, numbers
from app.components.architecture_inherited import expect_question, inherited
from app.components.architecture_size import with_change
from app.components.downloads import download_buttons
from app.components.html_table import StaticColumn, html_table
from app.components.states import LAUNCH_PAGE, problem, section, small_heading
from app.downloads import File, named
from app.drafts import Draft, draft_of, edge_of
from app.drawing.cell_graph import Pick, cell_html, changes_between, drawing, legend, widest_of
from app.formats import capitalised, count, escape
from engine.architecture.canonical import canonical
from engine.architecture.genotype import PRIMITIVES, Cell, state_name
from engine.architecture.placement import REDUCE
from engine.drawing.operations import in_order
from engine.report.architectures import Architecture

OWN = "draft"  # name of the draft's own drawing in a `Pick`
NOTHING = ""


def change(shown: Sequence[Architecture], known: Mapping[str, Architecture], size: Size, picked: Pick | None) -> None:
    """Show the controls that change the first of the shown architectures, and the architecture that results.

    Args:
        shown: the architectures on the page. Cells can be taken from each of them.
        known: {hash: architecture} of all architectures.
        size: width, depth and dataset at which sizes are given.
        picked: what the reader has clicked in the drawings of the architectures.
    """
    base = shown[0]
    section(f"Change {base.title}", "click an edge above, or choose it here; nothing is trained")
    draft = draft_of(base, known, address.several("part"), address.several("swap"))
    if draft.problems:
        problem(" ".join(draft.problems), link=None)
    if picked is not None:
        _take(draft, picked)
    left, right = st.columns([4, 8], gap="large")
    with left:
        _swap(draft)
        _parts(draft, shown)
        _undo(draft)
    with right:
        _result(draft, known, size)


def _take(draft: Draft, picked: Pick) -> None:
    """Act on a click in a drawing. If the click has an effect, rerun the fragment.

    A click on an edge of the unchanged or the changed architecture selects the edge. A click anywhere on a cell of another
    architecture, or beside the edges of a cell of the unchanged architecture, takes this cell: it replaces the cell whose kind is
    `target` in the page's address. Without `target`, and beside the edges of the changed architecture, a click has no effect.
    """
    owner, _, kind = picked.cell.rpartition(".")
    target = address.chosen("target", draft.base.genotype.kinds)
    if owner in (OWN, draft.base.hash) and picked.edge is not None:
        address.choose(edge=f"{kind}.{picked.edge}")
    elif owner != OWN and target:
        address.choose(part=draft.with_part(target, picked.cell), swap=draft.swaps_outside(target))
    else:
        return
    st.rerun(scope="fragment")


def _swap(draft: Draft) -> None:
    """Show three selectors: a cell, one of its edges, and the operation on this edge."""
    small_heading("Swap an operation", 3)
    genotype = draft.genotype
    kinds = in_order(genotype.kinds)
    kind, edge = edge_of(st.query_params.get("edge", ""), genotype) or (kinds[0], 0)
    cell = genotype.cell(kind)
    state = st.session_state
    state["architectures.kind"], state["architectures.edge"] = kind, edge
    state["architectures.operation"] = cell.edges[edge][0]
    st.selectbox("Cell", kinds, format_func=theme.cell_title, key="architectures.kind",
                 on_change=lambda: address.choose(edge=f"{state['architectures.kind']}.0"))
    st.selectbox("Edge", range(len(cell.edges)), format_func=lambda one: edge_text(cell, one), key="architectures.edge",
                 on_change=lambda: address.choose(edge=f"{kind}.{state['architectures.edge']}"))
    names = list(dict.fromkeys([*PRIMITIVES, cell.edges[edge][0]]))
    st.selectbox("Operation", names, format_func=lambda name: capitalised(theme.operation(name).title),
                 key="architectures.operation", on_change=lambda: address.choose(
                     edge=f"{kind}.{edge}", swap=draft.with_swap(kind, edge, state["architectures.operation"])))


def edge_text(cell: Cell, edge: int) -> str:
    """Return an edge in words: the states where it starts and ends, and its operation."""
    operation, source, target = cell.incoming()[edge]
    start = state_name(source).replace("_{k-", "(k−").replace("}", ")") if source < 2 else f"node {state_name(source)}"
    return f"{start} → node {state_name(target)}: {theme.operation(operation).short}"


def _parts(draft: Draft, shown: Sequence[Architecture]) -> None:
    """Show the controls that replace cells: selectors, the place for a clicked cell, and buttons that use one cell everywhere."""
    small_heading("Take cells", 3)
    kinds = in_order(draft.base.genotype.kinds)
    cells = {f"{one.hash}.{kind}": f"{theme.cell_title(kind)} of {one.title}" for one in shown
             for kind in in_order(one.genotype.kinds)}
    for kind in kinds:
        _part(draft, kind, cells)
    address.segmented("A click on a cell above puts it in the place of cell", {
        NOTHING: "none", **{kind: theme.cell_title(kind).removesuffix(" cell") for kind in kinds}}, name="target",
        key="architectures.target", help="Shown side by side, cells of other architectures can be taken as well.")
    ordinary = [kind for kind in kinds if kind != REDUCE]
    if len(ordinary) > 1:
        with st.container(horizontal=True):
            for kind in ordinary:
                copies = [f"{draft.base.hash}.{kind}:{other}" for other in ordinary if other != kind]
                st.button(f"{theme.cell_title(kind)} everywhere", key=f"architectures.everywhere.{kind}",
                          help="At all positions except the reductions.", on_click=address.choose,
                          kwargs={"part": copies, "swap": ""})


def _part(draft: Draft, kind: str, cells: Mapping[str, str]) -> None:
    """Show the selector of the cell that takes the place of a cell of the unchanged architecture.

    Args:
        draft: the unchanged architecture with the reader's changes.
        kind: kind of the cell that is replaced.
        cells: {"HASH.KIND": title} of all cells of the shown architectures.
    """
    own, key = f"{draft.base.hash}.{kind}", f"architectures.part.{kind}"
    taken = draft.parts.get(kind, own)
    options = {own: "its own", **{cell: title for cell, title in cells.items() if cell != own}}
    options.setdefault(taken, taken)  # from an architecture that is not shown
    st.session_state[key] = taken
    st.selectbox(theme.cell_title(kind), list(options), format_func=options.__getitem__, key=key,
                 on_change=lambda: address.choose(part=draft.with_part(kind, st.session_state[key]),
                                                  swap=draft.swaps_outside(kind)))


def _undo(draft: Draft) -> None:
    if not draft.is_changed:
        return
    swaps = "".join(f"<li>{escape(_swap_words(draft, place))}</li>" for place in range(len(draft.swaps)))
    if swaps:
        st.html(f'<ul class="rp-sentences">{swaps}</ul>')
    with st.container(horizontal=True):
        if draft.swaps:
            st.button("Undo the last swap", key="architectures.undo", icon=":material/undo:", on_click=address.choose,
                      kwargs={"swap": [str(one) for one in draft.swaps[:-1]]})
        st.button("Undo all changes", key="architectures.reset", on_click=address.choose, kwargs={"swap": "", "part": ""})


def _swap_words(draft: Draft, place: int) -> str:
    swap = draft.swaps[place]
    before = edge_text(draft.grafted.cell(swap.kind), swap.edge)
    return f"{theme.cell_title(swap.kind)}, {before} is now {theme.operation(swap.operation).short}"


def _result(draft: Draft, known: Mapping[str, Architecture], size: Size) -> None:
    """Show the changed cells, the sizes before and after, the accuracy with inherited weights, and what can be done next."""
    if not draft.is_changed:
        if "edge" in st.query_params:
            expect_question(draft)
        st.caption("Nothing is changed yet. The changed cells, sizes and accuracy with inherited weights appear here.")
        return
    _pictures(draft)
    if (same := known.get(canonical(draft.genotype).hash)) is not None:
        st.caption(f"This is {same.title}" + (", with its edges or nodes in another order." if same.hash == draft.base.hash else
                                              f", which this page lists as {same.hash}."))
    _sizes(numbers(draft.base.genotype, size), numbers(draft.genotype, size), size)
    inherited(draft)
    _next(draft, size)


def _pictures(draft: Draft) -> None:
    """Draw the cells that the change affects, and handle clicks on their edges."""
    base, genotype = draft.base.genotype, draft.genotype
    changes, widest = changes_between(base, genotype), widest_of([genotype])
    changed = [kind for kind in in_order(genotype.kinds) if genotype.cell(kind) != base.cell(kind)]
    edge = edge_of(st.query_params.get("edge", ""), genotype) or ("", 0)
    html = "".join(cell_html(genotype.cell(kind), theme.cell_title(kind), changes[kind], widest=widest, pick=f"{OWN}.{kind}",
                             picked=edge[1] if edge[0] == kind and edge[1] not in changes[kind] else None) for kind in changed)
    if picked := drawing(f'<div class="rp-stack">{html}</div>', key="architecture_draft"):
        _take(draft, picked)
    legend([name for kind in changed for name, _ in genotype.cell(kind).edges], key="architecture_draft_legend")


def _next(draft: Draft, size: Size) -> None:
    """Show the button that retrains the changed architecture, and its genotype for download."""
    if st.button("Send to retrain", key="architectures.retrain", type="primary", icon=":material/rocket_launch:",
                 help="Opens the Launch page with this genotype filled in."):
        st.switch_page(LAUNCH_PAGE, query_params={"kind": "retrain", "then": "attack", "dataset": launch_dataset(draft, size),
                                                  "genotype": draft.genotype.to_json()})
    content = json.dumps(draft.genotype.to_dict(), indent=1).encode()
    download_buttons([File("Genotype (JSON)", f"{named(draft.base.title, 'changed')}.json", "application/json", lambda: content)],
                     key="architecture.draft")


def launch_dataset(draft: Draft, size: Size) -> str:
    """Return the dataset on which to retrain the changed architecture.

    This is the dataset in the page's address or, if the address names none, the dataset of the search that found the unchanged
    architecture. If no search found it, return the dataset of `size`.
    """
    return size.dataset if "dataset" in st.query_params or not draft.base.searches else draft.base.searches[0].dataset


def _sizes(before: Numbers, after: Numbers, size: Size) -> None:
    rows = [("Parameters", before.parameters, after.parameters), ("MACs per image", before.macs, after.macs)]
    columns: tuple[StaticColumn[tuple[str, int, int]], ...] = (
        StaticColumn(size.words, lambda row: row[0], names_row=True),
        StaticColumn("Before", lambda row: count(row[1]), right=True, data=lambda row: {"before": row[1]}),
        StaticColumn("Changed", lambda row: with_change(row[1], row[2]), right=True, data=lambda row: {"changed": row[2]}))
    st.html(html_table(columns, rows, label="Size before and after the change"))
