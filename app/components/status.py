"""The status of a run as a chip (a small coloured label with a glyph), followed by the cause of the status."""

from __future__ import annotations

from app import theme
from app.formats import coarse, escape, missing
from engine.run.state import SILENT_S


def status_chip_html(status: str, cause: str | None = None, silent_s: float | None = None) -> str:
    """Return the status chip of a run as HTML. The parent element must have the CSS class `rp-row`.

    Args:
        status: status of the run: queued, running, stopping, stopped, finished or failed.
        cause: short reason for the status, shown after the chip; None for no reason.
        silent_s: seconds since the last event of the run. For a running or stopping run, 60 s or more add a note such as "no news
            for 4 min".
    """
    glyph, tone = theme.STATUS.get(status, ("?", "muted"))
    chip = (f'<span class="rp-chip rp-tone-{tone}" data-status="{escape(status)}"><span class="rp-glyph" aria-hidden="true">'
            f"{glyph}</span>{escape(status.capitalize())}</span>")
    notes = [] if missing(cause) or not cause or str(cause).lower() == status else [str(cause)]
    if status in ("running", "stopping") and not missing(silent_s) and silent_s >= SILENT_S:
        notes.append(f"no news for {coarse(silent_s)}")
    note = f'<span class="rp-label">{escape("; ".join(notes))}</span>' if notes else ""
    return chip + note


def tag_html(text: str) -> str:
    """Return a small grey label, for example the name of the preset."""
    return f'<span class="rp-tag">{escape(text)}</span>'
