"""The Robustness page. It shows the networks attacked under one protocol (the attacks with their settings, and the images).

Below the table of networks, the page shows:

* a comparison of the networks that the reader has picked,
* the details of the selected network,
* the test ledger, a list of every time that a run opened a test split.

The page's address holds all choices of the reader.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from app import address, evaluations, recipes, session
from app.charts.robustness import height_of, intervals_figure
from app.components.attack_more import attack_more
from app.components.downloads import download_buttons
from app.components.export_table import file_name, further_files, report_file, table_frame
from app.components.html_table import StaticColumn, html_table
from app.components.live import live_panel
from app.components.live_plot import live_plot
from app.components.network_comparison import comparison, sweeps
from app.components.network_detail import jump_html, measurements, other_evaluations, picture, reliability, title_html
from app.components.network_filter import visible
from app.components.network_images import images
from app.components.protocol import choose_protocol
from app.components.published import published
from app.components.robustness_table import about_of, columns_of, rows_of
from app.components.states import LAUNCH_PAGE, RUN_PAGE, empty_state, heading, section
from app.components.table import UNSORTED, orders_of, table
from app.components.transfers import transfers
from app.formats import coarse, dataset_title, escape, markdown, missing, moment, percent, times, unequal_sizes
from engine.errors import RunLogError
from engine.report.robustness import NetworkRow, RobustnessTable, evaluations_of

MOST_OPENINGS = 100  # most rows of the test ledger
MOST_INTERVALS = 20  # most networks in the chart of intervals
MOST_LETTERS = 16  # letters of one network that fit in the table
FIRST_ROWS = 30  # networks in the table until the reader asks for more
STATES = {"queued": "attack waiting", "running": "attack running", "stopping": "attack stopping", "stopped": "attack stopped",
          "failed": "attack failed", "finished": "attack finished"}
BEFORE_RESULTS = {"running": "Starting, without a result yet", "queued": "Waiting to attack",
                  "failed": "Failed before the first result", "stopped": "Stopped before the first result"}
MOST_LINKS = 5
LEDGER: tuple[StaticColumn[Any], ...] = (
    StaticColumn("Opening", lambda row: row.opening, right=True, data=lambda row: {"opening": row.opening}),
    StaticColumn("Network", lambda row: row.title, names_row=True, look="rp-name"),
    StaticColumn("Run", lambda row: row.run),
    StaticColumn("Dataset", lambda row: dataset_title(row.dataset)),
    StaticColumn("Images", lambda row: f"{row.images:,}", right=True, data=lambda row: {"images": row.images}),
    StaticColumn("Purpose", lambda row: row.purpose),
    StaticColumn("Attempt", lambda row: row.attempt, right=True, data=lambda row: {"attempt": row.attempt}),
    StaticColumn("When", lambda row: moment(row.t), right=True, data=lambda row: {"time_unix_s": row.t}),
)


@live_panel("robustness", key="robustness_networks")
def networks() -> None:
    """Show the content of the page below the heading."""
    tables = evaluations.tables()
    runs = session.run_log().runs()
    attack_runs = runs.query("kind == 'attack'").set_index("id")
    if not tables:
        empty_state("No attacked network yet", "When an attack run begins, its network appears here: its natural accuracy "
                    "and its accuracy under each attack, with 95 % intervals, next to the cells it was built from.",
                    link=LAUNCH_PAGE, link_label="Launch a search, retraining and attack")
        without_results(attack_runs, tables)
        ledger()
        return
    shown, other = asked_network(tables)
    chosen = choose_protocol(tables, shown)
    states = {row.run: state_words(attack_runs.loc[row.run]) for row in chosen.rows
              if not row.complete and row.run in attack_runs.index}
    listed = main_table(chosen, states)
    without_results(attack_runs, tables)
    attack_more(chosen, runs)
    picked = [row for run in address.several("compare") if (row := chosen.row(run))]
    comparison(chosen, picked)
    if picked:
        sweeps(picked)
    detail(chosen, other)
    transfers(chosen)
    intervals(chosen, picked or listed)
    published(chosen.dataset)
    ledger()


def asked_network(tables: list[RobustnessTable]) -> tuple[RobustnessTable, NetworkRow | None]:
    """Return the robustness table that contains the attack run named in the page's address.

    Returns:
        The table of the protocol of this attack run. If the page's address names no known run, the first of `tables`.
        The row of this attack run if the table does not list it, because a newer run has attacked the same network under the
            same protocol; else None.
    """
    run = st.query_params.get("run", "")
    for one in tables:
        if one.row(run):
            return one, None
    everything = session.run_log().evaluations()
    asked = everything[everything["run"] == run]
    for one in tables:
        if not asked.empty and asked["protocol"].iloc[0] == one.protocol:
            same = evaluations_of(session.run_log(), str(asked["network"].iloc[0]), one.protocol)
            return one, next(row for row in same if row.run == run)
    return tables[0], None


def state_words(run: pd.Series) -> str:
    """Return the state of an incomplete attack run in words, for example "attack running, 42 % done"."""
    words = STATES.get(run["status"], str(run["status"]))
    if run["status"] == "running" and not missing(run["silent_s"]) and run["silent_s"] >= 60:
        return f"{words}, no news for {coarse(run['silent_s'])}"
    return words if missing(run["progress"]) else f"{words}, {percent(run['progress'], 0)} done"


def intervals(chosen: RobustnessTable, rows: list[NetworkRow]) -> None:
    """Draw a chart of the confidence intervals of the networks in `rows`, at most `MOST_INTERVALS` of them."""
    shown = rows[:MOST_INTERVALS]
    total = len(chosen.rows)
    section("Intervals", "a point is the accuracy, its bar the 95 % Wilson interval"
            + ("" if len(shown) == total else f"; {len(shown)} of {total:,} networks: tick or search in the table for others"))
    live_plot(intervals_figure(chosen.columns, shown), key=f"robustness_intervals_{chosen.protocol}",
              height=height_of(len(shown)), label="Accuracy under each attack with 95 % intervals",
              file=f"{file_name(chosen)}-intervals", data=partial(table_frame, chosen))


def main_table(chosen: RobustnessTable, states: dict[str, str]) -> list[NetworkRow]:
    """Show the table of networks, store the reader's clicks in the page's address, and return the listed networks.

    Args:
        chosen: the robustness table.
        states: {run: state of its evaluation in words}, with an entry for each incomplete evaluation.
    """
    letters = letters_of(chosen)
    known = [row.run for row in chosen.rows]
    compared, folded = address.several("compare", known), address.several("folded")
    columns = columns_of(chosen, letters)
    listed = visible(chosen.rows, first=FIRST_ROWS, keep=[*compared, selected_row(chosen).run], key="robustness")
    action = table(columns,
                   rows_of(chosen, letters, {row.run: recipes.recipe(row) for row in listed}, states, compared, folded,
                           {row.run for row in listed}),
                   key=f"robustness_{chosen.protocol}", label=f"Networks attacked under protocol {chosen.protocol}",
                   selected=selected_row(chosen).run, sort=address.chosen("sort", orders_of(columns), UNSORTED),
                   file=file_name(chosen), data=partial(table_frame, chosen), further=further_files(chosen))
    if action.opened:
        st.switch_page(RUN_PAGE, query_params={"id": action.opened})
    changed = {"compare": toggled(compared, action.picked), "folded": toggled(folded, action.folded)}
    if action.clicked or action.picked or action.folded or action.sort:
        further = {name: value for name, value in (("run", action.clicked), ("sort", action.sort)) if value}
        address.choose(protocol=chosen.protocol, **changed, **further)
        st.rerun(scope="fragment")
    st.html(jump_html(selected_row(chosen)))
    meanings = " ".join(f"{one.title}: {about_of(one)}" for one in chosen.columns if one.name in ("autoattack", "worst-case"))
    sizes = unequal_sizes(pd.DataFrame([{"parameters": row.parameters, "macs": row.macs} for row in chosen.rows], dtype="float"))
    st.caption(" ".join(filter(None, (
        "Each number is the share of test images that are still classified correctly, with its 95 % Wilson interval below.",
        meanings, sizes))))
    return listed


def toggled(values: list[str], one: str | None) -> list[str]:
    """Return `values` without `one` if it is among them, else with `one` appended. If `one` is None, return them unchanged."""
    if one is None:
        return values
    return [value for value in values if value != one] if one in values else [*values, one]


def letters_of(chosen: RobustnessTable) -> dict[str, str]:
    """Return {run: letters of its network}, or {} if fewer than two networks can be compared.

    If two networks share a letter, the paired test finds no difference between their worst-case accuracies.
    """
    if sum(row.complete for row in chosen.rows) < 2:
        return {}
    try:
        letters = evaluations.letters(chosen)
    except RunLogError as error:
        st.caption(f"The networks cannot be compared: {markdown(error)}")
        return {}
    if max(map(len, letters.values()), default=0) > MOST_LETTERS:
        st.caption("There are too many networks for letters. Tick networks to test them in pairs.")
        return {}
    return letters if len(letters) > 1 else {}


def selected_row(chosen: RobustnessTable) -> NetworkRow:
    """Return the row of the network to show in detail.

    It is the first of these that exists:

    * the row of the run in the page's address,
    * a row of the same network as that run,
    * the first row of the table.
    """
    run = st.query_params.get("run", "")
    if row := chosen.row(run):
        return row
    everything = session.run_log().evaluations()
    network = everything.loc[everything["run"] == run, "network"]
    return next((row for row in chosen.rows if row.network in set(network)), chosen.rows[0])


def detail(chosen: RobustnessTable, other: NetworkRow | None) -> None:
    """Show the details of the selected network.

    Args:
        chosen: the robustness table.
        other: row of an older evaluation to show in place of the newest one. It is ignored unless it belongs to the selected
            network.
    """
    selected = selected_row(chosen)
    shown = replace(other, label=selected.label) if other is not None and other.network == selected.network else selected
    st.html(title_html(shown))
    if shown is not selected:
        st.caption("An older evaluation of this network. The table shows the newest complete one.")
    left, right = st.columns([1.25, 1], gap="large")
    has_cells = shown.genotype is not None and not shown.hand_made
    with left:
        measurements(shown)
        if has_cells:
            reliability(shown)
        if shown.complete:
            download_buttons([report_file(shown.run)], key=f"report_{shown.run}")
        if selected.repeats:
            same = evaluations_of(session.run_log(), selected.network, chosen.protocol)
            other_evaluations(shown, [row for row in same if row.run != shown.run])
    with right:
        picture(shown, key="robustness_graph")
        if not has_cells:  # the checks fill the place of the cells
            reliability(shown)
    if not address.several("compare", [row.run for row in chosen.rows]):
        sweeps([shown])
    images(shown, chosen)


def without_results(attack_runs: pd.DataFrame, tables: list[RobustnessTable]) -> None:
    """List the attack runs that are in no table because they wait, have just started, or ended before their first result."""
    known = set(session.run_log().evaluations()["run"])
    for status, words in BEFORE_RESULTS.items():
        runs = [run for run in attack_runs.index[attack_runs["status"] == status] if run not in known]
        if runs:
            links = ", ".join(f'<a href="run?id={escape(run)}" target="_self">{escape(run)}</a>' for run in runs[:MOST_LINKS])
            more = f" and {len(runs) - MOST_LINKS} more" if len(runs) > MOST_LINKS else ""
            st.html(f'<p class="rp-note">{words}: {links}{more}.</p>')


def ledger() -> None:
    """Show the test ledger, which lists every time that a run opened a test split, newest first."""
    openings = session.run_log().test_openings()
    section("Test ledger", "every opening of a test split")
    if openings.empty:
        st.caption("No test split has been opened. Searches and retrainings never open it: they choose on the select split.")
        return
    st.caption(f"The test split has been opened {times(len(openings))}. The more often it is opened, the less a later "
               "choice can be trusted. Report this number with the results.")
    with st.expander("All openings", expanded=len(openings) <= 5):
        st.html(html_table(LEDGER, openings.iloc[::-1].head(MOST_OPENINGS).itertuples(), label="Test ledger"))


heading("Robustness", "The accuracy of each network under attack, measured on the test split.")
networks()
