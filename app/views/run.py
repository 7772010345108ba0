"""The Run page, which shows one run. The page's address gives the id of the run, for example run?id=20261120-0915-..."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import streamlit as st

from app import session
from app.charts import mgda, objectives
from app.charts.training import NAMES, trade_off
from app.components.live import live_panel
from app.components.live_plot import live_plot
from app.components.log_tail import log_tail, matching, read_tail
from app.components.run_architecture import architecture, genotypes_by_epoch
from app.components.run_candidates import candidates, measured_split
from app.components.run_header import figures, header
from app.components.run_neighbours import neighbour_buttons
from app.components.run_outcome import outcome
from app.components.run_takeaway import take_away
from app.components.settings import all_settings_html, differences_html, differences_words
from app.components.states import empty_state, heading, problem, section
from app.formats import escape
from engine.errors import RampartError
from engine.log.training_queries import EVERY
from engine.run.folder import RunFolder
from engine.search.methods.registry import METHODS
from engine.search.registries import WEIGHTINGS

VERTEX_STEPS = 500
MOST_NOTES = 4
WAITING_HEIGHT = 110  # height of an empty chart in pixels
THIN_LINES = {"search": "Each point is the mean over an epoch; the thin lines are single steps, each on one batch.",
              "retrain": "Each point is the mean over an epoch; the thin line shows single training batches; the last batch of "
                         "an epoch is smaller than the others."}
SPLITS = {"search": ("alphas", "alphas split, batch statistics, not a result"),
          "retrain": ("select", "select split, running statistics, not a result; training loss on the weights and alphas splits")}
CANDIDATE_WORDS = "{} split, running statistics, not a result, one point per candidate; training loss on the weights split"
CANDIDATE_POINTS = ("Each accuracy is the mean over the {} split after a candidate finished training; each training loss is the "
                    "mean of an epoch. The thin line shows single training batches. Each candidate starts from fresh weights.")


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
    live_panel(f"run:{run_id}", key="run_head")(guarded(top))(run_id)
    live_panel(f"log:{run_id}", key="run_notes")(guarded(notes))(run_id)
    imported = bool(session.run_log().run(run_id)["imported"])
    if kind in SPLITS and not imported:  # imported runs have no losses
        live_panel(f"training:{run_id}", key="run_curves")(guarded(curves))(run_id, kind)
    if kind == "search":
        panel = guarded(imported_evolution) if imported else guarded(evolution)
        live_panel(f"architecture:{run_id}", key="run_architecture")(panel)(run_id)
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


def curves(run_id: str, kind: str) -> None:
    """Draw the natural and adversarial loss and accuracy of a run.

    If the run is a search that computes weights for the losses, also draw these weights.
    """
    run_log = session.run_log()
    split, words = SPLITS[kind]
    one_network = kind != "search" or on_supernet(run_id)
    split = split if one_network else measured_split(run_id)
    words = words if one_network else CANDIDATE_WORDS.format(split)
    figure = trade_off(run_log.curves(run_id), run_log.steps_curve(run_id, list(NAMES)), split=split, joined=one_network)
    run = run_log.run(run_id)
    weighs = kind == "search" and (run["method"] not in METHODS or METHODS[run["method"]].config.weighs(run["config"]))
    left, right = st.columns([7, 5], gap="large") if weighs else (st.container(), None)
    robust = kind != "search" or not (lacks(run_id, "attack_steps") and lacks(run_id, "attack_epsilon"))
    with left:
        section("Natural versus adversarial" if robust else "Loss and accuracy", words)
        live_plot(figure, key="run_trade_off", height=400 if figure.data else WAITING_HEIGHT,
                  label=f"{'Natural and adversarial' if robust else 'Natural'} accuracy and loss, {words}",
                  data=partial(run_log.scalars, run_id))
        if figure.data:
            st.html(f'<p class="rp-note">{THIN_LINES[kind] if one_network else CANDIDATE_POINTS.format(split)}</p>')
        if kind == "search":
            further_losses(run_id)
    if right:
        with right:
            weighting(run_id)


def further_losses(run_id: str) -> None:
    """Draw one chart for each loss of a search other than the natural and adversarial losses."""
    run_log = session.run_log()
    frame = run_log.objectives(run_id)
    if names := objectives.further(frame):
        section("Further losses", "alphas split, before coefficients")
        live_plot(objectives.further_losses(frame), key="run_further_losses", height=30 + 160 * objectives.rows_of(names),
                  label=f"Over the steps: {', '.join(map(objectives.title_of, names))}",
                  data=partial(run_log.objectives, run_id, EVERY))


def lacks(run_id: str, name: str) -> bool:
    """Return True if the search method of a run is known and has no setting with this name."""
    method = session.run_log().run(run_id)["method"]
    return method in METHODS and name not in METHODS[method].config.model_fields


def on_supernet(run_id: str) -> bool:
    """Return True if the search method of a run trains a supernet, or if this version does not know the method."""
    method = session.run_log().run(run_id)["method"]
    return method not in METHODS or METHODS[method].config.on_supernet


def weighting(run_id: str) -> None:
    """Draw the weights of a search's objectives and the angles between their gradients, with an explanation."""
    run_log = session.run_log()
    frame = run_log.objectives(run_id)
    name = run_log.run(run_id)["config"].get("weighting", "mgda")
    solver = WEIGHTINGS[name].title if name in WEIGHTINGS and WEIGHTINGS[name].follows_gradients else ""
    section("Weights of the losses", f"{f'chosen by {solver}' if solver else 'fixed'}, and the angle between the gradients")
    live_plot(mgda.weights_and_angle(frame), key="run_mgda", height=WAITING_HEIGHT if frame.empty else 352,
              label="Weights of the losses and angle between their gradients over the steps",
              data=partial(run_log.objectives, run_id, EVERY))
    words = mgda.in_words(run_log.share_at_vertex(run_id, VERTEX_STEPS)) if name == "mgda" else ""
    explained = mgda.explained(WEIGHTINGS[name].words if name in WEIGHTINGS else "", frame["objective"].nunique())
    st.html(f'<p class="rp-note">{escape(explained)}</p><p class="rp-note" style="margin-top:0.4rem">{escape(words)}</p>')


def evolution(run_id: str) -> None:
    """Draw the evolution of a search: the architecture weights or, for a method without a supernet, the measured candidates."""
    if not on_supernet(run_id):
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
