"""An accuracy as a table and a sentence write it: percent with one decimal and its interval, or "not measured"."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from app.components.formats import count, missing
from engine.architecture.capacity import differ

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


def unequal_sizes(networks: pd.DataFrame) -> str:
    """One sentence where networks that are shown together differ in size by more than 5 %, else "".

    Args:
        networks: one row each, with parameters and macs; NaN where they are not known.
    """
    sizes = {words: networks[name].dropna().tolist() for name, words in (("parameters", "parameters"), ("macs", "MACs"))}
    spans = [f"{count(min(found))} to {count(max(found))} {words}" for words, found in sizes.items() if differ(found)]
    return f"These networks differ in size: {' and '.join(spans)}; compare with care or retrain with `match`." if spans else ""


def network_labels(titles: Sequence[str], runs: Sequence[str]) -> list[str]:
    """The title where it names one network only, else with the last part of the run's id: "ARNAS · 7f3c"."""
    counts = Counter(titles)
    return [title if counts[title] == 1 else f"{title}\u00a0·\u00a0{run.rsplit('-', 1)[-1]}" for title, run in zip(titles, runs)]
