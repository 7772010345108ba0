"""The paragraph about a network chosen by name, in place of the cells of a derived one."""

from __future__ import annotations

from app.components.formats import escape
from engine.architecture.network import named_network
from engine.errors import ConfigError


def named_network_html(name: str) -> str:
    """Return a paragraph on a network: how it is built and where it comes from. name: as in the run log."""
    try:
        network = named_network(name)
    except ConfigError:  # of another version
        return f'<p class="rp-note">{escape(name)} is a network to compare with: it has no cells to draw.</p>'
    return (f'<p class="rp-note"><b>{escape(network.title)}</b> is a network to compare derived ones with: it has no cells to '
            f"draw. {escape(network.description)} {escape(network.source)}.</p>")
