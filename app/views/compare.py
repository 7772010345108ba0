"""The Compare page. It compares the runs that its address names, for example compare?runs=20261120-0915-arnas-...,2026..."""

from __future__ import annotations

import streamlit as st

from app import address, session
from app.components.compare_cells import cells, genotypes_of, votes
from app.components.compare_charts import coordinates, curves
from app.components.compare_tables import groups, results, settings
from app.components.live import live_panel
from app.components.states import empty_state, heading, page_link, problem
from app.formats import plural
from app.theme import KIND_TITLES
from engine.report.run_comparison import compared_runs, seed_groups

MOST_RUNS = 100


@live_panel("runs", key="compare")
def comparison() -> None:
    """Show the selector of runs, and everything about the comparison of the selected runs."""
    listed = session.run_log().runs()
    names = {str(row.id): f"{row.title} · {KIND_TITLES.get(row.kind, row.kind)} · {row.id}" for row in listed.itertuples()}
    asked = address.several("runs")
    chosen = [run for run in asked if run in names][:MOST_RUNS]
    st.session_state["compare.runs"] = chosen
    st.multiselect("Runs", list(names), format_func=names.__getitem__, key="compare.runs", placeholder="Choose two or more runs",
                   on_change=lambda: address.choose(runs=st.session_state["compare.runs"]), max_selections=MOST_RUNS)
    if unknown := [run for run in asked if run not in names]:
        problem(f"{plural(len(unknown), 'run')} of the address {'is' if len(unknown) == 1 else 'are'} not in this folder: "
                f"{', '.join(unknown)}.", link=None)
    if len(asked) - len(unknown) > MOST_RUNS:
        st.caption(f"The first {MOST_RUNS} of {len(asked):,} runs are compared.")
    if not chosen:
        empty_state("Nothing to compare yet", "Choose runs above, or select several on the Runs or the Pareto page.",
                    "Here you will see their results, the settings in which they differ, their curves in one plot, and their "
                    "cells side by side.")
        return
    runs = compared_runs(session.run_log(), chosen)
    seeds = seed_groups(runs)
    results(runs)
    attacks = [run.id for run in runs if run.kind == "attack"]
    if len(attacks) > 1:
        page_link("views/robustness.py", "Paired tests of the attacked networks, on the Robustness page",
                  compare=",".join(attacks), run=attacks[0])
    differences = settings(runs)
    curves(runs, seeds)
    coordinates(runs, seeds, differences)
    groups(seeds)
    genotypes = genotypes_of(runs)
    votes(seeds, genotypes)
    cells(runs, genotypes)


heading("Compare", "Results, settings, curves and cells of several runs.")
comparison()
