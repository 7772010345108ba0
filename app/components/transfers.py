"""The section of the Robustness page about transfer: how networks fare on adversarial images that were made on other networks."""

from __future__ import annotations

from functools import partial

import streamlit as st

from app import address, evaluations
from app.charts.data import transfer_frame
from app.charts.transfers import MOST_NETWORKS, transfer_figure, transfer_height
from app.components.live_plot import live_plot
from app.components.states import section
from app.formats import markdown, plural
from engine.attack.catalogue import ATTACKS, MI_FGSM
from engine.command import NAME
from engine.report.robustness import RobustnessTable
from engine.report.transfers import TransferMap


def transfers(chosen: RobustnessTable) -> None:
    """Show a map (a matrix of pairs of networks) of the transfer results on the images and in the epsilon ball of a protocol.

    If there are several maps, for example one for each attack that made images, the reader selects one. If there is none, show
    nothing.

    Args:
        chosen: robustness table of the protocol. Maps of attacks that the protocol contains come first.
    """
    measured = {column.name for column in chosen.columns}
    maps = {one.id: one for one in sorted(
        (one for one in evaluations.transfer_maps() if one.fits(chosen)),
        key=lambda one: not any(cell.attack in measured for cell in one.cells.values()))}
    if not maps:
        return
    section("Transfer", "accuracy on adversarial images that were made on other networks")
    shown = next(iter(maps))
    if len(maps) > 1:
        left, _ = st.columns([1, 3])
        shown = address.selectbox(left, "Images made by", {name: title_of(one) for name, one in maps.items()}, name="transfer",
                                  key="robustness.transfer")
    one = maps[shown]
    live_plot(transfer_figure(one), key=f"robustness_transfer_{one.id}", height=transfer_height(len(one.networks)),
              label="Accuracy of each network on adversarial images made on each network, with 95 % intervals",
              file=f"transfer-{one.attack}-{one.id}", data=partial(transfer_frame, one))
    st.caption(markdown(caption(one)))


def title_of(transfer_map: TransferMap) -> str:
    """Return the title of a map: the attack that made its images, and the numbers of networks and results."""
    return (f"{ATTACKS[transfer_map.attack].title} · {plural(len(transfer_map.networks), 'network')}, "
            f"{plural(len(transfer_map.cells), 'result')}")


def caption(transfer_map: TransferMap) -> str:
    """Return the caption of a map. If pairs of networks have no result yet, it may give the command that measures them."""
    title, networks = ATTACKS[transfer_map.attack].title, transfer_map.networks
    words = [f"Every attack run on these images counts, whatever else its protocol contains. Rows are attacked by {title} images "
             "of each column; 95 % Wilson intervals. Framed: the same attack with the gradients of the attacked network itself. "
             "It should be the lowest of its row."]
    if len(networks) > MOST_NETWORKS:
        words.append(f"The first {MOST_NETWORKS} of {len(networks)} networks.")
    parents = list(dict.fromkeys(network.parent for network in networks))
    if transfer_map.missing and all(parents) and len(parents) == len(networks):
        attack = "" if transfer_map.attack == MI_FGSM.name else f" --attack {transfer_map.attack}"
        words.append(f"{plural(transfer_map.missing, 'pair')} not measured; this measures every pair: "
                     f"`{NAME} transfer {' '.join(parents)}{attack}`.")
    return " ".join(words)
