"""The charts of the Compare page: curves of many runs in one plot, and parallel coordinates of settings and results."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import streamlit as st

from app import address, session
from app.charts.categories import looks_of
from app.charts.comparison import (
    MOST_LINES,
    Coordinate,
    Line,
    numbers_axis,
    overlay_figure,
    parallel_figure,
    words_axis,
)
from app.charts.data import coordinates_frame
from app.components.compare_tables import difference_text, result_text
from app.components.form import label_of
from app.components.live_plot import live_plot
from app.components.states import section
from app.formats import capitalised, count, markdown, missing, percent, plural
from app.theme import KIND_TITLES
from engine.log.training_queries import EVERY
from engine.report.latency import SINGLE, latencies_of, milliseconds
from engine.report.run_comparison import ComparedRun, RunGroup, SettingDifference

ALL_POINTS = 30_000  # of all lines together
MOST_PER_RUN = 2000
MOST_AXES = 7
FIRST_METRICS = ("natural_accuracy", "adversarial_accuracy", "train_loss")
POINTS = {"epoch": "Each point is the mean of one epoch.",
          "step": "Each point is one step; of long runs, the smallest and the largest value of neighbouring steps are kept."}
RESULT_AXES = (("natural_accuracy", "Natural accuracy"), ("adversarial_accuracy", "Adversarial accuracy"),
               ("parameters", "Parameters"), ("macs", "MACs"))


def lines_of(runs: Sequence[ComparedRun], groups: Sequence[RunGroup]) -> list[Line]:
    """Return one line per run.

    If there are few runs, each line has its own look. Otherwise, the lines of runs that differ only in their seed share a look.
    """
    if len(runs) <= MOST_LINES:
        return [Line(run.id, run.label, run.label) for run in runs]
    group_of = {run.id: group.label for group in groups for run in group.runs}
    return [Line(run.id, run.label, group_of[run.id]) for run in runs]


def curves(runs: Sequence[ComparedRun], groups: Sequence[RunGroup]) -> None:
    """Show one metric of all runs in one plot. An attack run is represented by the retraining of its network."""
    section("Curves", "one metric of all runs")
    sources = {run.id: str(run.row["parent"]) if run.kind == "attack" and run.row["parent"] else run.id for run in runs}
    log = session.run_log()
    known = log.metrics_of(list(sources.values()))
    if known.empty:
        st.caption("None of these runs has recorded a metric yet.")
        return
    ranked = sorted(known.itertuples(), key=lambda one: FIRST_METRICS.index(one.name) if one.name in FIRST_METRICS else 9)
    options = {f"{one.name}.{one.split}.{one.statistics}": f"{capitalised(one.name.replace('_', ' '))}, {one.split} split"
               f"{', batch statistics' if one.statistics == 'batch' and one.split != 'weights' else ''} "
               f"({one.runs} of {len(set(sources.values()))})" for one in ranked}
    left, right, _ = st.columns([2, 1.4, 2], vertical_alignment="bottom")
    chosen = address.selectbox(left, "Metric", options, name="metric", key="compare.metric",
                               help="In brackets, the number of runs that recorded it.")
    with right:
        unit = address.segmented("Points", {"epoch": "Mean of each epoch", "step": "Steps"}, name="points", key="compare.points",
                                 label_visibility="collapsed")
    name, split, statistics = chosen.split(".")
    most = max(20, min(MOST_PER_RUN, ALL_POINTS // len(runs)))
    frame = log.overlay(list(sources.values()), name, split, statistics, most, by_epoch=unit == "epoch")
    lines = [Line(sources[line.run], line.label, line.group) for line in lines_of(runs, groups)]
    lines = list({line.run: line for line in lines}.values())
    live_plot(overlay_figure(frame, lines, looks_of(line.group for line in lines), name, unit),
              key=f"compare_curves_{chosen}_{unit}",
              height=400, label=f"{options[chosen]} of {plural(len(lines), 'run')} over the {unit}s",
              file=f"compare-{name.replace('_', '-')}-{split}-by-{unit}",
              data=lambda: log.overlay(list(sources.values()), name, split, statistics, EVERY, by_epoch=unit == "epoch").assign(
                  metric=name, split=split, statistics=statistics))
    parts = [POINTS[unit]]
    if any(run.kind == "attack" for run in runs):
        parts.append("An attack is shown by the retraining of its network.")
    st.caption(markdown(" ".join(parts)))


def coordinates(runs: Sequence[ComparedRun], groups: Sequence[RunGroup], differences: Sequence[SettingDifference]) -> None:
    """Show parallel coordinates of the settings that differ and of the results."""
    section("Parallel coordinates", "settings that differ, and results")
    axes = [*settings_axes(len(runs), differences)[:MOST_AXES], *result_axes(runs)]
    if len(runs) < 2 or len(axes) < 2:
        st.caption("Appears when two runs differ in a setting or have results.")
        return
    lines = lines_of(runs, groups)
    live_plot(parallel_figure(axes, lines, looks_of(line.group for line in lines)), key="compare_coordinates", height=400,
              label=f"Settings and results of {plural(len(runs), 'run')} as parallel coordinates",
              file="compare-settings-and-results",
              data=partial(coordinates_frame, axes, [Line(run.id, run.label, run.label) for run in runs]))
    hidden = max(0, len(differences) - MOST_AXES)
    st.caption("Each line is a run. Axes of numbers run from the smallest to the largest value of these runs."
               + (f" {plural(hidden, 'further setting')} {'is' if hidden == 1 else 'are'} in the table above." if hidden else ""))


def settings_axes(runs: int, differences: Sequence[SettingDifference]) -> list[Coordinate]:
    """Return one axis per differing setting.

    If a setting has the same values in two kinds of run, for example search and retraining, both share one axis.

    Args:
        runs: number of compared runs.
        differences: the settings in which the runs differ.
    """
    axes = []
    for one in {(one.name, repr(one.values)): one for one in reversed(differences)}.values():
        texts = [difference_text(place, one) for place in range(runs)]
        numbers = [None if value is None or isinstance(value, bool) or not isinstance(value, (int, float)) else float(value)
                   for value in one.values]
        known = [value for value in one.values if value is not None]
        is_number = bool(known) and sum(number is not None for number in numbers) == len(known)
        title = f"{KIND_TITLES[one.kind]}: {label_of(one.name)}"
        axes.append(numbers_axis(title, numbers, texts) if is_number else words_axis(title, texts))
    return axes[::-1]


def result_axes(runs: Sequence[ComparedRun]) -> list[Coordinate]:
    """Return one axis for each quantity, such as the adversarial accuracy, that was measured for at least one of the runs.

    If the runs measured accuracies in different ways, the accuracies are left out. If latencies were measured on several devices,
    the latency is left out.
    """
    alike = len({run.measured for run in runs}) == 1
    axes = []
    for name, title in RESULT_AXES:
        values = [None if missing(run.row[name]) else float(run.row[name]) for run in runs]
        is_accuracy = name.endswith("accuracy")
        if any(value is not None for value in values) and (alike or not is_accuracy):
            texts = [result_text(run, name.removesuffix("_accuracy")) if is_accuracy else count(run.row[name]) for run in runs]
            axes.append(numbers_axis(title, values, texts, percent if is_accuracy else count))
    return axes + latency_axes(runs)


def latency_axes(runs: Sequence[ComparedRun]) -> list[Coordinate]:
    """Return a list with one axis: the latency of the attacked networks for a single image.

    The list is empty if no latency was measured, or if latencies were measured on several devices.
    """
    measured = latencies_of(session.run_log())
    latencies = [measured.get(run.id, {}).get(SINGLE) for run in runs]
    if len({one.place for one in latencies if one}) != 1:
        return []
    seconds = [one.median_s if one else None for one in latencies]
    return [numbers_axis("Latency, 1 image", seconds, ["–" if value is None else milliseconds(value) for value in seconds],
                         milliseconds)]
