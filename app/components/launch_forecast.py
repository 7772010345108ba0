"""The forecast on the Launch page: time, memory and disk space of the whole launch, and the button that measures them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import streamlit as st

from app import session
from app.components.form import FormValues
from app.components.launch_choice import Choice
from app.components.launch_steps import steps_of, then_changes
from app.components.preflight import Fact
from app.formats import duration, plural
from app.measuring import Task
from engine.config import RunConfig
from engine.configuring import build
from engine.errors import ConfigError, RampartError
from engine.grid import Grid
from engine.preflight.forecast import Forecast, forecast, size_text
from engine.run import device
from engine.run.chain import followers
from engine.search.methods.registry import METHODS
from engine.study.estimate import Durations

SOURCES = {"runs": "finished runs", "batches": "measured batches", "table": "our measurements of this preset"}
TASK = "launch.measuring"  # in the session: the task that measures batches
Chain = list[tuple[str, RunConfig]]


@st.cache_resource(ttl=20, show_spinner=False)
def durations(runs: str) -> Durations:
    """Return the durations of finished runs, read at most every 20 seconds."""
    return Durations(runs)


def chains_of(choice: Choice, forms: Mapping[str, FormValues], grid: Grid) -> dict[str | None, Chain]:
    """Return {search method: chain} for every method of the launch; {None: chain} without a search.

    The other axes of the grid are ignored: every chain of a method is assumed to cost as much as the one on the forms. The result
    is empty while a setting is invalid.

    Raises:
        ConfigError: a further method does not accept the settings on the form.
    """
    steps = steps_of(choice, forms)
    chains: dict[str | None, Chain] = {choice.method: steps} if steps else {}
    for method in grid.axes.get("method", ()) if steps else ():
        if method != choice.method:
            try:
                config = build("search", method, choice.dataset, choice.preset, forms["search"].changes)
                later = followers("search", config, method, choice.preset, choice.then, then_changes(choice, forms))
            except RampartError as refusal:
                raise ConfigError(f"{METHODS[method].title} cannot have these settings. {refusal}") from None
            chains[method] = [("search", config), *later]
    return chains


def forecasts(choice: Choice, chains: Mapping[str | None, Chain], grid: Grid) -> list[Forecast]:
    """Return the forecast for the chains of each method.

    Args:
        choice: values of the controls at the top of the page.
        chains: the chain of each method, from `chains_of`.
        grid: the axes, for the number of runs.
    """
    rest = Grid({name: values for name, values in grid.axes.items() if name != "method"})
    counts, runs = rest.runs_of(choice.kinds), session.runs_root()
    return [forecast(runs, chain, method=method, preset=choice.preset, parent=choice.source.parent, counts=counts,
                     durations=durations(str(runs))) for method, chain in chains.items()]


def seconds_of(each: list[Forecast]) -> float | None:
    """Return the time until the chains of all methods have finished; None if it is unknown."""
    times = [one.seconds for one in each]
    return None if not times or any(one is None for one in times) else sum(one for one in times if one is not None)


def time_words(each: list[Forecast]) -> str:
    """Return the time of a launch in words, for example "about 40 min on 2 cores"; "" if it is unknown."""
    seconds = seconds_of(each)
    if seconds is None:
        return ""
    where = plural(device.cores(), "core") if each[0].on_cpu else plural(each[0].side_by_side, "GPU")
    return f"about {rounded(seconds)} on {where}"


def rounded(seconds: float) -> str:
    """Return a forecast duration as rounded text: 437 seconds as "7 min", 9000 as "2 h 30 min"."""
    if seconds < 60:
        return duration(max(5, 5 * round(seconds / 5)))
    if seconds < 3600:
        return duration(60 * round(seconds / 60)).removesuffix(" 0 s")
    return duration(600 * round(seconds / 600)) if seconds < 86_400 else f"{seconds / 86_400:.1f} d"


def facts(each: list[Forecast]) -> list[Fact]:
    """Return the forecast as facts: its numbers, where they come from, and what does not fit."""
    if not each:
        return []
    memory = max(one.memory for one in each) if all(one.memory for one in each) else 0
    parts = [time_words(each), f"{size_text(memory)} of memory" if memory else "",
             f"{size_text(disk)} on disk" if (disk := sum(one.disk for one in each)) else ""]
    known = ", ".join(filter(None, parts))
    sources = list(dict.fromkeys(SOURCES[cost.source] for one in each for cost in one.costs.values() if cost.source))
    text = f"{known[:1].upper()}{known[1:]}" if known else "Not known for these settings yet"
    text += f", from {' and '.join(sources)}" if known and sources else ""
    text += "; rough, from smaller batches" if any(one.is_rough for one in each) else ""
    whole = replace(each[0], costs={f"{number}.{kind}": cost for number, one in enumerate(each) for kind, cost in
                                    one.costs.items()},
                    counts={f"{number}.{kind}": one.counts[kind] for number, one in enumerate(each) for kind in one.costs})
    return [Fact("good" if known else "note", "Forecast", f"{text}."),
            *(Fact("bad", "Does not fit", sentence) for sentence in whole.warnings(session.runs_root()))]


def measuring(choice: Choice, chains: Mapping[str | None, Chain], each: list[Forecast]) -> None:
    """Show the button that measures the missing costs, and the progress of the measurement."""
    task: Task | None = st.session_state.get(TASK)
    if task is not None and task.running:
        _progress()
        return
    if task is not None and task.problem:
        st.caption(f":material/error: {task.problem}")
    if not chains or choice.source.problem or all(one.is_complete for one in each):
        return
    root, cached = session.runs_root(), durations(str(session.runs_root()))
    clicked = st.button("Measure time and memory", key="launch.measure", icon=":material/timer:",
                        help="Computes a few batches of each step on random images, in a separate process, for at most a minute "
                             "each. The dataset need not be here. The result is kept for runs of the same shape.")
    if clicked:
        def work(report: object) -> None:
            for method, chain in chains.items():
                forecast(root, chain, method=method, preset=choice.preset, parent=choice.source.parent, measure=True,
                         durations=cached)

        st.session_state[TASK] = Task(work)
        st.rerun()


@st.fragment(run_every=1.0)
def _progress() -> None:
    """Show the elapsed time of the measurement. Once it has ended, rerun the page."""
    task: Task = st.session_state[TASK]
    if not task.running:
        st.rerun()
    st.caption(f":material/timer: Measuring batches on random images, {duration(task.seconds)} so far.")
