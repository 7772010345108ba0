"""The comparison of the networks that the reader has picked: paired tests, different settings, cells and accuracy curves."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd
import streamlit as st

from app import address, evaluations, recipes, session
from app.charts.sweeps import sweep_figure
from app.components.form import label_of
from app.components.html_table import StaticColumn, html_table
from app.components.live_plot import live_plot
from app.components.network_detail import pictures
from app.components.settings import setting_text
from app.components.states import section
from app.formats import escape, markdown, missing, plural
from app.theme import KIND_TITLES
from engine.attack.catalogue import WORST
from engine.attack.protocol import NORM_TITLES
from engine.attack.statistics import wilson
from engine.errors import RunLogError
from engine.report.robustness import NetworkRow, RobustnessTable
from engine.report.sweeps import curves

MOST_CELLS = 4  # most networks whose cells are drawn side by side
SWEEP_TITLES = {"epsilon": "Accuracy against radius", "steps": "Accuracy against steps"}


def comparison(table: RobustnessTable, rows: Sequence[NetworkRow]) -> None:
    """Show the comparison of the networks that the reader has picked in a robustness table.

    `rows` are the rows of the picked networks. If there are fewer than two, show only a sentence that says how to pick networks.
    """
    if len(rows) < 2:
        if len(table.rows) > 1:
            st.caption("Tick two or more networks in the table to compare them: paired test on the same images, settings, cells.")
        return
    section("Comparison", plural(len(rows), "picked network"))
    tests(table, rows)
    settings(rows)
    section("Cells side by side")
    pictures(rows, most=MOST_CELLS, key="robustness_compared", noun="picked network")


def tests(table: RobustnessTable, rows: Sequence[NetworkRow]) -> None:
    """Show the result of the paired test of every two picked networks as a sentence. The reader selects the attack."""
    columns = {column.name: column.title for column in reversed(table.columns)}
    left, _ = st.columns([1, 3])
    column = address.selectbox(left, "Compare under", {WORST: columns[WORST], **columns}, name="column", key="robustness.column")
    try:
        result = evaluations.comparison(table, column)
    except RunLogError as error:
        st.caption(f"The networks cannot be compared: {markdown(error)}")
        return
    labels = {row.label for row in rows}
    shown = [one for one in result.comparisons if {one.first, one.second} <= labels]
    if not shown:
        st.caption("A paired test needs two complete evaluations that recorded an outcome per image.")
        return
    items = "".join(f"<li>{escape(one.sentence())}.</li>" for one in shown)
    st.html(f'<ul class="rp-sentences">{items}</ul>')
    pairs = len(result.comparisons)
    adjusted = f"Holm-adjusted over all {pairs:,} pairs of this table" if pairs > 1 else "the only pair of this table"
    st.caption(f"Exact McNemar test on the {result.images:,} images that all networks share, {adjusted}, level 5 %. In brackets, "
               "the 95 % interval of the difference (Newcombe), of this pair alone. The sentences are about these checkpoints, "
               "not about their methods.")


def settings(rows: Sequence[NetworkRow]) -> None:
    """Show a table of the search and retraining settings that are not equal for all picked networks."""
    section("Different settings", "of the search and the retraining")
    differences = recipes.different_settings(rows)
    words = {"search": "search", "retrain": "retraining"}
    lacking = [f"No {word} is recorded for {', '.join(labels)}." for kind, word in words.items()
               if (labels := recipes.without(rows, kind))]
    if not differences:
        st.caption(markdown(" ".join(["No recorded setting differs.", *lacking])))
        return
    columns: list[StaticColumn[recipes.Difference]] = [StaticColumn("Setting", lambda one: label_of(one.name), names_row=True)]
    columns += [StaticColumn(row.label, partial(_value, number), data=partial(_data, number, row.label))
                for number, row in enumerate(rows)]
    st.html(html_table(columns, differences, label="Settings that differ", look="rp-wrap",
                       group=lambda one: KIND_TITLES.get(one.kind, one.kind), note=" ".join(lacking)))


def _value(number: int, difference: recipes.Difference) -> str:
    return setting_text(difference.kind, difference.methods[number], difference.name, difference.values[number])


def _data(number: int, label: str, difference: recipes.Difference) -> dict[str, object]:
    return {label: difference.values[number]}


def sweeps(rows: Sequence[NetworkRow]) -> None:
    """Draw the measured curves of accuracy against radius and of accuracy against number of steps, in one chart per norm."""
    all_curves = curves(session.run_log().sweeps([row.run for row in rows]), {row.run: row.label for row in rows})
    kinds = dict.fromkeys((curve.sweep, curve.norm) for curve in all_curves)
    for sweep, norm in kinds:
        shown = [curve for curve in all_curves if (curve.sweep, curve.norm) == (sweep, norm)]
        section(SWEEP_TITLES.get(sweep, sweep), NORM_TITLES.get(norm, norm))
        live_plot(sweep_figure(shown), key=f"robustness_sweep_{sweep}_{norm}_{rows[0].run}", height=380,
                  label=f"{SWEEP_TITLES.get(sweep, sweep)} with 95 % intervals",
                  data=partial(swept, [row.run for row in rows], sweep, norm), file=f"{rows[0].run}-sweep-{sweep}-{norm}")
        words = [critical_words(row, norm) for row in rows] if sweep == "epsilon" else []
        st.caption(" ".join((*filter(None, words), "Lines and marks are accuracies on the test split, with 95 % Wilson "
                             "intervals.")))


def swept(runs: Sequence[str], sweep: str, norm: str) -> pd.DataFrame:
    """Return rows of `RunLog.sweeps` with three further columns: accuracy, low and high (the ends of its Wilson interval).

    Args:
        runs: ids of the attack runs.
        sweep: "epsilon" for accuracy against radius, "steps" for accuracy against number of steps.
        norm: norm of the attack.
    """
    found = session.run_log().sweeps(runs)
    shown = found[(found["sweep"] == sweep) & (found["norm"] == norm)]
    bounds = [wilson(int(one.correct), int(one.images)) for one in shown.itertuples()]
    return shown.assign(accuracy=shown["correct"] / shown["images"], low=[low for low, _ in bounds],
                        high=[high for _, high in bounds])


def critical_words(row: NetworkRow, norm: str) -> str:
    """Return a sentence giving the median critical epsilon of a network in this norm, or "" if it was not measured.

    The median critical epsilon is the radius at which the attack breaks half of the images.
    """
    measured = session.run_log().critical_epsilons(row.run)
    measured = measured[measured["norm"] == norm]
    if measured.empty or missing(measured["median"].iloc[0]):
        return ""
    one = measured.iloc[0]
    known = not missing(one["low"]) and not missing(one["high"])
    interval = f" (95 % {one['low']:.4g} to {one['high']:.4g})" if known else ""
    return (f"{row.label}: under {one['title']}, half of the {one['images']:,} images have fallen at radius "
            f"{one['median']:.4g}{interval}.")
