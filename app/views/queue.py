"""The Queue page: running and waiting runs in the order in which they start, with controls for pause and order.

Other controls set how many runs may use the CPU and each GPU at the same time (slots).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd
import streamlit as st

from app import session, theme
from app.components.act_button import act_button
from app.components.html_table import Markup, StaticColumn, html_table
from app.components.live import live_panel
from app.components.queue_note import pause_html
from app.components.run_actions import Action, answer, perform
from app.components.states import LAUNCH_PAGE, RUN_PAGE, empty_state, heading, problem, section
from app.components.table import NO_SORT, UNSORTED, CellText, Column, Row, table
from app.formats import EMPTY, about, escape, markdown, missing, percent, plural
from engine import queueing, requests
from engine.acts import why_not
from engine.errors import RampartError
from engine.preflight.forecast import size_text
from engine.queueing import DeviceEntry, Entry, LauncherEntry, View
from engine.run import device
from engine.run.queue import MOST_CPU_SLOTS, MOST_PER_GPU

ABOUT_QUEUE = "queue"  # the name under which answers to requests about the whole queue are kept
PAUSE = Action("Pause", "pause", "Stop after the current runs: they go on to their end, and nothing new starts. The pause "
               "outlives a restart. Command: rampart queue pause", "Paused. Runs that are running go on.",
               lambda runs, _: queueing.pause(runs), "admin")
AFTER_CHAINS = Action("Pause after current chains", "skip_next", "Runs that follow the running ones still start, so that begun "
                      "chains end with a result. Nothing else starts. Command: rampart queue pause --after-chains",
                      "Paused. Begun chains go on to their end.", lambda runs, _: queueing.pause(runs, after_chains=True),
                      "admin")
CONTINUE = Action("Continue", "play_arrow", "Start the waiting runs in their order. Command: rampart queue continue",
                  "The queue goes on.", lambda runs, _: queueing.go_on(runs), "admin")
MOVES = (
    Action("First", "vertical_align_top", "Start it next, together with the waiting runs that it needs.", "Moved.",
           lambda runs, run: queueing.move(runs, run, "first")),
    Action("Up", "arrow_upward", "Start it one place earlier.", "Moved.", lambda runs, run: queueing.move(runs, run, "up")),
    Action("Down", "arrow_downward", "Start it one place later.", "Moved.", lambda runs, run: queueing.move(runs, run, "down")),
    Action("Last", "vertical_align_bottom", "Start it after all others, together with the runs that need it.", "Moved.",
           lambda runs, run: queueing.move(runs, run, "last")),
)
STOP = Action("Stop", "stop", "Take it out of the queue. On its page, Resume puts it back at the end.", "Taken out of the queue.",
              requests.request_stop)
COLUMNS = (
    Column("place", "Place"), Column("run", "Run"), Column("kind", "Kind"),
    Column("device", "Device", help="What the run asks for. auto is the GPU with the fewest runs, or else the CPU."),
    Column("why", "Why it waits"),
    Column("start", "Starts", "right", "Expected from the progress of running runs and the durations of finished ones with the "
           "same or similar settings. A dash where no such run has finished, and for runs that cannot start."),
)


@live_panel("queue", key="queue_page")
def page() -> None:
    """Show the controls of the queue, the running and waiting runs, and how many runs may use a device at the same time."""
    try:
        shown = queueing.view(session.runs_root())
    except RampartError as trouble:
        problem(str(trouble), link=None)
        return
    controls(shown)
    running(shown)
    waiting(shown)
    slots(shown)
    launchers(shown)


def controls(shown: View) -> None:
    """Show how many runs there are, the state of the queue, and the buttons that pause and continue it."""
    words, buttons = st.columns([3, 2], vertical_alignment="center")
    with words:
        st.html(pause_html(shown.decisions, len(shown.waiting), link=False) or f'<div class="rp-row">{summary_html(shown)}</div>')
    with buttons, st.container(horizontal=True, horizontal_alignment="right"):
        if shown.decisions.is_paused:
            _button(CONTINUE, "queue.continue", ABOUT_QUEUE, primary=True)
        else:
            _button(PAUSE, "queue.pause", ABOUT_QUEUE)
            _button(AFTER_CHAINS, "queue.after_chains", ABOUT_QUEUE, possible=bool(shown.running))
    _answer(ABOUT_QUEUE)


def summary_html(shown: View) -> str:
    """Return the numbers of running and waiting runs as HTML.

    If several runs wait and their expected starts are known, add when the last of them starts, unless that is within a minute.
    """
    starts = [one.starts_in_s for one in shown.waiting if one.starts_in_s is not None]
    last = (f" The last starts in {about(max(starts))}." if len(starts) == len(shown.waiting) > 1 and max(starts) >= 60
            else "")
    return f"<span>{escape(f'{len(shown.running)} running, {len(shown.waiting)} waiting.{last}')}</span>"


def running(shown: View) -> None:
    """Show the runs that use a device now, with their progress and time left."""
    section("Running", "They continue while the queue is paused.")
    if not shown.running:
        st.caption("Nothing runs.")
        return
    rows = session.run_log().runs().set_index("id")
    known: dict[str, Mapping[str, Any]] = {name: rows.loc[name] for one in shown.running if (name := one.id) in rows.index}
    columns: tuple[StaticColumn[Entry], ...] = (
        StaticColumn("Run", _name_html, names_row=True, look="rp-name", data=lambda one: {"run": one.id, "title": one.title}),
        StaticColumn("Kind", lambda one: theme.KIND_TITLES.get(one.kind, one.kind)),
        StaticColumn("Device", _used_html, data=lambda one: {"device": one.device, "waits": one.cause}),
        StaticColumn("Progress", lambda one: _progress_html(known.get(one.id, {}).get("progress")), right=True,
                     data=lambda one: {"progress": known.get(one.id, {}).get("progress")}),
        StaticColumn("Time left", lambda one: EMPTY if one.left_s is None else about(one.left_s), right=True,
                     data=lambda one: {"time_left_s": one.left_s}))
    st.html(html_table(columns, shown.running, label="Running runs", look="rp-queue"))


def _name_html(entry: Entry) -> Markup:
    return Markup(f'<a href="run?id={escape(entry.id)}" target="_self"><b>{escape(entry.title)}</b></a><br>'
                  f'<span class="rp-label">{escape(entry.id)}</span>')


def _used_html(entry: Entry) -> Markup:
    waits = f'<br><span class="rp-label">{escape(entry.cause)}</span>' if entry.cause else ""
    return Markup(f"{escape(_device_text(entry.device))}{waits}")


def _progress_html(share: float | None) -> str:
    return EMPTY if missing(share) else percent(share, 0)


def _device_text(name: str) -> str:
    return {"cpu": "CPU", "cuda": "any GPU"}.get(name, name)


def waiting(shown: View) -> None:
    """Show the waiting runs in their order, and above them the buttons that move the selected run."""
    section("Waiting", "In the order in which they start; a run whose device is free may pass others.")
    if not shown.waiting:
        empty_state("Nothing waits", "Runs that cannot start at once appear here, with the reason and the expected start.",
                    link=LAUNCH_PAGE, link_label="Launch a run")
        return
    place = st.container()
    action = table(COLUMNS, [row_of(number, one) for number, one in enumerate(shown.waiting, start=1)], key="queue_table",
                   label="Waiting runs", selected=st.session_state.get("queue.selected"), sort=UNSORTED, file="queue-waiting",
                   data=lambda: pd.DataFrame(map(asdict, shown.waiting)))
    if action.opened:
        st.switch_page(RUN_PAGE, query_params={"id": action.opened})
    if action.clicked and action.clicked != st.session_state.get("queue.selected"):
        st.session_state["queue.selected"] = action.clicked
        st.rerun(scope="fragment")  # draws the page again, so that the buttons above the table belong to the selected row
    chosen = next((one for one in shown.waiting if one.id == st.session_state.get("queue.selected")), None)
    with place, st.container(border=True):
        selection(chosen)


def row_of(number: int, entry: Entry) -> Row:
    """Return the row of a waiting run in the table.

    Args:
        number: place of the run in the queue, from 1.
        entry: the run.
    """
    start = entry.starts_in_s
    return Row(entry.id, {
        "place": CellText(str(number), sort=number),
        "run": CellText(entry.title, sub=entry.id, href=f"run?id={entry.id}"),
        "kind": CellText(theme.KIND_TITLES.get(entry.kind, entry.kind), sub="part of a study" if entry.study else ""),
        "device": CellText(_device_text(entry.device)),
        "why": CellText(entry.cause),
        "start": CellText(EMPTY if start is None else "next" if start < 1 else f"in {about(start)}",
                          sort=NO_SORT if start is None else -start, muted=start is None)}, name=entry.title)


def selection(chosen: Entry | None) -> None:
    """Show the selected run with its buttons. While no run is selected, the buttons are disabled."""
    words = (f'<b>{escape(chosen.title)}</b><span class="rp-label">{escape(chosen.id)}</span>' if chosen else
             '<span class="rp-label rp-chip-high">No run selected. Click a row to select its run, or a name to open its page.'
             "</span>")
    st.html(f'<div class="rp-row">{words}</div>')
    with st.container(horizontal=True):
        for action in (*MOVES, STOP):
            _button(action, f"queue.{action.label.lower()}", chosen.id if chosen else "", possible=chosen is not None)
    if chosen:
        _answer(chosen.id)


def slots(shown: View) -> None:
    """Show how many runs may use the CPU and each GPU at the same time, and let the user choose other numbers."""
    section("Slots", "How many runs may use a device at the same time.")
    on_cpu = sum(one.device == "cpu" for one in shown.running)
    cpu, gpu, share = st.columns([1, 1, 1])
    _slot(cpu, "CPU slots", "cpu", shown.decisions.cpu_slots, f"automatic: {queueing.default_cpu_slots()}", MOST_CPU_SLOTS,
          f"{on_cpu} of {plural(shown.cpu_slots, 'slot')} used, {plural(device.cores(), 'CPU core')}.",
          "Empty for automatic: one run with all cores. Runs of studies with a single thread then share the cores. A number "
          "holds for all runs. Command: rampart queue slots --cpu 2")
    busy = [name for one in shown.running for name in one.device.split(", ")]
    used = ", ".join(f"{name}: {busy.count(name)} of {shown.runs_per_gpu}" for name in shown.gpus)
    _slot(gpu, "Runs per GPU", "per_gpu", shown.decisions.runs_per_gpu, f"automatic: {shown.runs_per_gpu}", MOST_PER_GPU,
          f"{used} used." if used else "No NVIDIA GPU found.",
          "Empty for automatic: one run, or two where runs share GPUs. Without Share GPUs, nobody checks whether the memory of "
          "the GPU suffices. Command: rampart queue slots --per-gpu 2", possible=bool(shown.gpus))
    st.session_state["queue.share"] = shown.decisions.share_gpus
    with share:
        st.checkbox("Share GPUs", key="queue.share", on_change=_store_slots, disabled=not shown.gpus or bool(why_not("admin")),
                    help="Runs share a GPU only where the measured memory of all of them fits. The Launch page measures it "
                         "before a launch, as does rampart estimate. Command: rampart queue slots --share on")
        st.caption("A run without a measurement shares no GPU.")
    _answer("queue.slots")


def launchers(shown: View) -> None:
    """Show what can start runs: the launchers with their devices, their use and their settings, or what one lacks."""
    section("Launchers", "What starts the runs, on which devices. Choose another with rampart queue launcher NAME.")
    lines = [(one, device) for one in shown.launchers for device in (one.devices or (None,))]
    columns: tuple[StaticColumn[tuple[LauncherEntry, DeviceEntry | None]], ...] = (
        StaticColumn("Device", lambda line: _device_text(line[1].name) if line[1] else "not available", names_row=True,
                     look="rp-name",
                     data=lambda line: {"launcher": line[0].name, "chosen": line[0].is_chosen, "missing": line[0].missing,
                                        "device": line[1] and line[1].name}),
        StaticColumn("Hardware", lambda line: line[1].title if line[1] and line[1].title else EMPTY,
                     data=lambda line: {"hardware": line[1] and line[1].title}),
        StaticColumn("Memory", lambda line: size_text(line[1].memory_bytes) if line[1] and line[1].memory_bytes else EMPTY,
                     right=True, data=lambda line: {"memory_bytes": line[1] and line[1].memory_bytes}),
        StaticColumn("Runs", lambda line: f"{line[1].used} of {line[1].slots}" if line[1] else EMPTY, right=True,
                     data=lambda line: {"used": line[1] and line[1].used, "slots": line[1] and line[1].slots}))
    st.html(html_table(columns, lines, label="Launchers and their devices", look="rp-queue", group=lambda line: _about(line[0])))


def _about(one: LauncherEntry) -> str:
    """Return one line about a launcher: its name, whether it is chosen, and its settings or what it lacks."""
    settings = ", ".join(f"{name} {value}" for name, value in one.settings.items() if value != "")
    told = one.missing or " ".join(filter(None, (one.about, settings and f"Settings: {settings}.")))
    return f"{one.title}{' (chosen)' if one.is_chosen else ''}. {told}"


def _slot(where: Any, label: str, name: str, value: int | None, automatic: str, most: int, used: str, help: str, *,
          possible: bool = True) -> None:
    key = f"queue.{name}"
    st.session_state[key] = value
    with where:
        st.number_input(label, 1, most, None, key=key, placeholder=automatic, help=help, on_change=_store_slots,
                        disabled=not possible or bool(why_not("admin")))
        st.caption(used)


def _store_slots() -> None:
    """Store in the runs folder how many runs may use the CPU and each GPU, and whether runs share GPUs, as set on the page."""
    cpu, per_gpu, share = (st.session_state[f"queue.{name}"] for name in ("cpu", "per_gpu", "share"))
    perform(Action("", "", "", "Stored. Runs that are running go on.",
                   lambda runs, _: queueing.set_slots(runs, cpu=cpu, per_gpu=per_gpu, share=share)), "queue.slots")


def _button(action: Action, key: str, about: str, *, possible: bool = True, primary: bool = False) -> None:
    act_button(action.label, role=action.role, key=key, icon=f":material/{action.icon}:", help=action.help,
               disabled=not possible, on_click=perform, args=(action, about), type="primary" if primary else "secondary")


def _answer(about: str) -> None:
    """Show the answer to the last request about a run or about the queue, if there is one."""
    refusal, done = answer(about)
    if refusal:
        problem(refusal, link=None)
    elif done:
        st.caption(markdown(done))


heading("Queue", "Runs start in this order, even while this page is closed.")
page()
