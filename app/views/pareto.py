"""Pareto: natural versus adversarial accuracy of attacked networks, and, apart from them, of search epochs."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from app import session
from app.charts.pareto import QUANTITIES, epochs_figure, networks_figure
from app.components.formats import epsilon
from app.components.live import live_panel
from app.components.live_plot import live_plot
from app.components.measure import network_labels, unequal_sizes
from app.components.states import LAUNCH_PAGE, empty_state, heading, section
from engine.data.catalogue import DATASETS

COLOURS = {"front": "front or dominated", "method": "method", **QUANTITIES}
SIZES = {"": "all the same", **QUANTITIES}


def group_names(frame: pd.DataFrame) -> dict[str, str]:
    """Group -> what a reader calls it; the strongest attack and the largest group first.

    Groups that would read alike (same attack, other images or settings) are told apart by their fingerprint.
    """
    first = frame.groupby("group", sort=False).agg(
        dataset=("dataset", "first"), title=("attack_title", "first"), epsilon=("epsilon", "first"),
        images=("images", "first"), print=("fingerprint", "first"), count=("run", "size"), accuracy=("adversarial", "mean"))
    first = first.sort_values(["count", "accuracy"], ascending=[False, True])
    return {str(group): f"{row.title} · {dataset_title(row.dataset)} · ε {epsilon(row.epsilon)} · {row.images:,} images · "
                        f"{row.count} network{'s' if row.count != 1 else ''} · {row.print[:6]}"
            for group, row in zip(first.index, first.itertuples())}


def dataset_title(name: str) -> str:
    """A dataset as the page calls it; the bare name when it is not known here."""
    return DATASETS[name].title if name in DATASETS else name


def attack_words(attack: str, title: str) -> str:
    """An attack inside a sentence."""
    return "the worst case of every attack, image by image," if attack == "worst-case" else title


def networks_sentence(rows: pd.DataFrame) -> str:
    """What the plot of one group shows, in plain words."""
    first, count, front = rows.iloc[0], len(rows), int(rows["is_front"].sum())
    what = "1 attacked network" if count == 1 else f"{count} attacked networks"
    verdict = ("Alone it is its own front: attack a second network to compare." if count == 1 else
               f"{front} of them {'is' if front == 1 else 'are'} on the front: no other is at least as accurate on both axes and "
               "better on one.")
    natural = int(first["natural_images"])
    attack = attack_words(str(first["attack"]), str(first["attack_title"]))
    return (f"{what} under {attack} within an L-infinity ball of radius {epsilon(first['epsilon'])} (pixels from "
            f"0 to 1), on the same {int(first['images']):,} images of the test split; natural accuracy on {natural:,}. {verdict} "
            "The bars are 95 % Wilson intervals: points whose bars overlap may not differ. "
            "Each point is this checkpoint, not its method.")


@live_panel("runs", key="pareto_networks")
def networks() -> None:
    """Attacked networks, one group of equal fingerprints at a time."""
    section("Attacked networks", "retrained networks, test split")
    frame = session.run_log().pareto_networks()
    if frame.empty:
        empty_state("No attacked network yet", "When an attack finishes, its network appears here as one point: accuracy on "
                    "unchanged images to the right, accuracy under attack upwards.", "Only networks that were attacked in the "
                    "same way, on the same images, share a plot.",
                    link=LAUNCH_PAGE, link_label="Launch a search, retraining and attack")
        return
    names = group_names(frame)
    if st.session_state.get("pareto.group") not in names:
        st.session_state["pareto.group"] = next(iter(names))
    choice, size, colour, rest = st.columns([3.2, 1.6, 1.6, 1.3], vertical_alignment="bottom")
    chosen = choice.selectbox("Attack", list(names), key="pareto.group", format_func=names.get, persist_state="session",
                              help="One entry per fingerprint: attack, settings, library and images. Networks of different "
                                   "fingerprints are never drawn together.")
    sizes = size.selectbox("Marker size", list(SIZES), format_func=SIZES.get, key="pareto.size", persist_state="session")
    colours = colour.selectbox("Colour", list(COLOURS), format_func=COLOURS.get, key="pareto.colour", persist_state="session")
    dominated = rest.toggle("Dominated", value=True, key="pareto.dominated", persist_state="session",
                            help="Show networks that another one beats on both axes.")
    rows = frame[frame["group"] == chosen]
    rows = rows.assign(label=network_labels(list(rows["title"]), list(rows["run"])))
    attack = str(rows["attack_title"].iloc[0])
    live_plot(networks_figure(rows, attack, size=sizes, colour=colours, dominated=dominated), height=480,
              key=f"pareto_networks_{rows['fingerprint'].iloc[0]}",
              label=f"Natural versus {attack} accuracy of attacked networks")
    st.caption(f"{networks_sentence(rows)} {unequal_sizes(rows if dominated else rows[rows['is_front']])}")


@live_panel("runs", key="pareto_epochs")
def epochs() -> None:
    """The trail of each search."""
    section("Search epochs", "supernets, alphas split, batch statistics")
    frame = session.run_log().pareto_epochs()
    if frame.empty:
        empty_state("No search epoch yet", "Every search leaves a trail here: one point per epoch, natural accuracy to the "
                    "right, accuracy under the search's own attack upwards.")
        return
    groups = list(frame.groupby("group")["run"].nunique().sort_values(ascending=False).index)
    if st.session_state.get("pareto.epochs") not in groups:
        st.session_state["pareto.epochs"] = groups[0]
    chosen = groups[0] if len(groups) == 1 else st.selectbox("Attack in the search", groups, key="pareto.epochs",
                                                             persist_state="session")
    rows = frame[frame["group"] == chosen]
    first = rows.drop_duplicates("run")
    labels = dict(zip(first["run"], network_labels(list(first["title"]), list(first["run"]))))
    rows = rows.assign(label=rows["run"].map(labels))
    live_plot(epochs_figure(rows, "Adversarial"), height=440, key=f"pareto_epochs_{groups.index(chosen)}",
              label="Natural versus adversarial accuracy of each search epoch")
    count = len(first)
    st.caption(f"{'1 search' if count == 1 else f'{count} searches'}: {chosen}. Each point is the mean of one epoch; the large "
               "filled marker is the latest. A supernet shares its weights among all architectures and is measured with batch "
               "statistics, so these numbers say how a search moves, not how good the network it finds will be.")


heading("Pareto", "Accuracy on unchanged images against accuracy under attack. Up and to the right is better.")
networks()
epochs()
