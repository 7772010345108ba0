"""The status of a run as a chip of glyph, word and tone, followed by its cause."""

from __future__ import annotations

from app import theme
from app.formats import coarse, escape, missing


def status_chip_html(status: str, cause: str | None = None, silent_s: float | None = None) -> str:
    """Return the chip as HTML, for a row of class `rp-row`.

    Args:
        status: queued, running, stopping, stopped, finished or failed.
        cause: why it failed or stopped, as a short clause; shown after the chip.
        silent_s: seconds since the last event; a live run that is silent for over a minute shows "no news for 4 min".
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
    """Return a small grey label, for example the name of the preset."""
    return f'<span class="rp-tag">{escape(text)}</span>'
