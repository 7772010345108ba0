"""Numbers as readers see them. Accuracies are fractions inside the program; percent exists only here."""

from __future__ import annotations

import html
import math
import time

from engine.config import pixels_text

EMPTY = "–"


def missing(value: object) -> bool:
    """True for None and NaN (pandas' idea of nothing)."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or value is _nat()


def _nat() -> object:
    import pandas as pd

    return pd.NaT


def percent(fraction: float | None, digits: int = 1) -> str:
    """0.9561 -> "95.6 %"; nothing -> a dash."""
    return EMPTY if missing(fraction) else f"{100 * fraction:.{digits}f} %"


def interval(low: float | None, high: float | None) -> str:
    """(0.918, 0.967) -> "91.8 to 96.7 %"."""
    return EMPTY if missing(low) or missing(high) else f"{100 * low:.1f} to {100 * high:.1f} %"


def duration(seconds: float | None) -> str:
    """75 -> "1 min 15 s"; 4000 -> "1 h 7 min"; nothing -> a dash."""
    if missing(seconds) or not math.isfinite(seconds):
        return EMPTY
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole < 600 else f"{round(whole / 60)} min"
    if whole < 2 * 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def moment(seconds: float | None) -> str:
    """A Unix time as "2026-11-20 12:05" in this computer's time zone; stays true on a page that is left open."""
    return EMPTY if missing(seconds) else time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def coarse(seconds: float) -> str:
    """A duration in its largest unit: 190 -> "3 min"."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def count(number: float | None) -> str:
    """4520394 -> "4.52 million"; 1797 -> "1,797"; nothing -> a dash."""
    if missing(number):
        return EMPTY
    for size, word in ((1e9, "billion"), (1e6, "million")):
        if number >= size:
            return f"{number / size:.3g} {word}"
    return f"{number:,.0f}"


def epsilon(value: float | None) -> str:
    """A radius in pixel space: 8/255 is written as that, 0.15 as 0.15."""
    return EMPTY if missing(value) else pixels_text(value)


def escape(text: object) -> str:
    """Text from a file or a user, made safe inside HTML."""
    return html.escape(str(text), quote=True)
