"""Head of a run's page: title, status and its cause, stop and resume, the chain, progress, and the newest numbers."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from app import session, theme
from app.charts import objectives
from app.components.chain import steps_html
from app.components.formats import count, escape, missing, percent
from app.components.progress import figure_html, progress_html
from app.components.status import status_chip_html, tag_html
from engine import requests
from engine.config import PRESETS
from engine.data.catalogue import DATASETS
from engine.errors import RampartError
from engine.search.methods.registry import METHODS

TONES = {"finished": "good", "failed": "bad", "stopped": "warn", "stopping": "warn"}
ACTIVE = ("running", "stopping")


def header(run: dict[str, Any], chain: list[dict[str, Any]]) -> None:
    """Everything above the panels.

    Args:
        run: `RunLog.run` of the page's run, status computed now.
        chain: the same for every run of its chain, root first.
    """
    left, right = st.columns([5, 2], vertical_alignment="center")
    with left:
        _title(run)
    with right:
        _buttons(run)
    st.html(steps_html(chain, run["id"]))
    for one in [run, *(r for r in chain if r["status"] in ACTIVE and r["id"] != run["id"])]:
        if one["status"] != "finished":
            st.html(_progress(one))


def _title(run: dict[str, Any]) -> None:
    preset = str(run["preset"])
    note = PRESETS.get(preset, "") if preset in ("quick", "smoke") else ""
    silent = None if missing(run.get("silent_s")) else run["silent_s"]
    data = DATASETS[run["dataset"]].title if run["dataset"] in DATASETS else str(run["dataset"])
    tags = "".join(map(tag_html, (theme.KIND_TITLES.get(run["kind"], run["kind"]), data, f"preset {preset}")))
    failed = run["status"] == "failed"
    st.html(f'<div class="rp-row"><h1 class="rp-title">{escape(run["title"])}</h1>'
            f'{status_chip_html(run["status"], "" if failed else run.get("cause"), silent)}</div>'
            f'<div class="rp-row" style="margin-top:0.45rem">{tags}<span class="rp-label">{escape(run["id"])}</span></div>'
            + (f'<p class="rp-note" style="margin-top:0.35rem">{escape(note)}</p>' if note else "")
            + (f'<div class="rp-problem" style="margin-top:0.6rem" role="alert"><b>Why it failed</b> {escape(why(run))}</div>'
               if failed else ""))


def why(run: dict[str, Any]) -> str:
    """The cause of a failed run; the run's own last error with it, where that says more."""
    cause = _text(run.get("cause")) or "No cause is known; the log below may tell."
    alerts = session.run_log().alerts(run["id"])
    errors = [str(text) for text in alerts[alerts["level"] == "error"]["text"]]
    told = errors[-1] if errors else ""
    if not told or told.rstrip(".") in cause:
        return cause
    return told if told.lower().startswith(cause.rstrip(".").lower()) else f"{cause} {told}"


def _buttons(run: dict[str, Any]) -> None:
    """Stop (a second press kills the process group) and resume; a refusal is a sentence below."""
    state = requests.status(session.runs_root(), run["id"])
    with st.container(horizontal=True, horizontal_alignment="right"):
        if state.status == "stopping":
            st.button("Kill it now", key="run_force", on_click=_ask, args=("force", run["id"]),
                      help="The run was asked to stop and writes a checkpoint. This kills its processes at once; it resumes "
                           "from the checkpoint before.")
        elif state.can_stop:
            st.button("Stop", key="run_stop", on_click=_ask, args=("stop", run["id"]),
                      help="Abandons the step in progress, writes a checkpoint and exits within seconds. It can be resumed.")
        if state.can_resume:
            st.button("Resume", key="run_resume", type="primary", on_click=_ask, args=("resume", run["id"]),
                      help="Continues exactly where the last checkpoint was written.")
    refusal = st.session_state.pop("run.refusal", None)
    if refusal:
        st.html(f'<div class="rp-problem" role="alert">{escape(refusal)}</div>')


def _ask(verb: str, run_id: str) -> None:
    actions = {"stop": requests.request_stop, "force": requests.force_stop, "resume": requests.resume}
    try:
        actions[verb](session.runs_root(), run_id)
    except RampartError as error:
        st.session_state["run.refusal"] = str(error)


def _progress(run: dict[str, Any]) -> str:
    """The bar of one run of the chain."""
    row = session.run_log().progress(run["id"]) or {}
    live = run["status"] in ACTIVE
    return progress_html(
        title=str(run["kind"]).capitalize(), done=row.get("done"), total=row.get("total"), unit=row.get("unit") or "steps",
        detail=_text(row.get("detail")) if live else "",
        seconds_left=row.get("seconds_left") if run["status"] == "running" else None,
        passes=row.get("passes"), tone=TONES.get(run["status"], ""),
        pending={"queued": "waits its turn", "running": "starting"}.get(run["status"], "nothing done"))


def _text(value: Any) -> str:
    return "" if missing(value) else str(value)


WHERE = {"alphas": "alphas split, batch statistics", "select": "select split, running statistics",
         "weights": "training batches"}
FIGURES = {"natural_accuracy": "Natural accuracy", "adversarial_accuracy": "Adversarial accuracy", "natural_loss": "Natural loss",
           "adversarial_loss": "Adversarial loss", "train_loss": "Training loss", "images_per_s": "Throughput"}

OF_TRAINING = ("train_loss", "images_per_s")


def figures(run: dict[str, Any]) -> None:
    """The newest means that were measured, and where. A search's are its supernet's, or its newest candidate's: no result of the
    network it finds."""
    log = session.run_log()
    latest = newest(log.curves(run["id"]))
    further = objectives.further(log.objectives(run["id"])) if run["kind"] == "search" else []
    titles = FIGURES | {f"{name}_loss": _sentence(objectives.title_of(name)) for name in further}
    # What the supernet measures stands together, before what is trained.
    shown = sorted((name for name in titles if name in latest), key=OF_TRAINING.__contains__)
    if not shown:
        return
    notes = _notes(run) | {f"{name}_loss": objectives.unit_of(name) for name in further}
    boxes = "".join(figure_html(titles[name], _value(name, latest[name][1]), notes.get(name, "")) for name in shown)
    on_supernet = run["method"] not in METHODS or METHODS[run["method"]].config.on_supernet
    where = WHERE | ({} if on_supernet else {"alphas": "alphas split, running statistics"})
    places = {(where.get(split, split), epoch): split for split, _, epoch in (latest[name] for name in shown)}
    so_far = " so far" if run["status"] in ACTIVE else ""
    of = "The network" if run["kind"] != "search" else "The supernet" if on_supernet else "The newest candidate measured"
    note = ". ".join(f"{'Training' if split == 'weights' else of}: {place}, mean of epoch {epoch}{so_far}"
                     for (place, epoch), split in places.items())
    st.html(f'<div class="rp-figures">{boxes}</div><p class="rp-label" style="margin:0.45rem 0 0">{escape(note)}.</p>')


# What the training loss is, by `training` of a retraining.
TRAINING_LOSSES = {"natural": "of natural images", "trades": "TRADES: natural + β KL"}


def _notes(run: dict[str, Any]) -> dict[str, str]:
    """What the names of a retraining's numbers leave open: the attack they were measured under, the loss that is descended."""
    if run["kind"] != "retrain":
        return {}
    config = session.run_log().run(run["id"])["config"]
    return {"adversarial_accuracy": f"under PGD-{config.get('selection_steps')}",
            "train_loss": TRAINING_LOSSES.get(str(config.get("training")), "of attacked images")}


def _sentence(words: str) -> str:
    """The first letter large; the others as they are, for "expected MACs"."""
    return words[:1].upper() + words[1:]


def _value(name: str, value: float) -> str:
    if "accuracy" in name:
        return percent(value)
    if abs(value) >= 1000:
        return count(value)
    return f"{value:,.0f} images/s" if name == "images_per_s" else f"{value:.3f}"


def newest(curves: pd.DataFrame) -> dict[str, tuple[str, float, int]]:
    """The last average of each quantity: name -> (split, value, epoch)."""
    last = curves.sort_values("step").drop_duplicates("name", keep="last")
    return {row.name_: (row.split_, row.value_, int(row.epoch_)) for row in
            last.rename(columns=lambda c: f"{c}_").itertuples()}
