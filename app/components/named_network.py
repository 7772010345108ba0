"""Hand-made networks, such as a WideResNet, which have no cells to draw: their description, and the input for their width."""

from __future__ import annotations

from typing import Any

import streamlit as st

from app.formats import escape
from engine.architecture.named import NamedNetwork
from engine.architecture.network import named_network
from engine.errors import ConfigError


def named_network_html(name: str) -> str:
    """Return an HTML paragraph that says how a hand-made network is built and where it was published.

    Args:
        name: name of the network in the run log.
    """
    try:
        network = named_network(name)
    except ConfigError:  # another version of Rampart has written the name
        return f'<p class="rp-note">{escape(name)} is a baseline, without cells to draw.</p>'
    return (f'<p class="rp-note"><b>{escape(network.title)}</b> is hand-made: a baseline for derived networks, without cells to '
            f"draw. {escape(network.description)} {escape(network.source)}.</p>")


def width_input(network: NamedNetwork, key: str, **options: Any) -> float | None:
    """Show the number input for the width of a hand-made network, and return its value; None for a network of fixed size.

    Args:
        network: the network. Its width is the initial value of the input.
        key: key of the widget.
        options: further arguments of `st.number_input`.
    """
    if not network.widths:
        return None
    st.session_state.setdefault(key, float(network.width or network.widths[0]))
    width: float = st.number_input("Base channels", network.widths[0], network.widths[-1], step=0.1, format="%g", key=key, help=(
        "Width of the network: the channels of its stem. Each stage has a multiple of them, rounded to whole channels. Matching "
        "to another network's size chooses it."), **options)
    return width
