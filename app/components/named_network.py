"""The paragraph about a network chosen by name, in place of the cells of a derived one."""

from __future__ import annotations

from app.formats import escape
from engine.architecture.network import named_network
from engine.errors import ConfigError


def named_network_html(name: str) -> str:
    """Return a paragraph on how a network is built and where it comes from.

    Args:
        name: as in the run log.
    """
    try:
        network = named_network(name)
    except ConfigError:  # written by another version
        return f'<p class="rp-note">{escape(name)} is a baseline, without cells to draw.</p>'
    return (f'<p class="rp-note"><b>{escape(network.title)}</b> is hand-made: a baseline for derived networks, without cells to '
            f"draw. {escape(network.description)} {escape(network.source)}.</p>")
