"""The Pareto page. It plots natural versus adversarial accuracy of attacked networks and, separately, of search epochs."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from app import session, theme
from app.charts.pareto import QUANTITIES, epochs_figure, networks_figure
from app.components.live import live_panel
from app.components.live_plot import live_plot
from app.components.states import LAUNCH_PAGE, empty_state, heading, section
from app.formats import dataset_title, epsilon, network_labels, plural, unequal_sizes
from engine.attack.catalogue import WORST
from engine.attack.protocol import ball_text

COLOURS = {"front": "front or dominated", "method": "method", **QUANTITIES}
GLYPHS = ", ".join(f"{glyph} {word.lower()}" for _, glyph, word in theme.BADGES.values())
BADGE_WORDS = f"Beside each name stands the reliability badge ({GLYPHS}): point at a network for the reasons."
SIZES = {"": "all the same", **QUANTITIES}


def group_names(frame: pd.DataFrame) -> dict[str, str]:
    """Return {group name: label}, with one entry per group of comparable networks.

    The largest group comes first. Among groups of equal size, the worst case comes first, and the others are sorted by mean
    adversarial accuracy, lowest first. Each label ends with the first characters of the fingerprint, a hash of the conditions of
    the attack. These characters distinguish groups with the same attack but different images or settings.

    Args:
        frame: table from `RunLog.pareto_networks`.
    """
    first = frame.groupby("group", sort=False).agg(
        dataset=("dataset", "first"), title=("attack_title", "first"), attack=("attack", "first"), epsilon=("epsilon", "first"),
        images=("images", "first"), print=("fingerprint", "first"), count=("run", "size"), accuracy=("adversarial", "mean"))
    first = first.assign(single=first["attack"] != WORST).sort_values(["count", "single", "accuracy"],
                                                                      ascending=[False, True, True])
    return {str(group): f"{row.title} · {dataset_title(row.dataset)} · epsilon {epsilon(row.epsilon)} · {row.images:,} images · "
                        f"{plural(row.count, 'network')} · {row.print[:6]}"
            for group, row in zip(first.index, first.itertuples())}


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


def attack_words(attack: str, title: str) -> str:
    """Return the name of an attack as used in a sentence.

    Args:
        attack: name of the attack.
        title: title of the attack. It is returned unless the attack is "worst-case".
    """
    return "the worst case of all attacks on each image" if attack == "worst-case" else title


def networks_sentence(rows: pd.DataFrame) -> str:
    """Return the caption of the plot of one group of comparable networks.

    Args:
        rows: rows of the group, from `RunLog.pareto_networks`.
    """
    first, count, front = rows.iloc[0], len(rows), int(rows["is_front"].sum())
    verdict = ("Attack a second network to compare." if count == 1 else
               f"{front} {'is' if front == 1 else 'are'} on the front: no other network is at least as accurate on both axes and "
               "better on one.")
    on = f"{int(first['images']):,} images of the test split"
    natural = int(first["natural_images"])
    where = (f"; both accuracies are on the same {on}" if natural == first["images"] else
             f", on the same {on}; natural accuracy is on {natural:,}")
    attack = attack_words(str(first["attack"]), str(first["attack_title"]))
    return (f"{plural(count, 'attacked network')}. {verdict} The vertical axis is accuracy under {attack}, "
            f"{ball_text(str(first['norm']), float(first['epsilon']))} (pixels in 0 to 1){where}. "
            f"The bars are 95 % Wilson intervals: points whose bars overlap may not differ. {BADGE_WORDS} A point is a "
            "checkpoint, not its method.")


@live_panel("runs", key="pareto_networks")
def networks() -> None:
    """Show the selector of an attack, and the plot of all networks that were measured under this attack on the same images."""
    section("Attacked networks", "retrained networks, test split")
    frame = session.run_log().pareto_networks()
    if frame.empty:
        empty_state("No attacked network yet", "When an attack finishes, its network appears here as one point: natural "
                    "accuracy to the right, adversarial accuracy upwards.", "Only networks with the same attack on the same "
                    "images share a plot.",
                    link=LAUNCH_PAGE, link_label="Launch a search, retraining and attack")
        return
    names = group_names(frame)
    if st.session_state.get("pareto.group") not in names:
        st.session_state["pareto.group"] = next(iter(names))
    choice, size, colour, rest = st.columns([3.2, 1.6, 1.6, 1.3], vertical_alignment="bottom")
    chosen = choice.selectbox("Attack", list(names), key="pareto.group", format_func=names.__getitem__, persist_state="session",
                              help="One entry per fingerprint: attack, settings, library and images. Networks with different "
                                   "fingerprints are never drawn together.")
    sizes = size.selectbox("Marker size", list(SIZES), format_func=SIZES.__getitem__, key="pareto.size", persist_state="session")
    colours = colour.selectbox("Colour", list(COLOURS), format_func=COLOURS.__getitem__, key="pareto.colour",
                               persist_state="session")
    dominated = rest.toggle("Show dominated", value=True, key="pareto.dominated", persist_state="session",
                            help="A network is dominated if another one is at least as accurate on both axes and better on one.")
    rows = frame[frame["group"] == chosen]
    runs = session.run_log().runs().set_index("id")
    rows = rows.assign(label=network_labels(list(rows["title"]), list(rows["run"])),
                       **{name: rows["run"].map(runs[name]) for name in ("badge", "badge_reasons")})
    attack = str(rows["attack_title"].iloc[0])
    live_plot(networks_figure(rows, attack, size=sizes, colour=colours, dominated=dominated), height=480,
              key=f"pareto_networks_{rows['fingerprint'].iloc[0]}",
              label=f"Natural versus {attack} accuracy of attacked networks")
    st.caption(f"{networks_sentence(rows)} {unequal_sizes(rows if dominated else rows[rows['is_front']])}")


@live_panel("runs", key="pareto_epochs")
def epochs() -> None:
    """Show the selector of an attack, and the plot of all searches that used this attack.

    Each search is a line with one point per epoch.
    """
    section("Search epochs", "supernets, alphas split, batch statistics")
    frame = session.run_log().pareto_epochs()
    if frame.empty:
        empty_state("No search epoch yet", "Every search leaves a trail here: one point per epoch, natural accuracy to the "
                    "right, adversarial accuracy under its own attack upwards.")
        return
    names = search_names(frame)
    groups = list(names)
    if st.session_state.get("pareto.epochs") not in groups:
        st.session_state["pareto.epochs"] = groups[0]
    chosen = groups[0] if len(groups) == 1 else st.selectbox("Attack in the search", groups, key="pareto.epochs",
                                                             format_func=names.__getitem__, persist_state="session")
    rows = frame[frame["group"] == chosen]
    first = rows.drop_duplicates("run")
    labels = dict(zip(first["run"], network_labels(list(first["title"]), list(first["run"]))))
    rows = rows.assign(label=rows["run"].map(labels))
    live_plot(epochs_figure(rows, "Adversarial"), height=440, key=f"pareto_epochs_{groups.index(chosen)}",
              label="Natural versus adversarial accuracy of each search epoch")
    searches = "1 search" if len(first) == 1 else f"{len(first)} searches"
    st.caption(f"{searches}: {names[chosen]}. Each point is the mean of one epoch; the large filled marker is the latest. A "
               "supernet shares its weights among all architectures and is measured with batch statistics, so these numbers show "
               "the course of a search and are not a result: the network that it finds is measured by an attack run.")


heading("Pareto", "Natural versus adversarial accuracy. Up and to the right is better.")
networks()
epochs()
