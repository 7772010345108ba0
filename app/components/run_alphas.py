"""The panel that shows how the architecture of a search evolves.

The reader selects a cell kind and an epoch. Charts below show the weights over all steps: small charts of all edges of the cell,
then one edge at full size and, if the method has them, the edge weights.
"""

from __future__ import annotations

from functools import partial

import pandas as pd
import streamlit as st

from app import address, session, theme
from app.charts import alphas, river
from app.charts.frame import PlainFigure
from app.components.live import feed_of
from app.components.live_html import live_html
from app.components.live_plot import live_plot
from app.components.plot_picks import picked
from app.components.run_epoch import choose_cell, choose_epoch
from app.components.states import empty_state, section
from app.drawing.cell_graph import cell_graph, cell_html, changed_edges, legend, legend_of
from app.formats import escape, plural
from engine.architecture.genotype import EDGES, Cell, Genotype, derive, state_name
from engine.insight import alphas as insight
from engine.log import RunLog

RIVER = ("Each small chart is an edge: its row is the node it ends in, its column the state it comes from. The operation that is "
         "strongest now is coloured; ticks mark the steps at which another one took over. H is the entropy as a share "
         "of its largest value, m the margin between the two strongest operations. Edges of the derived cell are bold.")
PLAIN = str.maketrans("", "", "_{}")  # removes the markup of the names of states: "c_{k-2}" becomes "ck-2"
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
        cell = choose_cell(cells)
    with right:
        epoch = choose_epoch(epochs)
    changing = not log.state(run_id).is_over
    _at_epoch(run_id, cell, epoch, changing and epoch == epochs[-1])
    _over_steps(run_id, cell, changing)


def _at_epoch(run_id: str, cell: str, epoch: int, changing: bool) -> None:
    """Draw the weights of a cell at one epoch on the left, and the cell derived from them on the right.

    Args:
        run_id: id of the run.
        cell: kind of the cell.
        epoch: the epoch.
        changing: True if the search is still in this epoch.
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


def _heat_map(log: RunLog, run_id: str, cell: str, epoch: int) -> PlainFigure:
    return alphas.heat_map(log.alpha_matrix(run_id, cell, epoch))


def _graph_html(log: RunLog, run_id: str, kind: str, epoch: int) -> str:
    """Return a drawing of a cell with a note and a legend as HTML, for the epoch that the search is in now.

    It looks like the drawing of `_graph`. The cell is derived from the newest weights in the run log.
    """
    cell = derived_cell(log.alpha_matrix(run_id, kind, epoch))
    changed, words = _since_before(cell, log.genotypes(run_id), kind, epoch)
    return (f'<div class="rp-stack">{cell_html(cell, theme.cell_title(kind), changed)}<p class="rp-note">{escape(words)}</p>'
            f"{legend_of(name for name, _ in cell.edges)}</div>")


def _river(log: RunLog, run_id: str, cell: str) -> PlainFigure:
    growing = not log.state(run_id).is_over
    return river.river(log.alpha_courses(run_id, cell), insight.river(log, run_id, cell), growing=growing)


def _edge_river(log: RunLog, run_id: str, cell: str, edge: int) -> PlainFigure:
    return river.edge_river(insight.river(log, run_id, cell, by_epoch=False), edge)


def _edge_weights(log: RunLog, run_id: str, cell: str) -> PlainFigure:
    return alphas.edge_weights(log.edge_courses(run_id, cell))


def _over_steps(run_id: str, cell: str, changing: bool) -> None:
    """Draw the operation weights of a cell over the steps: small charts of all edges, then one edge at full size.

    If the method has edge weights, also draw these over the steps.

    Args:
        run_id: id of the run.
        cell: kind of the cell.
        changing: True unless the search is over.
    """
    log, title, topic = session.run_log(), theme.cell_title(cell), f"architecture:{run_id}"
    section("River", "the weights of every edge over the steps, in small charts that share their axes")
    st.html(f'<p class="rp-note">{RIVER}</p>')
    key = f"run_river_{cell}"
    live_plot(_river(log, run_id, cell), key=key, height=640, label=f"{title}: weights of every edge over the steps",
              data=partial(log.alpha_lines, run_id, cell), feed=feed_of(topic, _river, run_id, cell) if changing else None)
    _one_edge(run_id, cell, picked(key), changing)
    figure = _edge_weights(log, run_id, cell)
    if figure["data"]:
        section("Edge weights", "the weights of the edges into each node over the steps, softmax(β)")
        live_plot(figure, key=f"run_edges_{cell}", height=240, data=partial(log.edge_lines, run_id, cell),
                  label=f"{title}: share of every edge into each node over the steps",
                  feed=feed_of(topic, _edge_weights, run_id, cell) if changing else None)


def _one_edge(run_id: str, cell: str, clicked: str | None, changing: bool) -> None:
    """Draw one edge at full size: the edge that the reader has chosen or clicked.

    Args:
        run_id, cell, changing: as for `_over_steps`.
        clicked: index (0..13) of the edge that the reader has just clicked in the charts of all edges, as text; None without a
            click.
    """
    log, topic = session.run_log(), f"architecture:{run_id}"
    if clicked is not None:
        address.choose(edge=clicked)
    names = {str(edge): f"{state_name(source)} → {state_name(target)}".translate(PLAIN)
             for edge, (source, target) in enumerate(EDGES)}
    section("One edge", "the shares of its operations; entropy as a share of its largest value, and margin")
    left, _ = st.columns([1, 3])
    edge = int(address.selectbox(left, "Edge", names, name="edge", key="run_edge", help="A click on a line of the river chooses "
                                 "its edge."))
    live_plot(_edge_river(log, run_id, cell, edge), key=f"run_edge_{cell}_{edge}", height=380,
              label=f"{theme.cell_title(cell)}: weights, entropy and margin of the edge {names[str(edge)]}",
              data=lambda: (lines := log.alpha_lines(run_id, cell))[lines["edge"] == edge],
              feed=feed_of(topic, _edge_river, run_id, cell, edge) if changing else None)


def _graph(cell: Cell, genotypes: pd.DataFrame, kind: str, epoch: int) -> None:
    """Draw a cell at one epoch with a note and a legend. Edges that the cell did not have at the previous epoch are marked.

    Args:
        cell: cell to draw.
        genotypes: genotypes of all epochs, from `RunLog.genotypes`.
        kind: kind of the cell.
        epoch: epoch of the cell.
    """
    changed, said = _since_before(cell, genotypes, kind, epoch)
    cell_graph(cell, key="run_cell_graph", title=theme.cell_title(kind), changed=changed)
    st.html(f'<p class="rp-note">{escape(said)}</p>')
    legend([name for name, _ in cell.edges], key="run_cell_legend")


def _since_before(cell: Cell, genotypes: pd.DataFrame, kind: str, epoch: int) -> tuple[list[int], str]:
    """Compare a cell with the cell of the same kind at the previous epoch. The arguments are those of `_graph`.

    Returns:
        Indices of the edges that the earlier cell did not have.
        A sentence about these edges.
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
    primitives, weights = alphas.weights_of(matrix)
    return derive(weights.tolist(), primitives)


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
