"""The top of a run's page: title, status, buttons, chain and progress.

A chain is a search with the runs that follow it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import streamlit as st

from app import session, theme
from app.components.act_button import act_button
from app.components.chain import steps_html
from app.components.live import feed_of
from app.components.live_html import live_html
from app.components.progress import progress_html
from app.components.run_actions import RESUME, STOP, Action, answer, kill_button, perform
from app.components.run_curves import on_supernet
from app.components.run_memory import offer_half_batch, ran_out_of_memory
from app.components.states import problem
from app.components.status import status_chip_html, tag_html
from app.formats import dataset_title, duration, escape, missing, rate, shown
from engine import requests
from engine.config import PRESETS
from engine.log import RunLog
from engine.run.state import SILENT_S

TONES = {"finished": "good", "failed": "bad", "stopped": "warn", "stopping": "warn"}
ACTIVE = ("running", "stopping")
DEVICES = {"cpu": "CPU"}


def header(run: dict[str, Any], chain: list[dict[str, Any]]) -> None:
    """Show the title, buttons, chain and progress bars of a run.

    The run has a progress bar unless it has finished. The other runs of the chain have one while they are running or stopping.

    Args:
        run: row of the run, from `RunLog.runs`.
        chain: rows of all runs in the run's chain (a search with the runs that follow it), earliest first.
    """
    left, right = st.columns([5, 2], vertical_alignment="center")
    with left:
        _title(run)
    with right:
        _buttons(run)
    if run["status"] == "failed" and ran_out_of_memory(why(run)):
        offer_half_batch(run)
    live_html(feed_of(f"run:{run['id']}", progress_of, run, chain), key="run_progress",
              live=any(one["status"] in ("queued", *ACTIVE) for one in chain))


def _title(run: dict[str, Any]) -> None:
    preset = str(run["preset"])
    made = f"preset {preset}" if preset in PRESETS else preset  # which says of an imported run that it is one
    note = PRESETS.get(preset, "") if preset in ("quick", "smoke") else ""
    silent = None if missing(run.get("silent_s")) else run["silent_s"]
    # An imported run may have no dataset.
    tags = "".join(map(tag_html, filter(None, (
        theme.KIND_TITLES.get(run["kind"], run["kind"]), dataset_title(run["dataset"]), made,
        "example" if run["example"] else ""))))
    study = run["study"] and (
        f'<span class="rp-label"><a href="study?id={escape(run["study"])}" target="_self">Part of a study</a></span>')
    failed = run["status"] == "failed"
    st.html(f'<div class="rp-row"><h1 class="rp-title">{escape(run["title"])}</h1>'
            f'{status_chip_html(run["status"], "" if failed else run.get("cause"), silent)}</div>'
            f'<div class="rp-row rp-below">{tags}<span class="rp-label">{escape(run["id"])}</span>{study}</div>'
            + (f'<p class="rp-note rp-below">{escape(note)}</p>' if note else "")
            + (f'<div class="rp-problem rp-below" role="alert"><b>Why it failed</b> {escape(why(run))}</div>'
               if failed else ""))


def why(run: dict[str, Any]) -> str:
    """Return the reason why a run failed.

    It consists of the recorded cause and the last error that the run reported. If one contains the other, return only the longer
    one.
    """
    cause = shown(run.get("cause")) or "The cause is unknown; see the log below."
    alerts = session.run_log().alerts(run["id"])
    errors = [str(text) for text in alerts[alerts["level"] == "error"]["text"]]
    told = errors[-1] if errors else ""
    if not told or told.rstrip(".") in cause:
        return cause
    return told if told.lower().startswith(cause.rstrip(".").lower()) else f"{cause} {told}"


def _buttons(run: dict[str, Any]) -> None:
    """Show the Stop and Resume buttons of a run, each only if the action is possible.

    While the run is stopping, "Kill now …" replaces Stop. It asks for a confirmation first. If the last request was refused, the
    reason is shown below.
    """
    state = requests.status(session.runs_root(), run["id"])
    with st.container(horizontal=True, horizontal_alignment="right"):
        if state.status == "stopping":
            kill_button("run_force", run["id"])
        elif state.can_stop:
            _button(STOP, "run_stop", run["id"])
        if state.can_resume:
            _button(RESUME, "run_resume", run["id"], primary=True)
    refusal, _ = answer(run["id"])
    if refusal:
        problem(refusal, link=None)


def _button(action: Action, key: str, run_id: str, *, primary: bool = False) -> None:
    act_button(action.label, key=key, help=action.help, type="primary" if primary else "secondary", on_click=perform,
              args=(action, run_id))


def progress_of(log: RunLog, run: dict[str, Any], chain: list[dict[str, Any]]) -> str:
    """Return the chain and the progress bars of a run as HTML, with the newest progress. The arguments are those of `header`."""
    rows = {one["id"]: log.progress(one["id"]) for one in [run, *chain] if one["status"] in ACTIVE or one is run}
    newest = [one | _moved(log, one, rows[one["id"]]) if one["status"] in ACTIVE else one for one in chain]
    shown = [next((one for one in newest if one["id"] == run["id"]), run),
             *(one for one in newest if one["status"] in ACTIVE and one["id"] != run["id"])]
    bars = [_progress(one, rows[one["id"]]) for one in shown if one["status"] != "finished"]
    bars.insert(min(1, len(bars)) if run["status"] != "finished" else 0, facts_of(log, run, rows[run["id"]]))
    return f'<div class="rp-stack">{steps_html(newest, run["id"])}{"".join(bars)}</div>'


def facts_of(log: RunLog, run: dict[str, Any], row: dict[str, Any]) -> str:
    """Return a line about a run as HTML: its epoch while it is active, its duration so far, its device and its newest speed.

    The speed is left out while the worker of an active run is silent.

    Args:
        log: the run log.
        run: row of the run, from `RunLog.runs`.
        row: what `RunLog.progress` returned for the run.
    """
    state = log.state(run["id"])
    if state.started is None:
        return ""
    end = state.since if state.is_over else time.time()
    facts = [] if state.is_over else _epoch(log, run, row)
    speed = _speed(log.throughput(run["id"]))
    facts += speed if state.silent_s is not None and state.silent_s < SILENT_S else []
    if end is not None and end > state.started:
        which = f" in attempt {state.attempt}" if state.attempt > 1 else ""
        facts.append(f"{'Took' if state.is_over else 'Running for'} {duration(end - state.started)}{which}")
    facts += [f"on {DEVICES.get(state.device, state.device.replace('cuda:', 'GPU '))}"] if state.device else []
    facts += [f"at the end {', '.join(speed)}"] if state.is_over and speed else []
    return f'<div class="rp-runfacts rp-num">{"".join(f"<span>{escape(fact)}</span>" for fact in facts)}</div>'


def _epoch(log: RunLog, run: dict[str, Any], row: dict[str, Any]) -> list[str]:
    """Return a list with one text, the epoch of a run, for example "Epoch 3 of 50".

    The list is empty if the epoch is unknown, and for a search without a supernet, whose progress bar names the epoch.
    """
    epochs = log.configs([run["id"]]).get(run["id"], {}).get("epochs")
    if not epochs or missing(row.get("fraction")) or (run["kind"] == "search" and not on_supernet(run)):
        return []
    return [f"Epoch {min(int(epochs), int(row['fraction'] * epochs) + 1)} of {epochs}"]


def _speed(speed: Mapping[str, Any]) -> list[str]:
    """Return the known rates of `RunLog.throughput` in words."""
    rates = {"units_per_s": speed["unit"] or "units", "images_per_s": "images", "passes_per_s": "forward passes"}
    return [rate(speed[name], unit) for name, unit in rates.items() if speed[name]]


def _moved(log: RunLog, run: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """Return the newest progress and time left of an active run, keyed by their columns in `RunLog.runs`."""
    silent = log.state(run["id"]).silent_s
    known = silent is None or silent < SILENT_S
    return {"progress": row.get("fraction"), "seconds_left": row.get("seconds_left") if known else None}


def _progress(run: dict[str, Any], row: dict[str, Any]) -> str:
    """Return the progress bar of a run as HTML, given its rows from `RunLog.runs` and `RunLog.progress`."""
    live = run["status"] in ACTIVE
    return progress_html(
        title=str(run["kind"]).capitalize(), done=row.get("done"), total=row.get("total"), unit=row.get("unit") or "steps",
        detail=shown(row.get("detail")) if live else "",
        seconds_left=run.get("seconds_left") if run["status"] == "running" else None,
        passes=row.get("passes"), tone=TONES.get(run["status"], ""),
        pending={"queued": "waiting", "running": "starting"}.get(run["status"], "not started"))
