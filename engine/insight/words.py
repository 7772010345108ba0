"""Formatting of cell kinds, operations, sizes, times and accuracies, for the sentences about runs."""

from __future__ import annotations

from engine.drawing.operations import cell_title, operation
from engine.report.words import duration_text, plural_text


def cell_text(kind: str) -> str:
    """Return the name of a cell kind for use within a sentence: "robust cell" for "robust"."""
    title = cell_title(kind)
    return title[0].lower() + title[1:]


def operations_text(name: str, count: int) -> str:
    """Return the title of an operation, in the plural unless `count` is 1: "separable convolutions 5×5" for 2."""
    title = operation(name).title
    if count == 1 or name == "none":
        return title
    for noun in ("convolution", "connection"):
        title = title.replace(noun, noun + "s")
    return title


def size_text(count: float) -> str:
    """Format a number of bytes in GiB or MiB: "2.3 GiB", "150 MiB"."""
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.0f} MiB"


def seconds_text(seconds: float) -> str:
    """Format a duration: 0.0234 as "0.023 s", 75 as "1 min 15 s". Durations below ten seconds get two significant digits."""
    return f"{seconds:.2g} s" if seconds < 10 else duration_text(seconds)


def accuracy_text(value: float, low: float | None = None, high: float | None = None, images: float | None = None) -> str:
    """Format an accuracy (0..1) in per cent, with its interval and number of images if known.

    Example: "64.9 % (59.8 to 69.7; 359 images)".
    """
    if low is None or high is None:
        return f"{100 * value:.1f} %"
    number = f"; {plural_text(int(images), 'image')}" if images else ""
    return f"{100 * value:.1f} % ({100 * low:.1f} to {100 * high:.1f}{number})"
