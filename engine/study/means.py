"""Means of an arm over its search seeds. Every mean has an interval. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import numpy as np
from scipy import special

from engine.report.robustness import Measurement
from engine.report.words import percent_text, plural_text

SAME = 1e-12  # means of search seeds that differ by less say nothing about the spread


@dataclass(frozen=True)
class Mean:
    """The mean of an arm over its search seeds.

    Attributes:
        value: the mean, a fraction in 0..1.
        low, high: ends of the 95 % interval.
        units: number of search seeds.
        images: number of images on which each network was measured; if the numbers differ, the largest.
        interval: "t" for the confidence interval from the t distribution over search seeds. "Wilson" if there is only one search
            seed, or if all search seeds have the same mean: then the interval is the smallest range that contains the Wilson
            intervals of all networks.
    """

    value: float
    low: float
    high: float
    units: int
    images: int
    interval: Literal["t", "Wilson"] = "t"

    @property
    def ends(self) -> str:
        """The interval in per cent, without the per cent sign, for example "58.0 to 64.4"."""
        return f"{percent_text(self.low)} to {percent_text(self.high)}"

    @property
    def marked_ends(self) -> str:
        """The interval as in `ends`, followed by "Wilson" if it is a Wilson interval, for tables with both kinds of interval."""
        return f"{self.ends}, Wilson" if self.interval == "Wilson" else self.ends

    @property
    def basis(self) -> str:
        """The basis of the interval, for example "5 search seeds", or "359 images of each network"."""
        if self.interval == "Wilson":
            return f"{self.images:,} images of each network"
        return plural_text(self.units, "search seed")

    @property
    def words(self) -> str:
        """The mean with its interval and basis, for example "61.2 % (95 %: 58.0 to 64.4; 5 search seeds)"."""
        return f"{percent_text(self.value)} % (95 %: {self.ends}; {self.basis})"

    def __str__(self) -> str:
        """Return the mean in per cent with its interval, for example "61.2 (58.0 to 64.4)" or "61.2 (56.1 to 66.1, Wilson)"."""
        return f"{percent_text(self.value)} ({self.marked_ends})"


def intervals_text(means: Iterable[Mean | None]) -> str:
    """Return a text that names the kinds of interval in a table of means. None stands for a mean that is not known yet."""
    kinds = {mean.interval for mean in means if mean}
    wilson = ("Wilson over images, the range of the networks' intervals, for one search seed or equal means of all"
              if "Wilson" in kinds else "")
    return "; ".join(filter(None, ("t over search seeds" if kinds != {"Wilson"} else "", wilson)))


def mean_of(units: Sequence[Sequence[Measurement]], level: float = 0.95) -> Mean | None:
    """Return the mean over search seeds with its interval, or None if there is no search seed.

    Args:
        units: one entry per search seed, with the accuracy of each of its retrainings. The mean of an entry counts as one
            observation.
        level: confidence level of the t interval, in 0..1.
    """
    units = [unit for unit in units if unit]
    if not units:
        return None
    values = [fmean(one.accuracy for one in unit) for unit in units]
    mean = fmean(values)
    every = [one for unit in units for one in unit]
    images = max(one.images for one in every)
    if len(values) < 2 or np.ptp(values) < SAME:
        return Mean(mean, min(one.low for one in every), max(one.high for one in every), len(values), images, "Wilson")
    half = float(special.stdtrit(len(values) - 1, 0.5 + level / 2) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return Mean(mean, max(0.0, mean - half), min(1.0, mean + half), len(values), images)
