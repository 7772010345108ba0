"""The status of a run as a chip: glyph, word, tone; the cause beside it."""

from __future__ import annotations

from app import theme
from app.components.formats import coarse, escape, missing


def status_chip_html(status: str, cause: str | None = None, silent_s: float | None = None) -> str:
    """The chip as HTML, to be put into a row of one's own.

    Args:
        status: queued, running, stopping, stopped, finished or failed.
        cause: why it failed or stopped, as a short clause; shown behind the chip.
        silent_s: seconds since the last event; over a minute a live run says "no news for 4 min".
    """
    glyph, tone = theme.STATUS.get(status, ("?", "muted"))
    chip = (f'<span class="rp-chip rp-tone-{tone}" data-status="{escape(status)}"><span class="rp-glyph" aria-hidden="true">'
            f"{glyph}</span>{escape(status.capitalize())}</span>")
    notes = [] if missing(cause) or not cause or str(cause).lower() == status else [str(cause)]
    if status in ("running", "stopping") and not missing(silent_s) and silent_s >= 60:
        notes.append(f"no news for {coarse(silent_s)}")
    note = f'<span class="rp-label">{escape("; ".join(notes))}</span>' if notes else ""
    return chip + note


def tag_html(text: str) -> str:
    """A quiet label, for example the preset's name."""
    return f'<span class="rp-tag">{escape(text)}</span>'
