"""The Pareto page. It compares attacked networks in two or three measures, such as accuracy and size, and shows their front.

Below, it compares methods at equal numbers of runs, and plots the accuracies that searches recorded in their epochs.
"""

from __future__ import annotations

import pandas as pd
import streamlit as st

from app import address, evaluations, session
from app.charts.search_epochs import MOST_TRAILS, epochs_figure
from app.components.live import live_panel
from app.components.live_plot import live_plot
from app.components.pareto_networks import networks
from app.components.pareto_ranking import ranking
from app.components.pareto_runs import by_runs
from app.components.plot_picks import picked
from app.components.states import LAUNCH_PAGE, empty_state, heading, section
from app.formats import dataset_title, epsilon, network_labels, plural
from engine.attack.catalogue import NATURAL
from engine.report.robustness import RobustnessTable
from engine.search.methods.registry import METHODS


@live_panel("robustness", key="pareto_networks")
def attacked() -> None:
    """Show a selector of protocols, and everything about the networks that were attacked under the selected protocol."""
    section("Attacked networks", "retrained networks, test split")
    tables = evaluations.tables()
    if not tables:
        empty_state("No attacked network yet", "When an attack finishes, its network appears here as one point: natural "
                    "accuracy to the right, adversarial accuracy upwards.", "Only networks attacked under one protocol share a "
                    "plot.", link=LAUNCH_PAGE, link_label="Launch a search, retraining and attack")
        return
    names = {one.protocol: protocol_name(one) for one in tables}
    left, _ = st.columns([3, 1])
    chosen = address.selectbox(
        left, "Protocol", names, name="protocol", key="pareto.protocol", also=lambda: address.choose(selected="", runs=""),
        help="The attacks with their settings, and the images. Networks are compared only under one protocol.")
    front = networks(next(one for one in tables if one.protocol == chosen))
    if front.rows:
        by_runs(front)
        accuracy = next((one for one in reversed(front.objectives) if one.is_accuracy and one.name != NATURAL), None)
        if accuracy is not None:
            ranking(front, accuracy)


def protocol_name(table: RobustnessTable) -> str:
    """Return the text of a protocol in the selector."""
    return " · ".join((dataset_title(table.dataset) or "Unknown dataset", table.title, plural(len(table.rows), "network"),
                       table.protocol[:6]))


def search_names(frame: pd.DataFrame) -> dict[str, str]:
    """Return {group name: label}, with one entry per group of comparable searches. The group with the most searches comes first.

    Args:
        frame: table from `RunLog.pareto_epochs`.
    """
    first = frame.groupby("group", sort=False).agg(dataset=("dataset", "first"), attack=("attack_title", "first"),
                                                   epsilon=("epsilon", "first"), searches=("run", "nunique"))
    first = first.sort_values("searches", ascending=False)
    return {str(group): f"{dataset_title(row.dataset)} · {row.attack} · epsilon {epsilon(row.epsilon)}"
            for group, row in zip(first.index, first.itertuples())}


@live_panel("runs", key="pareto_epochs")
def epochs() -> None:
    """Show a selector of groups of comparable searches, and plot natural against adversarial accuracy for the selected group.

    Searches are comparable if they have the same dataset, split and attack. A marker is the latest epoch of a search. Lines
    show the earlier epochs of the selected searches or, without a selection, of the newest searches.
    """
    section("Search epochs", "supernets, alphas split, batch statistics")
    frame = session.run_log().pareto_epochs()
    if frame.empty:
        empty_state("No search epoch yet", "Every search leaves a trail here: one point per epoch, natural accuracy to the "
                    "right, adversarial accuracy under its own attack upwards.")
        return
    names = search_names(frame)
    left, _ = st.columns([2, 3])
    chosen = next(iter(names)) if len(names) == 1 else address.selectbox(
        left, "Attack in the search", names, name="searches", key="pareto.epochs",
        also=lambda: address.choose(trails=""))
    rows = frame[frame["group"] == chosen]
    first = rows.drop_duplicates("run")
    labels = dict(zip(first["run"], network_labels(list(first["title"]), list(first["run"]))))
    rows = rows.assign(label=rows["run"].map(labels), kind=[method_title(one) for one in rows["method"]])
    trails = address.several("trails", list(first["run"]))
    key = f"pareto_epochs_{list(names).index(chosen)}"
    live_plot(epochs_figure(rows, "Adversarial", trails), height=440, key=key, file="pareto-search-epochs", data=lambda: rows,
              label="Natural versus adversarial accuracy of each search")
    if clicked := picked(key):
        address.choose(trails=[run for run in trails if run != clicked] if clicked in trails else [*trails, clicked])
        st.rerun(scope="fragment")
    st.caption(epochs_words(len(first), names[chosen], len(trails)))


def method_title(name: str) -> str:
    """Return the title of a search method, or its name if this version does not know the method."""
    return METHODS[name].title if name in METHODS else name


def epochs_words(searches: int, group: str, chosen: int) -> str:
    """Return the explanation below the plot of searches.

    Args:
        searches: number of searches.
        group: name of the group of searches.
        chosen: number of searches that the reader has selected.
    """
    trails = ("the selected searches" if chosen else "each search" if searches <= MOST_TRAILS else
              f"the newest {MOST_TRAILS} searches")
    return (f"{'1 search' if searches == 1 else f'{searches:,} searches'}: {group}. A marker is the latest epoch of a search, "
            f"lines are the course of {trails}; click searches to select them. A supernet shares its weights among all "
            "architectures and is measured with batch statistics, so these numbers show the course of a search and are not a "
            "result: the network that it finds is measured by an attack run.")


heading("Pareto", "Attacked networks in two or three measures, and the networks that are best in all of them at once.")
attacked()
epochs()
