"""An accuracy as a table and a sentence write it: percent with one decimal and its interval, or "not measured"."""

from __future__ import annotations

from app.components.formats import missing

NOT_MEASURED = "not measured"


def accuracy(value: float | None) -> str:
    """0.9384 -> "93.8 %"; nothing -> "not measured"."""
    return NOT_MEASURED if missing(value) else f"{100 * value:.1f} %"


def interval(low: float | None, high: float | None) -> str:
    """(0.847, 0.975) -> "(84.7-97.5)"; nothing -> ""."""
    return "" if missing(low) or missing(high) else f"({100 * low:.1f}-{100 * high:.1f})"


def with_interval(value: float | None, low: float | None, high: float | None) -> str:
    """(0.938, 0.847, 0.975) -> "93.8 % (84.7-97.5)"."""
    return f"{accuracy(value)} {interval(low, high)}".strip()
