"""The tables of the Compare page: results of the runs, settings in which they differ, and groups of seeds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import streamlit as st

from app import session
from app.components.form import label_of
from app.components.html_table import Markup, StaticColumn, html_table, with_label
from app.components.settings import setting_text
from app.components.states import section
from app.components.status import status_chip_html
from app.formats import EMPTY, accuracy, count, escape, interval, missing, moment, percent, plural, with_interval
from app.theme import KIND_TITLES
from engine.report.latency import SINGLE, Latencies, latencies_of, latency_columns, milliseconds
from engine.report.run_comparison import ComparedRun, RunGroup, SettingDifference, setting_differences
from engine.search.methods.registry import METHODS

MOST_SEEDS = 12

RESULTS: tuple[StaticColumn[ComparedRun], ...] = (
    StaticColumn("Run", lambda run: Markup(
        f'<a href="run?id={escape(run.id)}" target="_self">{escape(run.label)}</a><br>'
        f'<span class="rp-label">{escape(run.id)}</span>'), names_row=True, look="rp-name",
        data=lambda run: {"run": run.id, "label": run.label}),
    StaticColumn("Kind", lambda run: KIND_TITLES.get(run.kind, run.kind)),
    StaticColumn("Status", lambda run: Markup(status_chip_html(str(run.row["status"])))),
    StaticColumn("Natural", lambda run: result_html(run, "natural"), right=True,
                 data=lambda run: result_data(run, "natural")),
    StaticColumn("Adversarial", lambda run: result_html(run, "adversarial"), right=True,
                 data=lambda run: result_data(run, "adversarial") | {"protocol": run.row["protocol"]}),
    StaticColumn("Measured on", lambda run: measured_html(run), look="rp-label"),
    StaticColumn("Parameters", lambda run: count(run.row["parameters"]), right=True,
                 data=lambda run: {"parameters": run.row["parameters"]}),
    StaticColumn("MACs", lambda run: count(run.row["macs"]), right=True, data=lambda run: {"macs": run.row["macs"]}),
    StaticColumn("Launched", lambda run: moment(run.row["created"]), right=True,
                 data=lambda run: {"created_unix_s": run.row["created"]}),
)


def results(runs: Sequence[ComparedRun]) -> None:
    """Show the results of the runs. If they were measured in different ways, say that they cannot be compared."""
    section("Results")
    ways = {run.measured for run in runs if not missing(run.row["natural_accuracy"])}
    note = ("Accuracies under attack with 95 % Wilson intervals where a test split was attacked."
            + (" These accuracies were measured in different ways, so do not compare them across rows." if len(ways) > 1 else ""))
    measured = latencies_of(session.run_log())
    latency: StaticColumn[ComparedRun] = StaticColumn(
        "Latency", lambda run: latency_html(measured.get(run.id, {})), right=True,
        data=lambda run: latency_columns(measured.get(run.id, {})))
    if any(run.id in measured for run in runs):
        note += " Latency: 1 image, measured by attack runs; it compares only on one device."
        shown = [*RESULTS[:-1], latency, RESULTS[-1]]
    else:
        shown = list(RESULTS)
    st.html(html_table(shown, runs, label="Results of the compared runs", note=note))


def latency_html(measured: Latencies) -> str | Markup:
    """Return the latency of one image, with the device on a second line; a dash if the latency was not measured."""
    one = measured.get(SINGLE)
    return EMPTY if one is None else with_label(milliseconds(one.median_s), one.place)


def result_data(run: ComparedRun, name: str) -> dict[str, object]:
    """Return an accuracy of a run as columns of an exported file, with its interval and number of images."""
    return {f"{name}_{part}": run.row[f"{name}_{part}"] for part in ("accuracy", "low", "high", "images")}


def result_html(run: ComparedRun, name: str) -> str | Markup:
    """Return an accuracy of a run as HTML, with interval and number of images on a second line if it has them."""
    text, low = accuracy(run.row[f"{name}_accuracy"]), run.row[f"{name}_low"]
    if missing(low):
        return text
    return with_label(text, f"{interval(low, run.row[f'{name}_high'])}, {plural(int(run.row[f'{name}_images']), 'image')}")


def result_text(run: ComparedRun, name: str) -> str:
    """Return an accuracy of a run as text, or a dash if it was not measured.

    For a result of an attack run, the text gives the interval and the number of images. For any other accuracy, it names the
    split and says "not a result".
    """
    if missing(run.row[f"{name}_accuracy"]):
        return EMPTY
    if missing(run.row[f"{name}_low"]):
        return f"{percent(run.row[f'{name}_accuracy'])}, {run.row['accuracy_of']} split, not a result"
    value = with_interval(run.row[f"{name}_accuracy"], run.row[f"{name}_low"], run.row[f"{name}_high"])
    return f"{value}, {plural(int(run.row[f'{name}_images']), 'image')}"


def measured_html(run: ComparedRun) -> str | Markup:
    """Return how and where the accuracies of a run were measured, as HTML."""
    if missing(run.row["natural_accuracy"]):
        return EMPTY
    where = str(run.row["accuracy_of"]).removesuffix(f", {run.row['adversarial_attack']}")
    result = "" if run.kind == "attack" else "not a result"
    conditions = ", ".join(filter(None, (str(run.row["adversarial_attack"]), result)))
    return with_label(where if "split" in where else f"{where} split", conditions)


def settings(runs: Sequence[ComparedRun]) -> list[SettingDifference]:
    """Show the settings in which runs of the same kind differ, and return them."""
    section("Different settings", "of the runs and of the runs that they follow; equal settings are left out")
    differences = setting_differences(runs)
    if not differences:
        st.caption("No recorded setting differs." if len(runs) > 1 else "Choose a second run.")
        return []
    columns: list[StaticColumn[SettingDifference]] = [StaticColumn("Setting", lambda one: label_of(one.name), names_row=True)]
    columns += [StaticColumn(run.label, partial(difference_text, place), data=partial(difference_data, place, run.label))
                for place, run in enumerate(runs)]
    st.html(html_table(columns, differences, label="Settings that differ", look="rp-wrap",
                       group=lambda one: KIND_TITLES.get(one.kind, one.kind)))
    return differences


def difference_text(place: int, difference: SettingDifference) -> str:
    """Return the value of a differing setting for the run at position `place`; a dash if the run has no such setting."""
    value, method = difference.values[place], difference.methods[place]
    if difference.name == "method" and value in METHODS:
        return METHODS[value].title
    text = setting_text(difference.kind, method, difference.name, value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def difference_data(place: int, label: str, difference: SettingDifference) -> dict[str, object]:
    """Return {`label`: unshortened value of a differing setting for the run at position `place`}, for an exported file."""
    return {label: difference.values[place]}


def groups(found: Sequence[RunGroup]) -> None:
    """Show a table of groups of runs that differ only in their seed: mean and spread of the results of each group."""
    section("Seed groups", "runs with the same title and settings")
    columns: tuple[StaticColumn[RunGroup], ...] = (
        StaticColumn("Group", lambda one: with_label(one.label, KIND_TITLES.get(one.runs[0].kind, "")), names_row=True,
                     look="rp-name"),
        StaticColumn("Runs", lambda one: f"{len(one.runs)}", right=True, data=lambda one: {"runs": len(one.runs)}),
        StaticColumn("Seeds", lambda one: ", ".join("/".join(map(str, seeds)) or EMPTY
                                               for seeds in sorted(run.seeds for run in one.runs)[:MOST_SEEDS])),
        StaticColumn("Natural", lambda one: mean_html(one, "natural"), right=True,
                     data=lambda one: mean_data(one, "natural")),
        StaticColumn("Adversarial", lambda one: mean_html(one, "adversarial"), right=True,
                     data=lambda one: mean_data(one, "adversarial")))
    st.html(html_table(columns, found, label="Seed groups", note=(
        "Mean over the runs, sample standard deviation in points, and range over their search seeds. They describe these runs. A "
        "single run has its 95 % interval. Accuracies of searches and retrainings come from their alphas or select split: not a "
        "result. Groups whose runs were measured in different ways have no mean.")))


def mean_data(group: RunGroup, name: str) -> dict[str, object]:
    """Return the mean of a result over a group with its standard deviation as columns of an exported file.

    For a single run, its 95 % interval is included. The arguments are those of `mean_html`.
    """
    columns: dict[str, object] = {f"{name}_mean": group.means.get(f"{name}_accuracy"),
                                  f"{name}_standard_deviation": group.spreads.get(f"{name}_accuracy")}
    single = len(group.runs) == 1
    return columns | {f"{name}_{part}": group.runs[0].row[f"{name}_{part}"] if single else None
                      for part in ("low", "high", "images")} | {"measured_on": group.runs[0].measured}


def mean_html(group: RunGroup, name: str) -> str | Markup:
    """Return the mean of a result over a group with standard deviation and range, as HTML. For a single run, show its interval.

    Args:
        group: the group.
        name: "natural" or "adversarial".
    """
    if len(group.runs) == 1:
        return result_html(group.runs[0], name)
    column = f"{name}_accuracy"
    if column not in group.means:
        return EMPTY
    values = [run.row[column] for run in group.runs if not missing(run.row[column])]
    spread = group.spreads.get(column)
    return with_label(percent(group.means[column]), "" if spread is None else
                      f"± {100 * spread:.1f}, {interval(min(values), max(values))}")
