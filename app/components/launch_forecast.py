"""The forecast on the Launch page: time, memory and disk space of the whole launch, and the button that measures them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import streamlit as st

from app import session
from app.components.act_button import act_button
from app.components.form import FormValues
from app.components.html_table import StaticColumn, html_table, with_label
from app.components.launch_choice import Choice
from app.components.launch_grid import configuration_of
from app.components.launch_steps import steps_of
from app.components.preflight import Fact
from app.formats import EMPTY, about, duration, markdown, plural, rounded
from app.measuring import Task
from engine.acts import require
from engine.grid import Grid, Variant, variants_of
from engine.preflight.forecast import Forecast, Total, forecast, size_text
from engine.run import device
from engine.study.estimate import Durations

SOURCES = {"runs": "finished runs", "batches": "measured batches", "similar": "finished runs with other settings",
           "table": "our measurements of this preset"}
TASK = "launch.measuring"  # in the session: the task that measures batches
MOST_ROWS = 12  # rows of the table of chains


@dataclass(frozen=True)
class Row:
    """A row of the cost table: all chains of a launch that cost the same.

    Attributes:
        name: the grid's values for the first of these chains, as text.
        forecast: the forecast that all of them share.
        sets: number of sets of chains with this forecast. The chains of a set differ only in their seeds.
    """

    name: str
    forecast: Forecast
    sets: int

    @property
    def work_s(self) -> float | None:
        """Total duration in seconds of all runs of these chains; None if a duration is unknown."""
        return None if self.forecast.work_s is None else self.sets * self.forecast.work_s

    def runs(self, kind: str) -> int:
        """Return the number of runs of this kind (search, retraining or attack) in all chains of the row."""
        return self.sets * self.forecast.counts[kind]


def chains_of(choice: Choice, forms: Mapping[str, FormValues], grid: Grid) -> list[Variant]:
    """Return the chains of the launch. Chains that differ only in their seeds are one entry. If a setting is invalid, return [].

    Raises:
        ConfigError: a combination of the grid's values is not possible.
    """
    if not steps_of(choice, forms):
        return []
    return variants_of(session.runs_root(), configuration_of(choice, forms), grid, choice.source.parent)


def forecasts(chains: Sequence[Variant]) -> list[Forecast]:
    """Return the forecast for each of the chains, based on finished runs and earlier measurements."""
    known = session.hub().studies.durations()
    return [_forecast(one, known) for one in chains]


def _forecast(chain: Variant, known: Durations) -> Forecast:
    root, launch = session.runs_root(), chain.launch
    return forecast(root, chain.steps, method=launch.method, preset=launch.preset, parent=launch.parent, counts=chain.counts,
                    measure=False, durations=known)


def time_words(each: Sequence[Forecast]) -> str:
    """Return the time of a launch in words, for example "about 40 min on 2 cores"; "" if it is unknown."""
    seconds = Total(tuple(each)).seconds
    if seconds is None:
        return ""
    where = plural(device.cores(), "core") if each[0].on_cpu else plural(each[0].side_by_side, "GPU")
    words = f"up to {rounded(seconds)}" if any(one.is_upper for one in each) else about(seconds)
    return f"{words} on {where}"


def facts(each: Sequence[Forecast]) -> list[Fact]:
    """Return the forecast as facts: its numbers, their sources, and what does not fit this machine."""
    if not each:
        return []
    total = Total(tuple(each))
    parts = [time_words(each), f"{size_text(total.memory)} of memory" if total.memory else "",
             f"{size_text(total.disk)} on disk" if total.disk else ""]
    known = ", ".join(filter(None, parts))
    text = f"{known[:1].upper()}{known[1:]}" if known else "Not known for these settings yet"
    text += f", from {' and '.join(SOURCES[one] for one in total.sources)}" if known and total.sources else ""
    text += ("; this machine was too busy for a larger batch, so measure again later" if any(one.is_upper for one in each) else
             "; rough, from smaller batches" if any(one.is_rough for one in each) else
             "; rough: measure for these settings" if "similar" in total.sources else "")
    return [Fact("good" if known else "note", "Forecast", f"{text}."),
            *(Fact("bad", "Does not fit", sentence) for sentence in total.warnings(session.runs_root()))]


def chain_table(chains: Sequence[Variant], each: Sequence[Forecast]) -> None:
    """Show a table of the cost of each chain, if the chains do not all cost the same."""
    rows = distinct(chains, each)
    if len(rows) < 2:
        return
    columns: list[StaticColumn[Row]] = [
        StaticColumn("Chain", lambda row: with_label(row.name, parts_words(row)), names_row=True, look="rp-name", data=row_data),
        StaticColumn("Together", lambda row: EMPTY if row.work_s is None else _unbroken(rounded(row.work_s)), right=True,
                     data=lambda row: {"work_s": row.work_s, "memory_bytes": row.forecast.memory or None})]
    hidden = f" The first {MOST_ROWS} of {len(rows)} different chains." if len(rows) > MOST_ROWS else ""
    st.html(html_table(columns, rows[:MOST_ROWS], label="Forecast for each chain", look="rp-wrap", file="launch-forecast", note=(
        f"Number and time of the runs of each kind; a run that an earlier chain shares counts once.{hidden}")))


def parts_words(row: Row) -> str:
    """Return the number and the time of the runs of each kind, for example "search 3 × 2 min, retrain 3 × 5 min"."""
    def words(kind: str) -> str:
        seconds, count = row.forecast.costs[kind].seconds, row.runs(kind)
        time = "unknown time" if seconds is None else rounded(seconds)
        return f"{kind} {_unbroken(f'{count} × {time}') if count else 'shared'}"

    return ", ".join(map(words, row.forecast.costs))


def row_data(row: Row) -> dict[str, object]:
    """Return a row of the cost table as columns of an exported file: seconds per run and number of runs of each kind."""
    values: dict[str, object] = {"chain": row.name}
    for kind, cost in row.forecast.costs.items():
        values |= {f"{kind}_s": cost.seconds, f"{kind}_runs": row.runs(kind), f"{kind}_from": cost.source}
    return values


def _unbroken(text: str) -> str:
    """Return a text with non-breaking spaces, so that it stays on one line."""
    return text.replace(" ", "\u00a0")


def distinct(chains: Sequence[Variant], each: Sequence[Forecast]) -> list[Row]:
    """Group the chains by cost. Chains with equal costs and numbers of runs form one row, named after the first of them."""
    rows: dict[object, list[Variant]] = {}
    costs: dict[object, Forecast] = {}
    for chain, one in zip(chains, each, strict=True):
        key = tuple(one.costs.items()), tuple(one.counts.items())
        rows.setdefault(key, []).append(chain)
        costs[key] = one
    return [Row(f"{alike[0].launch.name}{f' and {len(alike) - 1} more' if len(alike) > 1 else ''}", costs[key], len(alike))
            for key, alike in rows.items()]


def measuring(choice: Choice, chains: Sequence[Variant], each: Sequence[Forecast]) -> None:
    """Show a button that measures the costs that the forecast does not know yet, and the progress of the measurement."""
    task: Task | None = st.session_state.get(TASK)
    if task is not None and task.running:
        _progress()
        return
    if task is not None and task.problem:
        st.caption(f":material/error: {markdown(task.problem)}")
    missing = [chain for chain, one in zip(chains, each, strict=True) if not one.is_complete]
    if choice.source.problem or not missing:
        return
    clicked = act_button("Measure time and memory", key="launch.measure", icon=":material/timer:",
                        help="Computes a few batches of each step on random images, in a separate process, for at most a minute "
                             "each. Steps of the same shape are measured once, whatever their epochs and seeds. The dataset need "
                             "not be here. The result is kept.")
    if clicked:
        require("runner")
        root, cached = session.runs_root(), session.hub().studies.durations()

        def work(report: object) -> None:
            for one in missing:
                forecast(root, one.steps, method=one.launch.method, preset=one.launch.preset, parent=one.launch.parent,
                         measure=True, durations=cached)

        st.session_state[TASK] = Task(work)
        st.rerun()


@st.fragment(run_every=1.0)
def _progress() -> None:
    """Show the elapsed time of the measurement. Rerun the page when the measurement has ended."""
    task: Task = st.session_state[TASK]
    if not task.running:
        st.rerun()
    st.caption(f":material/timer: Measuring batches on random images, {duration(task.seconds)} so far.")
