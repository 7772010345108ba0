"""The panel that shows how the architecture of a search evolves.

The reader selects a cell kind and an epoch. Charts below show the weights of all edges of the cell over all steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from app import session, theme
from app.charts import alphas
from app.components.live import feed_of
from app.components.live_html import live_html
from app.components.live_plot import live_plot
from app.components.states import empty_state
from app.drawing.cell_graph import cell_graph, cell_html, changed_edges, legend, legend_of
from app.formats import escape, markdown, plural
from engine.architecture.genotype import Cell, Genotype, derive
from engine.log import RunLog
from engine.log.training_queries import EVERY

EARLIER_KEY, LATER_KEY = "H", "L"  # keys that select the neighbouring epochs
LINE_BUCKETS = 100  # points per line; few, because about 100 lines share a figure
# Explanation of the heat map for a method without edge weights, and for a method with them.
ROWS = ("Each row is an edge, from → to. The numbers are softmax weights, and each row adds up to 1.",
        "Each row is an edge, from → to, with its own weight, softmax(β). The numbers are softmax weights times the weight of "
        "their edge, and all edges into a node add up to 1.")


def architecture(run_id: str) -> None:
    """Draw the architecture weights of a search at a selected epoch, and the cell that is derived from these weights.

    Charts below show the weights over all steps.
    """
    log = session.run_log()
    logged = log.alpha_cells(run_id)
    cells = [*(name for name in theme.CELL_TITLES if name in logged), *(name for name in logged if name not in theme.CELL_TITLES)]
    if not cells:
        empty_state("No architecture weights yet", "They appear after the first step of the search.")
        return
    epochs = [int(epoch) for epoch in log.alpha_epochs(run_id, cells[0])]
    left, right = st.columns([5, 7], vertical_alignment="bottom", gap="large")
    with left:
        cell = _choose_cell(cells)
    with right:
        epoch = _choose_epoch(run_id, epochs)
    changing = not log.state(run_id).is_over
    _at_epoch(run_id, cell, epoch, changing and epoch == epochs[-1])
    _over_steps(run_id, cell, changing)


def _at_epoch(run_id: str, cell: str, epoch: int, changing: bool) -> None:
    """Draw the weights of a cell at one epoch on the left, and the cell derived from them on the right.

    Args:
        run_id: id of the run.
        cell: kind of the cell.
        epoch: the epoch.
        changing: True if the search is in this epoch.
    """
    log = session.run_log()
    heat, graph = (feed_of(f"architecture:{run_id}", draw, run_id, cell, epoch) for draw in (_heat_map, _graph_html))
    matrix = log.alpha_matrix(run_id, cell, epoch)
    left, right = st.columns([5, 7], gap="large")
    with left:
        live_plot(alphas.heat_map(matrix), key=f"run_heat_{cell}", height=430,
                  label=f"{theme.cell_title(cell)}: weight of every operation on every edge, epoch {epoch}",
                  data=partial(log.alpha_matrix, run_id, cell, epoch), feed=heat if changing else None)
        st.html(f'<p class="rp-note">{ROWS[bool(matrix["edge_weight"].notna().any())]} A frame marks the strongest operation of '
                "an edge; the cell keeps the two strongest edges into each node.</p>")
    with right:
        if changing:
            live_html(graph, key="run_cell_graph_live", live=True)
        else:
            _graph(derived_cell(matrix), log.genotypes(run_id), cell, epoch)


def _heat_map(log: RunLog, run_id: str, cell: str, epoch: int) -> go.Figure:
    return alphas.heat_map(log.alpha_matrix(run_id, cell, epoch))


def _graph_html(log: RunLog, run_id: str, kind: str, epoch: int) -> str:
    """Return what `_graph` shows as HTML, for the epoch that a search is in."""
    cell = derived_cell(log.alpha_matrix(run_id, kind, epoch))
    changed, words = _since_before(cell, log.genotypes(run_id), kind, epoch)
    return (f'<div class="rp-stack">{cell_html(cell, theme.cell_title(kind), changed)}<p class="rp-note">{escape(words)}</p>'
            f"{legend_of(name for name, _ in cell.edges)}</div>")


def _lines(log: RunLog, run_id: str, cell: str) -> go.Figure:
    return alphas.lines(log.alpha_lines(run_id, cell, LINE_BUCKETS))


def _edge_weights(log: RunLog, run_id: str, cell: str) -> go.Figure:
    return alphas.edge_weights(log.edge_lines(run_id, cell, LINE_BUCKETS))


def _over_steps(run_id: str, cell: str, changing: bool) -> None:
    """Draw the weights of a cell's operations over the steps. If the method has edge weights, draw these as well.

    Args:
        run_id: id of the run.
        cell: kind of the cell.
        changing: True unless the search is over.
    """
    log = session.run_log()
    courses, shares = (feed_of(f"architecture:{run_id}", draw, run_id, cell) for draw in (_lines, _edge_weights))
    st.html('<p class="rp-note rp-apart"><b>The same weights over the steps.</b> Each small chart is an edge: its row is the '
            "node it ends in, its column the state it comes from.</p>")
    live_plot(_lines(log, run_id, cell), key=f"run_lines_{cell}", height=520,
              label=f"{theme.cell_title(cell)}: weights of every edge over the steps",
              data=partial(log.alpha_lines, run_id, cell, EVERY), feed=courses if changing else None)
    figure = _edge_weights(log, run_id, cell)
    if figure.data:
        st.html('<p class="rp-note rp-apart"><b>Edge weights over the steps.</b> Each small chart is a node: the weights of '
                "the edges into it, softmax(β).</p>")
        live_plot(figure, key=f"run_edges_{cell}", height=240,
                  label=f"{theme.cell_title(cell)}: share of every edge into each node over the steps",
                  data=partial(log.edge_lines, run_id, cell, EVERY), feed=shares if changing else None)


def _choose_cell(cells: list[str]) -> str:
    """Show the selector of a cell kind and return the selected kind. The first of `cells` is preselected."""
    chosen = st.segmented_control("Cell", cells, default=cells[0], key="run_cell",
                                  format_func=lambda kind: markdown(theme.cell_title(kind)))
    return chosen or cells[0]


def _choose_epoch(run_id: str, epochs: list[int]) -> int:
    """Show the epoch slider and return the selected epoch. If there is only one epoch, show its number instead.

    The slider stays at the newest epoch of a running search unless the reader has moved it away from its right end.
    """
    if len(epochs) < 2:
        st.html(f'<span class="rp-label">Epoch {epochs[0]}. A slider appears after the next one.</span>')
        return epochs[0]
    key = f"run.epoch.{run_id}"
    slider = f"{key}.slider.{epochs[-1]}"
    held = st.session_state.get(key)
    st.session_state[slider] = held if held in epochs else epochs[-1]

    def hold(epoch: int) -> None:
        st.session_state[key] = None if epoch == epochs[-1] else epoch

    place = epochs.index(st.session_state[slider])
    with st.container(horizontal=True, vertical_alignment="bottom", key="rp-epoch"):
        _step_button("Earlier", EARLIER_KEY, epochs[place - 1] if place else None, hold)
        chosen = st.select_slider("Epoch", epochs, key=slider, on_change=lambda: hold(st.session_state[slider]),
                                  help="Architecture weights and cell at the end of an epoch. At its right end, it follows the "
                                       "search.")
        _step_button("Later", LATER_KEY, epochs[place + 1] if place + 1 < len(epochs) else None, hold)
    return int(chosen)


def _step_button(label: str, shortcut: str, epoch: int | None, hold: Callable[[int], None]) -> None:
    """Show the button, with its key, that selects a neighbouring epoch. It is disabled if `epoch` is None."""
    st.button(label, key=f"run_epoch_{label.lower()}", shortcut=shortcut, type="tertiary", disabled=epoch is None, on_click=hold,
              args=(epoch,))


def genotypes_by_epoch(run_id: str) -> None:
    """Draw a cell at a selected epoch.

    This is for runs with genotypes but without architecture weights, such as imported logs.
    """
    genotypes = session.run_log().genotypes(run_id)
    known = {int(row.epoch): Genotype.from_json(row.genotype) for row in genotypes.itertuples()}
    last = known[max(known)]
    kinds = [name for name in theme.CELL_TITLES if name in last.kinds]
    left, right = st.columns([5, 7], vertical_alignment="bottom", gap="large")
    with left:
        kind = _choose_cell(kinds)
    with right:
        epoch = _choose_epoch(run_id, list(known))
    _graph(known[epoch].cell(kind), genotypes, kind, epoch, {min(known): f"Epoch {min(known)}: the first in the file."})


def _graph(cell: Cell, genotypes: pd.DataFrame, kind: str, epoch: int, words: Mapping[int, str] = MappingProxyType({})) -> None:
    """Draw a cell at one epoch with a note and a legend. Edges that the cell did not have at the previous epoch are marked.

    Args:
        cell: cell to draw.
        genotypes: genotypes of all epochs, from `RunLog.genotypes`.
        kind: kind of the cell.
        epoch: epoch of the cell.
        words: {epoch: note}. At these epochs, the note replaces the usual one.
    """
    changed, said = _since_before(cell, genotypes, kind, epoch)
    cell_graph(cell, key="run_cell_graph", title=theme.cell_title(kind), changed=changed)
    st.html(f'<p class="rp-note">{escape(words.get(epoch, said))}</p>')
    legend([name for name, _ in cell.edges], key="run_cell_legend")


def _since_before(cell: Cell, genotypes: pd.DataFrame, kind: str, epoch: int) -> tuple[list[int], str]:
    """Return the edges of a cell that it did not have at the previous epoch, and a sentence about them.

    The arguments are those of `_graph`.
    """
    earlier = genotypes[genotypes["epoch"] < epoch]
    before = Genotype.from_json(earlier.iloc[-1]["genotype"]) if len(earlier) else None
    changed = changed_edges(before.cell(kind), cell) if before and kind in before.kinds else []
    at = genotypes[genotypes["epoch"] == epoch]
    unchanged = int(at.iloc[-1]["unchanged_epochs"]) if len(at) else None
    return changed, change_words(epoch, len(changed), unchanged, len(cell.edges))


def derived_cell(matrix: pd.DataFrame) -> Cell:
    """Derive a cell from its architecture weights by the same rule as the search (`engine.architecture.genotype.derive`).

    Args:
        matrix: table from `RunLog.alpha_matrix`.
    """
    primitives = list(dict.fromkeys(matrix["operation"]))
    rows = matrix.pivot(index="edge", columns="operation", values="weight")[primitives].sort_index()
    return derive(rows.to_numpy().tolist(), primitives)


def change_words(epoch: int, changed: int, unchanged_epochs: int | None, edges: int = 8) -> str:
    """Return one sentence describing how the cell has changed since the previous epoch.

    Args:
        epoch: the epoch that is shown.
        changed: number of edges that the cell did not have at the previous epoch.
        unchanged_epochs: number of epochs since any cell of the genotype last changed; 0 if a cell changed in this epoch. None
            while this epoch is running.
        edges: number of edges of the cell.
    """
    if epoch == 0:
        return "Before the first step: the weights are almost equal, so this cell is arbitrary."
    here = f"{changed} of {edges} edges of this cell changed, marked ✱" if changed else "this cell did not change"
    if unchanged_epochs is None:
        return f"Epoch {epoch}, in progress: {here} so far."
    if unchanged_epochs:
        return f"Epoch {epoch}: all cells unchanged for {plural(unchanged_epochs, 'epoch')}."
    return f"Epoch {epoch}: {here}{'' if changed else ', but another did'}."
