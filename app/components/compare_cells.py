"""The cells of compared runs: two or three genotypes side by side with their differences marked.

For a group of runs that differ only in their seed, the page also shows how often the runs chose each operation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import streamlit as st

from app import address, session, theme
from app.charts.data import votes_frame
from app.charts.study import votes_figure, votes_height
from app.components.live_plot import live_plot
from app.components.states import section
from app.components.study_results import agreement_words
from app.downloads import named
from app.drawing.cell_graph import cells_html, changes_between, drawing, legend, operations_of, widest_of
from app.formats import escape, plural
from engine.architecture.genotype import Genotype
from engine.errors import GenotypeError
from engine.report.run_comparison import ComparedRun, RunGroup
from engine.study.votes import vote_map

MOST_SIDE_BY_SIDE = 3
MOST_GENOTYPES = 60  # genotypes that are read for the votes


def genotypes_of(runs: Sequence[ComparedRun]) -> dict[str, Genotype]:
    """Return {run id: genotype}. Runs without a readable genotype are left out."""
    found = {}
    for run in runs[:MOST_GENOTYPES]:
        content = session.run_log().genotype(run.id)
        try:
            if content is not None:
                found[run.id] = Genotype.from_dict(content)
        except GenotypeError:  # written by another version
            continue
    return found


def cells(runs: Sequence[ComparedRun], genotypes: Mapping[str, Genotype]) -> None:
    """Show the cells of two or three runs side by side, and mark the edges that the first run does not have."""
    section("Cells side by side", "marked ✱: edges that the first run does not have")
    known = {run.id: run.label for run in runs if run.id in genotypes}
    if len(known) < 2:
        st.caption("Needs two runs with a genotype.")
        return
    chosen = address.several("cells", known)[:MOST_SIDE_BY_SIDE] or list(known)[:2]
    st.session_state["compare.cells"] = chosen
    st.multiselect("Runs whose cells are drawn", list(known), format_func=known.__getitem__, key="compare.cells",
                   max_selections=MOST_SIDE_BY_SIDE,
                   on_change=lambda: address.choose(cells=st.session_state["compare.cells"]))
    first = genotypes[chosen[0]]
    widest = widest_of(genotypes[run] for run in chosen)
    for place, (column, run) in enumerate(zip(st.columns(len(chosen), gap="large"), chosen, strict=True)):
        genotype = genotypes[run]
        with column:
            st.html(f'<h3 class="rp-section">{escape(known[run])}</h3>')
            drawing(cells_html(genotype, changes_between(first, genotype), widest=widest), key=f"compare_cells_{place}")
    legend(operations_of(genotypes[run] for run in chosen), key="compare_legend")


def votes(groups: Sequence[RunGroup], genotypes: Mapping[str, Genotype]) -> None:
    """Show how often each operation won on each edge among the runs of the seed group that the reader selects."""
    large = {f"{number}": group for number, group in enumerate(groups)
             if sum(run.id in genotypes for run in group.runs) > 1}
    if not large:
        return
    section("Votes of a seed group", "how often each operation won on each edge; a frame marks the most frequent one")
    left, _ = st.columns([2, 3])
    chosen = large[address.selectbox(left, "Seed group", {number: f"{one.label}, {plural(len(one.runs), 'run')}"
                                                          for number, one in large.items()}, name="group", key="compare.group")]
    found = [genotypes[run.id] for run in chosen.runs if run.id in genotypes]
    try:
        every = vote_map(found)
    except ValueError:  # an older run of the same title had other cell kinds
        st.caption("The runs of this group have cells of different kinds.")
        return
    for column, (kind, cell) in zip(st.columns(len(every)), every.items(), strict=True):
        with column:
            st.html(f'<p class="rp-note"><b>{escape(theme.cell_title(kind))}</b><br>{escape(agreement_words(cell))}</p>')
            live_plot(votes_figure(cell, len(found)), key=f"compare_votes_{kind}", height=votes_height(cell),
                      label=f"Votes on the edges of the {theme.cell_title(kind).lower()}",
                      file=named("votes", chosen.label, kind), data=partial(votes_frame, cell, len(found), kind))
