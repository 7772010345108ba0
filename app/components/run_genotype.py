"""The player of a search's genotypes. It shows all cells at one epoch, and marks the edges that changed at this epoch."""

from __future__ import annotations

from app import session, theme
from app.components.run_collapse import collapse_radar
from app.components.run_epoch import EPOCH
from app.components.run_sentence import told
from app.components.states import empty_state, section
from app.components.time_machine import Frame, time_machine
from app.drawing.cell_graph import cells_html, legend, operations_of, widest_of
from app.formats import plural
from engine.drawing.operations import in_order
from engine.insight.genotype import Moment, moments


def genotype_player(run_id: str) -> None:
    """Show the genotypes of a search or an imported log, epoch by epoch, and below them the signs of a collapse."""
    found = moments(session.run_log(), run_id)
    section("Genotype", "the cells at the end of each epoch; edges that changed are marked ✱")
    told(run_id, "genotype")
    if not found:
        empty_state("No genotype yet", "The first one is derived at the end of the first epoch.")
        return
    genotypes = [moment.genotype for moment in found]
    widest, last = widest_of(genotypes), found[-1].epoch
    time_machine([Frame(moment.epoch, pictures(moment, widest), words(moment, last)) for moment in found], run_id, name=EPOCH,
                 key="run_genotype")
    legend(operations_of(genotypes), key="run_genotype_legend")
    collapse_radar(run_id)


def pictures(moment: Moment, widest: float) -> str:
    """Return the drawings of all cells at one epoch as HTML. Edges that changed at this epoch are marked.

    Args:
        moment: the genotype of the epoch, and what has changed.
        widest: width of the widest drawing of all epochs, so that all have the same scale.
    """
    changed = {kind: moment.changed_edges(kind) for kind in moment.genotype.kinds}
    return cells_html(moment.genotype, changed, widest=widest)


def words(moment: Moment, last: int) -> str:
    """Return a sentence that says what changed in the genotype, and which cells are stable. `last` is the newest epoch."""
    begin = f"Epoch {moment.epoch} of {last}"
    kinds = in_order(moment.genotype.kinds)
    if moment.all_stable_for:
        return f"{begin}: unchanged for {plural(moment.all_stable_for, 'epoch')}."
    edges = {kind: len(moment.changed_edges(kind)) for kind in kinds}
    if not moment.changes:
        return f"{begin}: the first genotype."
    cells = ", ".join(f"{theme.cell_title(kind).lower()} {number}" for kind, number in edges.items() if number)
    still = [f"{theme.cell_title(kind).lower()} unchanged for {plural(moment.stable_for[kind], 'epoch')}" for kind in kinds
             if moment.stable_for[kind]]
    return "; ".join([f"{begin}: {plural(sum(edges.values()), 'edge')} changed: {cells}", *still]) + "."
