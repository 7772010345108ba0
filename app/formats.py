"""Functions that format numbers and names as text. Accuracies are given as fractions (0..1) and written in per cent."""

from __future__ import annotations

import html
import math
import re
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from engine.architecture.capacity import differ
from engine.config import pixels_text
from engine.report.words import about_text, count_text, dataset_text, duration_text, plural_text, rounded_text, times_text

if TYPE_CHECKING:
    from typing_extensions import TypeIs

EMPTY = "–"
NOT_MEASURED = "not measured"
WORD_JOINER = "\u2060"  # invisible, and no place for a line to break


def missing(value: object) -> TypeIs[None]:
    """Return True for None, NaN and NaT, which pandas uses for absent values."""
    return value is None or value is pd.NaT or (isinstance(value, float) and math.isnan(value))


def shown(value: object) -> str:
    """Return a value as text, or "" if it is missing."""
    return "" if missing(value) else str(value)


def percent(fraction: float | None, digits: int = 1) -> str:
    """Return a fraction in per cent: 0.9561 as "95.6 %", and a missing value as a dash."""
    return EMPTY if missing(fraction) else f"{100 * fraction:.{digits}f} %"


def accuracy(value: float | None) -> str:
    """Return an accuracy in per cent: 0.9384 as "93.8 %", and a missing value as "not measured"."""
    return NOT_MEASURED if missing(value) else percent(value)


def interval(low: float | None, high: float | None) -> str:
    """Return an interval in per cent: 0.918 and 0.967 as "91.8 to 96.7 %". If an end is missing, return a dash."""
    return EMPTY if missing(low) or missing(high) else f"{100 * low:.1f} to {100 * high:.1f} %"


def with_interval(value: float | None, low: float | None, high: float | None) -> str:
    """Return an accuracy with its interval: 0.938, 0.847 and 0.975 as "93.8 % (84.7 to 97.5 %)".

    If the interval is missing, return only the accuracy.
    """
    return accuracy(value) if missing(low) or missing(high) else f"{accuracy(value)} ({interval(low, high)})"


def duration(seconds: float | None) -> str:
    """Return a duration in words: 75 as "1 min 15 s", 4000 as "1 h 6 min", 7200 as "2 h", and a missing value as a dash."""
    return EMPTY if missing(seconds) or not math.isfinite(seconds) else duration_text(seconds)


def rounded(seconds: float) -> str:
    """Return an expected duration without needless digits: 329 as "5 min", 9000 as "2 h 30 min", 20 as "under 1 min"."""
    return rounded_text(seconds)


def about(seconds: float) -> str:
    """Return an expected duration in words: "about 5 min", but "under 1 min" and "more than a year"."""
    return about_text(seconds)


def coarse(seconds: float) -> str:
    """Return a duration in its largest unit only, rounded down: 190 seconds as "3 min"."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def moment(seconds: float | None) -> str:
    """Return a Unix time as local time, for example "2026-11-20 12:05"."""
    return EMPTY if missing(seconds) else time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def count(number: float | None) -> str:
    """Return a number as text: 4520394 as "4.52 million", 1797 as "1,797", and a missing value as a dash."""
    return EMPTY if missing(number) else count_text(number)


def plural(number: int, noun: str) -> str:
    """Return a number with its noun in the singular or plural, for example "1 network" or "3 networks"."""
    return plural_text(number, noun)


def times(number: int) -> str:
    """Return how often something happened: "once", "3 times"."""
    return times_text(number)


def rate(per_s: float, unit: str) -> str:
    """Return a rate in the time unit that fits: 2.5 and "steps" as "2.5 steps/s", 0.02 as "1.2 steps/min"."""
    number, time_unit = (per_s, "s") if per_s >= 0.1 else (60 * per_s, "min") if per_s >= 0.1 / 60 else (3600 * per_s, "h")
    return f"{number:,.0f} {unit}/{time_unit}" if number >= 100 else f"{number:.3g} {unit}/{time_unit}"


def epsilon(value: float | None) -> str:
    """Return an attack radius in pixel space as text: 8/255 as "8/255", 0.15 as "0.15"."""
    return EMPTY if missing(value) else pixels_text(value)


def escape(text: object) -> str:
    """Escape text from a file or a user, so that it is safe inside HTML."""
    return html.escape(str(text), quote=True)


def markdown(text: object) -> str:
    """Escape text from a file, a URL or a user, so that Streamlit shows it literally even where Markdown is allowed.

    A backslash is put before each special character of Markdown and HTML. An invisible character is put into the names of icons,
    colours and emojis and into web and e-mail addresses, because Streamlit recognises these in spite of a backslash.
    """
    plain = re.sub(r"([\\`*_\[\]$<>#~|!&])", r"\\\1", " ".join(str(text).split()))
    return re.sub(r":(?=\w|//)|(?<=\bwww)(?=\.)|@(?=\w)", lambda found: found[0] + WORD_JOINER, plain, flags=re.IGNORECASE)


def capitalised(text: str) -> str:
    """Return a text with a capital first letter and all other letters as they are."""
    return text[:1].upper() + text[1:]


def dataset_title(name: str) -> str:
    """Return a dataset's title, or its name if this version does not know the dataset."""
    return dataset_text(name)


def network_labels(titles: Sequence[str], runs: Sequence[str]) -> list[str]:
    """Return a label for each network that distinguishes it from the others.

    The label is the network's title. If several networks have the same title, each label also has the last part of the run id:
    "ARNAS · 7f3c".

    Args:
        titles: one title per network.
        runs: id of the run that each network belongs to.
    """
    counts = Counter(titles)
    return [title if counts[title] == 1 else f"{title}\u00a0·\u00a0{run.rsplit('-', 1)[-1]}" for title, run in zip(titles, runs)]


def unequal_sizes(networks: pd.DataFrame) -> str:
    """Return a warning if networks that are shown together differ in size by more than 5 %. Otherwise return "".

    Args:
        networks: one row per network, with the columns parameters and macs (NaN if unknown).
    """
    sizes = {unit: networks[name].dropna().tolist() for name, unit in (("parameters", "parameters"), ("macs", "MACs"))}
    spans = {unit: f"{count(min(values))} to {count(max(values))} {unit}" for unit, values in sizes.items() if differ(values)}
    if not spans:
        return ""
    return (f"These networks differ in size: {' and '.join(spans.values())}. Retrain with matched {next(reversed(spans))} for a "
            "fair comparison.")
