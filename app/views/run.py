"""The Run page, which shows one run. The page's address gives the id of the run, for example run?id=20261120-0915-..."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from app import session
from app.components.live import live_panel
from app.components.log_tail import log_tail, matching, read_tail
from app.components.run_architecture import architecture, genotypes_by_epoch
from app.components.run_candidates import candidates, measured_split
from app.components.run_curves import SPLITS, curves, on_supernet
from app.components.run_header import figures, header
from app.components.run_neighbours import neighbour_buttons
from app.components.run_outcome import outcome
from app.components.run_takeaway import take_away
from app.components.settings import all_settings_html, differences_html, differences_words
from app.components.states import empty_state, heading, problem, section
from app.formats import escape
from engine.errors import RampartError
from engine.run.folder import RunFolder

MOST_NOTES = 4


def main() -> None:
    """Show the page of the run named in the address."""
    run_id = st.query_params.get("id", "")
    if not run_id:
        heading("Run")
        empty_state("No run selected", "Open one from the list of runs.",
                    link="views/runs.py", link_label="Go to Runs")
        return
    try:
        RunFolder(session.runs_root(), run_id).read_run()
        kind = kind_of(run_id)
    except RampartError as error:
        heading("This run cannot be shown")
        problem(str(error))
        return
    neighbour_buttons(run_id)
    live_panel(f"head:{run_id}", key="run_head")(guarded(top))(run_id)
    live_panel(f"log:{run_id}", key="run_notes")(guarded(notes))(run_id)
    imported = bool(session.run_log().run(run_id)["imported"])
    if kind in SPLITS and not imported:  # imported runs have no losses
        live_panel(f"series:{run_id}", key="run_curves")(guarded(curves))(run_id)
    if kind == "search":
        panel = guarded(imported_evolution) if imported else guarded(evolution)
        live_panel(f"epochs:{run_id}", key="run_architecture")(panel)(run_id)
    left, right = st.columns([6, 6], gap="large")
    with left:
        live_panel(f"log:{run_id}", key="run_log")(guarded(log))(run_id)
    with right:
        guarded(configuration)(run_id)


def kind_of(run_id: str) -> str:
    """Return the kind of a run whose folder exists.

    If the run log does not know the run yet, read new runs and events first. Normally a background thread does this, but it may
    be late on a busy machine.

    Raises:
        RampartError: the run log cannot read the run.
    """
    if not session.run_log().family(run_id):
        session.run_log().ingest(run_id)
    return str(session.run_log().run(run_id)["kind"])


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
    """Return the rows of all runs in the chain of a run, earliest first. The rows are those of `RunLog.runs`."""
    run_log = session.run_log()
    family = run_log.family(run_id)
    rows = {row["id"]: row for row in run_log.runs(family).to_dict("records")}
    return [rows[one] for one in family if one in rows]


def top(run_id: str) -> None:
    """Show the title, buttons, chain, progress and newest numbers of a run, and the outcome of the chain once there is one."""
    chain = chain_of(run_id)
    run = next(one for one in chain if one["id"] == run_id)
    header(run, chain)
    outcome(run, chain)
    take_away(run, chain)
    figures(run)


def notes(run_id: str) -> None:
    """Show the newest warnings of a run. Errors are shown in the log panel instead."""
    alerts = session.run_log().alerts(run_id)
    # A resumed run repeats some warnings, so each text is shown once.
    told = list(dict.fromkeys(str(text) for text in alerts[alerts["level"] == "warning"]["text"]))
    if not told:
        return
    older = len(told) - MOST_NOTES
    lines = told[-MOST_NOTES:] + [f"{older} earlier notes are in events.jsonl."] * (older > 0)
    st.html("".join(f'<p class="rp-note" role="note"><b>Note</b> {escape(line)}</p>' for line in lines))


def evolution(run_id: str) -> None:
    """Draw the evolution of a search: the architecture weights or, for a method without a supernet, the measured candidates."""
    if not on_supernet(session.run_log().run(run_id)):
        section("Candidates",
                f"architectures drawn at random, each trained briefly and measured on the {measured_split(run_id)} split")
        candidates(run_id)
        return
    section("Architecture", "the weight of each operation on each edge, and the cell derived from these weights")
    architecture(run_id)


def imported_evolution(run_id: str) -> None:
    """Draw the architecture weights of an imported search. If there are none, draw the genotype of each epoch, if known."""
    run_log = session.run_log()
    if run_log.alpha_cells(run_id):
        evolution(run_id)
    elif len(run_log.genotypes(run_id)) > 1:
        section("Genotype", "at each epoch in the file, which holds no architecture weights")
        genotypes_by_epoch(run_id)


def log(run_id: str) -> None:
    """Show the last lines of a run's log.txt, with the last error above them."""
    section("Log", "the newest lines of log.txt")
    tail = read_tail(session.runs_root() / run_id / "log.txt")
    alerts = session.run_log().alerts(run_id)
    errors = [str(text) for text in alerts[alerts["level"] == "error"]["text"]]
    # An error that the run has reported is clearer than an exception in log.txt, so it is preferred.
    for pinned in errors[-1:] or [tail.error] * bool(tail.error):
        st.html(f'<div class="rp-problem" role="alert"><b>Last error</b> {escape(pinned)}</div>')
    wanted = st.text_input("Filter lines", key="run_log_filter", placeholder="Only lines that contain …",
                           label_visibility="collapsed")
    if tail.text:
        log_tail(matching(tail.text, wanted) or "No line contains this text.", key="run_log_lines")
    else:
        empty_state("The log is empty", "The run writes here as soon as it starts.")


def configuration(run_id: str) -> None:
    """Show the configuration of a run.

    It consists of the settings that differ from the published ones, a table of all settings, and the command that repeats the
    run.
    """
    run = session.run_log().run(run_id)
    listed = run["differences"]
    if run["imported"]:
        section("Settings", f"imported from {run['imported'].get('file', 'a file')}, which holds no other settings")
    else:
        section("Settings", differences_words(run["kind"], run["method"], run["dataset"], len(listed)))
    if listed and not run["imported"]:
        st.html(differences_html(run["kind"], run["method"], listed))
    with st.expander("All settings"):
        st.html(all_settings_html(run["kind"], run["method"], run["config"], listed))
    verb = "repeats this import" if run["imported"] else "starts the same run"
    section("Command", f"{verb} from a terminal in Rampart's folder")
    st.code(run["command"], language="bash", wrap_lines=True)


main()
