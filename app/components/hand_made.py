"""What a page says of a hand-made network where it draws the cells of a derived one."""

from __future__ import annotations

from app.components.formats import escape
from engine.architecture.hand_made import hand_made
from engine.errors import ConfigError


def hand_made_html(name: str) -> str:
    """A paragraph: what it is, how it is built, and where it comes from. name: as the run log has it."""
    try:
        found = hand_made(name)
    except ConfigError:  # of another version
        return f'<p class="rp-note">{escape(name)} is a hand-made network: it has no cells to draw.</p>'
    order = "BatchNorm and ReLU before each convolution" if found.preactivation else "BatchNorm and ReLU behind each convolution"
    widths = ", ".join(map(str, found.widths))
    return (f'<p class="rp-note"><b>{escape(found.title)}</b> is hand-made, to compare derived networks with: it has no cells '
            f"to draw. {len(found.widths)} stages of {found.depth} residual blocks of two 3x3 convolutions, {widths} channels, "
            f"{order}. {escape(found.source)}.</p>")
