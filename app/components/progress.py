"""The progress of a run: a bar, the amount done, the time left and the number of forward passes."""

from __future__ import annotations

import math

from app.formats import duration, escape, missing


def progress_html(*, title: str, done: float | None, total: float | None, unit: str = "steps", detail: str = "",
                  seconds_left: float | None = None, passes: float | None = None, tone: str = "",
                  pending: str = "starting") -> str:
    """Return the progress of a run as HTML.

    Args:
        title: title of the bar, for example "Search".
        done, total: the amount done and the total amount, in `unit`. If either is None, the bar is empty. `done` may be
            fractional; the text then names the whole units that are done.
        unit: name of the unit, in the plural.
        detail: current activity, for example "PGD step 3 of 7".
        seconds_left: estimated time left, or None if unknown.
        passes: number of forward passes so far, or None if unknown.
        tone: colour of the bar: "" (neutral), "good", "warn" or "bad".
        pending: text in place of the amount while `done` or `total` is None.
    """
    share, amount = 0.0, escape(pending)
    if not missing(done) and not missing(total) and total:
        share = min(1.0, max(0.0, done / total))
        amount = f"{math.floor(min(done, total)):,} of {total:,.0f} {escape(unit)}"
    left = "" if missing(seconds_left) or share >= 1 else f"<span>about {duration(seconds_left)} left</span>"
    moving = "" if missing(passes) or not passes else (
        f'<span class="rp-num" data-measured="{passes:.0f}">{passes:,.0f} forward pass{"" if passes == 1 else "es"}</span>')
    now = f"<span>{escape(detail)}</span>" if detail else ""
    return (f'<div class="rp-progress"><div class="rp-progress-text"><span><b>{escape(title)}</b> '
            f'<span class="rp-num">{amount}</span></span>{now}{moving}{left}</div>{_bar(title, share, tone)}</div>')


def _bar(title: str, share: float, tone: str) -> str:
    """Return a progress bar as HTML, filled to `share` (0..1)."""
    return (f'<div class="rp-track" role="progressbar" aria-label="{escape(title)}" aria-valuemin="0" aria-valuemax="100" '
            f'aria-valuenow="{100 * share:.0f}"><div class="rp-fill{f" rp-{tone}" if tone else ""}" '
            f'style="width:{100 * share:.2f}%"></div></div>')


def figure_html(label: str, value: str, note: str = "") -> str:
    """Return a number as HTML, with a label above and a note below. The parent element must have the CSS class `rp-figures`."""
    under = f'<span class="rp-label">{escape(note)}</span>' if note else ""
    return (f'<div class="rp-figure"><span class="rp-label">{escape(label)}</span>'
            f'<span class="rp-value">{escape(value)}</span>{under}</div>')
