"""The Run page, which shows one run. The page's address gives the id of the run, for example run?id=20261120-0915-..."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from app import address, session
from app.components.live import live_panel
from app.components.run_alerts import alerts
from app.components.run_alphas import architecture
from app.components.run_candidates import candidates, measured_split
from app.components.run_curves import SPLITS, curves, is_attacked, on_supernet
from app.components.run_figures import figures
from app.components.run_genotype import genotype_player
from app.components.run_header import header
from app.components.run_lineage import lineage
from app.components.run_log import log
from app.components.run_neighbours import neighbour_buttons
from app.components.run_objectives import has_weights, weighting
from app.components.run_outcome import outcome
from app.components.run_samples import samples
from app.components.run_sentence import told
from app.components.run_settings import settings
from app.components.run_system import system
from app.components.run_takeaway import take_away
from app.components.run_trade_off import trade_off_trail
from app.components.states import empty_state, heading, problem, section
from engine.errors import RampartError
from engine.run.folder import RunFolder

LAST = "run.last"  # in the session's state: id of the run that was open last
TITLES = {"overview": "Overview", "alphas": "Alphas", "candidates": "Candidates", "genotype": "Genotype",
          "objectives": "Objectives", "trade-off": "Trade-off", "samples": "Samples", "system": "System", "log": "Log",
          "settings": "Settings", "lineage": "Lineage"}
# The key of a panel, the topic after which it is redrawn ("" for one that never changes), and the function that draws it.
Panel = tuple[str, str, Callable[[str], None]]


def main() -> None:
    """Show the run that the page's address names."""
    run_id = st.query_params.get("id", "")
    if not run_id and st.session_state.get(LAST):
        run_id = st.query_params["id"] = st.session_state[LAST]
    if not run_id:
        heading("Run")
        empty_state("No run selected", "Open one from the list of runs.",
                    link="views/runs.py", link_label="Go to Runs")
        return
    try:
        RunFolder(session.runs_root(), run_id).read_run()
        run = row_of(run_id)
    except RampartError as error:
        heading("This run cannot be shown")
        problem(str(error))
        return
    st.session_state[LAST] = run_id
    st.set_page_config(page_title=f"{run['title']}, {run_id[-4:]} · Rampart")
    neighbour_buttons(run_id)
    live_panel(f"head:{run_id}", key="run_head")(guarded(top))(run_id)
    shown = tabs_of(run)
    tab, place = address.open_tab({name: TITLES[name] for name in shown}, name="tab", key="run.tab")
    with place:
        for key, topic, draw in shown[tab]:
            panel = guarded(draw)
            (live_panel(f"{topic}:{run_id}", key=f"run_{key}")(panel) if topic else panel)(run_id)


def tabs_of(run: dict[str, Any]) -> dict[str, list[Panel]]:
    """Return {name of a tab: its panels} for a run, in the order of the tabs.

    Imported runs have no panels about training or the machine. A search without a supernet stores no images.

    Args:
        run: row of the run, from `RunLog.run`.
    """
    imported, search = bool(run["imported"]), run["kind"] == "search"
    overview: list[Panel] = [("alerts", "alerts", alerts), ("outcome", "head", results)]
    if run["kind"] in SPLITS and not imported:
        overview.append(("curves", "series", curves))
    shown = {"overview": overview}
    if search and not on_supernet(run):
        shown["candidates"] = [("candidates", "epochs", candidates_of)]
    elif search and (not imported or session.run_log().alpha_cells(run["id"])):
        shown["alphas"] = [("architecture", "epochs", evolution)]
    if search and on_supernet(run) and (not imported or len(session.run_log().genotypes(run["id"])) > 1):
        shown["genotype"] = [("genotype", "epochs", genotype_player)]
    if search and not imported and on_supernet(run) and has_weights(run):
        shown["objectives"] = [("weights", "series", weighting)]
    if run["kind"] in SPLITS and not imported and on_supernet(run) and is_attacked(run):
        shown["trade-off"] = [("trade_off", "series", trade_off_trail)]
    if not imported and (not search or on_supernet(run)):
        shown["samples"] = [("samples", "images", samples)]
    if not imported:
        shown["system"] = [("system", "machine", system)]
        shown["log"] = [("log", "log", log)]
    return shown | {"settings": [("settings", "", settings)], "lineage": [("lineage", "runs", lineage)]}


def row_of(run_id: str) -> dict[str, Any]:
    """Return the row of a run whose folder exists, from `RunLog.run`.

    If the run log does not know the run yet, read new runs and events first. Normally a background thread does this, but it may
    be late on a busy machine.

    Raises:
        RampartError: the run log cannot read the run.
    """
    if not session.run_log().family(run_id):
        session.run_log().ingest(run_id)
    return session.run_log().run(run_id)


def guarded(draw: Callable[..., None]) -> Callable[..., None]:
    """Return a function that calls `draw`. If `draw` cannot read its data, the function shows the problem instead."""
    def safely(*args: Any) -> None:
        try:
            draw(*args)
        except RampartError as error:
            problem(str(error), link=None)
    safely.__qualname__ = safely.__name__ = f"run_{draw.__name__}"
    return safely


def chain_of(run_id: str) -> list[dict[str, Any]]:
    """Return the rows of `RunLog.runs` for all runs in the chain of a run, earliest first."""
    run_log = session.run_log()
    family = run_log.family(run_id)
    rows = {row["id"]: row for row in run_log.records(family)}
    return [rows[one] for one in family if one in rows]


def top(run_id: str) -> None:
    """Show the title, buttons, chain and progress of a run."""
    chain = chain_of(run_id)
    header(next(one for one in chain if one["id"] == run_id), chain)


def results(run_id: str) -> None:
    """Show the cells and attack tables of a run's chain as far as they exist, the downloads, and the run's newest numbers."""
    chain = chain_of(run_id)
    run = next(one for one in chain if one["id"] == run_id)
    told(run_id, "overview")
    outcome(run, chain)
    take_away(run, chain)
    figures(run)


def candidates_of(run_id: str) -> None:
    """Draw the measured candidates of a search without a supernet."""
    split = measured_split(session.run_log(), run_id)
    section("Candidates", f"architectures drawn at random, each trained briefly and measured on the {split} split")
    told(run_id, "candidates")
    candidates(run_id)


def evolution(run_id: str) -> None:
    """Draw the evolution of the architecture weights of a search."""
    section("Architecture", "the weight of each operation on each edge, and the cell derived from these weights")
    told(run_id, "alphas")
    architecture(run_id)


main()
