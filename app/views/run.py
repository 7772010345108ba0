"""Run: one run of a chain, from its first second to its attack table. Its id is in the URL: run?id=20261120-0915-..."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from app import session
from app.charts import mgda, objectives
from app.charts.training import NAMES, trade_off
from app.components.formats import escape
from app.components.live import live_panel
from app.components.live_plot import live_plot
from app.components.log_tail import log_tail, matching, read_tail
from app.components.run_architecture import architecture, genotypes_by_epoch
from app.components.run_candidates import candidates, measured_split
from app.components.run_header import figures, header
from app.components.run_outcome import outcome
from app.components.settings import OF_A_RUN, all_settings_html, differences_html, is_published
from app.components.states import empty_state, heading, problem, section
from engine.config import METHODS, WEIGHTINGS
from engine.errors import RampartError
from engine.run.folder import RunFolder

VERTEX_STEPS = 500
MOST_NOTES = 4
WAITING_HEIGHT = 110  # pixels of a chart that has nothing to show yet
THIN_LINES = {"search": "Points: means of an epoch. Thin lines: single steps, each on one batch.",
              "retrain": "Points: means of an epoch. Thin line: single training batches; an epoch's last one is small."}
SPLITS = {"search": ("alphas", "alphas split, batch statistics"),
          "retrain": ("select", "select split, running statistics; training loss on the weights and alphas splits")}
CANDIDATE_WORDS = "{} split, running statistics, a point a candidate; training loss on the weights split"
CANDIDATE_POINTS = ("Each accuracy is the mean over the {} split after a candidate finished training; each training loss is the "
                    "mean of an epoch. Thin line: single training batches. Each candidate starts from fresh weights.")


def main() -> None:
    """The page, top to bottom."""
    run_id = st.query_params.get("id", "")
    if not run_id:
        heading("Run")
        empty_state("No run chosen", "This page shows one run. Choose it in the list of runs.",
                    link="views/runs.py", link_label="Go to Runs")
        return
    try:
        RunFolder(session.runs_root(), run_id).read_run()
        kind = kind_of(run_id)
    except RampartError as error:
        heading("This run cannot be shown")
        problem(str(error))
        return
    live_panel(f"run:{run_id}", key="run_head")(guarded(top))(run_id)
    live_panel(f"log:{run_id}", key="run_notes")(guarded(notes))(run_id)
    imported = bool(session.run_log().run(run_id)["imported"])
    if kind in SPLITS and not imported:  # an import brings no losses
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
    """The kind of a run whose folder is there. A run launched this very moment may be ahead of the thread that feeds the
    run log, above all when the machine is busy: then it is taken in here.

    Raises:
        RampartError: the run log cannot take it in.
    """
    if session.run_log().runs()["id"].eq(run_id).sum() == 0:
        session.hub().refresh()
    return session.run_log().run(run_id)["kind"]


def guarded(draw):
    """A panel whose data cannot be read says so in its place; the others stay."""
    def safely(*args: Any) -> None:
        try:
            draw(*args)
        except RampartError as error:
            problem(str(error), link=None)
    safely.__qualname__ = safely.__name__ = f"run_{draw.__name__}"
    return safely


def chain_of(run_id: str) -> list[dict[str, Any]]:
    """Every run of the chain, root first, as the run log knows them now."""
    run_log = session.run_log()
    rows = {row["id"]: row for row in run_log.runs().to_dict("records")}
    return [rows[one] for one in run_log.chain(run_id)["id"] if one in rows]


def top(run_id: str) -> None:
    """Title, controls, chain, progress, the outcome of the chain as soon as there is one, the newest numbers of this run."""
    chain = chain_of(run_id)
    run = next(one for one in chain if one["id"] == run_id)
    header(run, chain)
    outcome(run, chain)
    figures(run)


def notes(run_id: str) -> None:
    """What whoever watches should know of this run; nothing where there is nothing to say. Errors are told elsewhere."""
    alerts = session.run_log().alerts(run_id)
    # A resumed run says some things again.
    told = list(dict.fromkeys(str(text) for text in alerts[alerts["level"] == "warning"]["text"]))
    if not told:
        return
    older = len(told) - MOST_NOTES
    lines = told[-MOST_NOTES:] + [f"And {older} earlier, in events.jsonl."] * (older > 0)
    st.html("".join(f'<p class="rp-note" role="note"><b>Note</b> {escape(line)}</p>' for line in lines))


def curves(run_id: str, kind: str) -> None:
    """Loss and accuracy, natural versus adversarial; for a search that weighs losses also how it did."""
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
                  label=f"{'Natural and adversarial' if robust else 'Natural'} accuracy and loss, {words}")
        if figure.data:
            st.html(f'<p class="rp-note">{THIN_LINES[kind] if one_network else CANDIDATE_POINTS.format(split)}</p>')
        if kind == "search":
            further_losses(run_log.objectives(run_id))
    if right:
        with right:
            weighting(run_id)


def further_losses(frame: pd.DataFrame) -> None:
    """The losses beside the natural and the adversarial one, in units of their own; nothing where there are none."""
    if names := objectives.further(frame):
        section("Further losses", "alphas split, before coefficients")
        live_plot(objectives.further_losses(frame), key="run_further_losses", height=30 + 160 * objectives.rows_of(names),
                  label=f"Over the steps: {', '.join(map(objectives.title_of, names))}")


def lacks(run_id: str, name: str) -> bool:
    """Whether a search's method has no setting of this name. A setting may be younger than the run, a method unknown."""
    method = session.run_log().run(run_id)["method"]
    return method in METHODS and name not in METHODS[method].config.model_fields


def on_supernet(run_id: str) -> bool:
    """Whether a search has a supernet and architecture weights; an unknown method is taken to have them."""
    method = session.run_log().run(run_id)["method"]
    return method not in METHODS or METHODS[method].config.on_supernet


def weighting(run_id: str) -> None:
    """Weights of the objectives, angle of their gradients, and what they mean in words."""
    run_log = session.run_log()
    frame = run_log.objectives(run_id)
    name = run_log.run(run_id)["config"].get("weighting", "mgda")
    solver = WEIGHTINGS[name].title if name in WEIGHTINGS and WEIGHTINGS[name].follows_gradients else ""
    section("Weight of each loss", f"{f'chosen by {solver}' if solver else 'as set'}, and the angle between the gradients")
    live_plot(mgda.weights_and_angle(frame), key="run_mgda", height=WAITING_HEIGHT if frame.empty else 352,
              label="Weights of the losses and angle between their gradients over the steps")
    words = mgda.in_words(run_log.share_at_vertex(run_id, VERTEX_STEPS)) if name == "mgda" else ""
    explained = mgda.explained(WEIGHTINGS[name].words if name in WEIGHTINGS else "", frame["objective"].nunique())
    st.html(f'<p class="rp-note">{escape(explained)}</p><p class="rp-note" style="margin-top:0.4rem">{escape(words)}</p>')


def evolution(run_id: str) -> None:
    """The architecture as it evolves, or the architectures that are compared."""
    if not on_supernet(run_id):
        section("Candidates",
                f"architectures drawn at random, each trained briefly and measured on the {measured_split(run_id)} split")
        candidates(run_id)
        return
    section("Architecture", "how much each operation counts on each edge, and the cell that these weights give")
    architecture(run_id)


def imported_evolution(run_id: str) -> None:
    """What an imported search's file says of its epochs: weights, or genotypes, or nothing beyond the one that is above."""
    run_log = session.run_log()
    if run_log.alpha_cells(run_id):
        evolution(run_id)
    elif len(run_log.genotypes(run_id)) > 1:
        section("Genotype", "at each epoch that the file has; architecture weights are not in it")
        genotypes_by_epoch(run_id)


def log(run_id: str) -> None:
    """The log's end with its last error pinned."""
    section("Log", "the newest lines of log.txt")
    tail = read_tail(session.runs_root() / run_id / "log.txt")
    alerts = session.run_log().alerts(run_id)
    errors = [str(text) for text in alerts[alerts["level"] == "error"]["text"]]
    for pinned in errors[-1:] or [tail.error] * bool(tail.error):  # the run's own sentence says more than an exception
        st.html(f'<div class="rp-problem" role="alert"><b>Last error</b> {escape(pinned)}</div>')
    wanted = st.text_input("Filter lines", key="run_log_filter", placeholder="Only lines that contain ...",
                           label_visibility="collapsed")
    if tail.text:
        log_tail(matching(tail.text, wanted) or "No line contains that.", key="run_log_lines")
    else:
        empty_state("The log is empty", "The run writes here as soon as it starts.")


def configuration(run_id: str) -> None:
    """What differs from the published settings, all settings, and the command that starts the same run."""
    run = session.run_log().run(run_id)
    published = is_published(run["kind"], run["method"])
    section("Settings", f"what differs from {'the published ones' if published else 'our defaults; no paper fixes them'}")
    found = run["differences"]
    if run["imported"]:
        st.html(f'<p class="rp-note">Imported from {escape(str(run["imported"].get("file", "")))}: how it was searched or '
                "trained is not known beyond the settings below.</p>")
    elif found:
        titles = OF_A_RUN if published else (*OF_A_RUN[:2], "Default")
        st.html(differences_html(run["kind"], run["method"], found, titles))
    else:
        st.html(f'<p class="rp-note">Nothing: these are the {"published" if published else "default"} settings.</p>')
    with st.expander("All settings"):
        st.html(all_settings_html(run["kind"], run["method"], run["config"], found))
    verb = "makes this run again" if run["imported"] else "starts the same run"
    section("Command", f"{verb} from a terminal in Rampart's folder; python is .venv/bin/python there")
    st.code(run["command"], language="bash", wrap_lines=True)


main()
