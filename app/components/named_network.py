"""The paragraph that describes a hand-made network, for example a WideResNet, which has no cells to draw."""

from __future__ import annotations

from app.formats import escape
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
