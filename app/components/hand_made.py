"""The description of a hand-made network, shown in place of the cells of a derived one."""

from __future__ import annotations

from app.formats import escape
from engine.errors import ConfigError
from engine.residual import hand_made


def hand_made_html(name: str) -> str:
    """Return a paragraph on its structure and source.

    Args:
        name: from the run log.
    """
    try:
        network = hand_made(name)
    except ConfigError:  # written by another version
        return f'<p class="rp-note">{escape(name)} is a hand-made network, without cells to draw.</p>'
    order = "before" if network.preactivation else "after"
    widths = ", ".join(map(str, network.widths))
    return (f'<p class="rp-note"><b>{escape(network.title)}</b> is hand-made: a baseline for derived networks, without cells to '
            f"draw. {len(network.widths)} stages of {network.depth} residual blocks, each of two 3x3 convolutions, {widths} "
            f"channels, BatchNorm and ReLU {order} each convolution. {escape(network.source)}.</p>")
