"""The genotypes of a search over its epochs: all its cells at an epoch, with the edges that changed marked."""

from __future__ import annotations

from itertools import pairwise

from app import session, theme
from app.components.run_epoch import EPOCH
from app.components.states import empty_state, section
from app.components.time_machine import Frame, time_machine
from app.drawing.cell_graph import cell_html, changed_edges, legend
from app.formats import plural
from engine.architecture.genotype import Genotype


def genotype_player(run_id: str) -> None:
    """Show the genotypes of a search or an imported log, epoch by epoch."""
    rows = session.run_log().genotypes(run_id)
    section("Genotype", "the cells at the end of each epoch; edges that changed are marked ✱")
    if rows.empty:
        empty_state("No genotype yet", "The first one is derived at the end of the first epoch.")
        return
    genotypes = [Genotype.from_json(text) for text in rows["genotype"]]
    epochs = [int(epoch) for epoch in rows["epoch"]]
    stable = [int(count) for count in rows["unchanged_epochs"]]
    frames = [Frame(epochs[0], pictures(None, genotypes[0]), f"Epoch {epochs[0]} of {epochs[-1]}: the first genotype.")]
    for (before, after), epoch, unchanged in zip(pairwise(genotypes), epochs[1:], stable[1:], strict=True):
        frames.append(Frame(epoch, pictures(before, after), words(before, after, epoch, epochs[-1], unchanged)))
    time_machine(frames, run_id, name=EPOCH, key="run_genotype")
    last = genotypes[-1]
    legend([name for one in genotypes for kind in last.kinds if kind in one.kinds for name, _ in one.cell(kind).edges],
           key="run_genotype_legend")


def pictures(before: Genotype | None, after: Genotype) -> str:
    """Return the drawings of all cells of a genotype as HTML. Edges that the genotype before did not have are marked."""
    kinds = [kind for kind in theme.CELL_TITLES if kind in after.kinds]
    figures = "".join(cell_html(after.cell(kind), theme.cell_title(kind), changed(before, after, kind)) for kind in kinds)
    return f'<div class="rp-cells">{figures}</div>'


def changed(before: Genotype | None, after: Genotype, kind: str) -> list[int]:
    """Return the edges of a cell that the genotype before did not have; none if there is no genotype before."""
    return changed_edges(before.cell(kind), after.cell(kind)) if before and kind in before.kinds else []


def words(before: Genotype, after: Genotype, epoch: int, last: int, unchanged: int) -> str:
    """Return a sentence about the change from one genotype to the next.

    Args:
        before, after: the genotypes.
        epoch, last: epoch of the later genotype, and the newest epoch.
        unchanged: number of epochs since the genotype last changed.
    """
    if unchanged:
        return f"Epoch {epoch} of {last}: unchanged for {plural(unchanged, 'epoch')}."
    edges = {kind: len(changed(before, after, kind)) for kind in theme.CELL_TITLES if kind in after.kinds}
    cells = ", ".join(f"{theme.cell_title(kind).lower()} {number}" for kind, number in edges.items() if number)
    return f"Epoch {epoch} of {last}: {plural(sum(edges.values()), 'edge')} changed: {cells}."
