"""Measures of attacked networks, such as accuracies and sizes, and the networks that are best in several measures at once.

The accuracies come from a robustness table, so all of them are measured under one protocol. This module does not import torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from engine.attack.catalogue import NATURAL
from engine.attack.protocol import ball_text
from engine.report.latency import BATCH, SINGLE, common_place
from engine.report.robustness import NetworkRow, RobustnessTable

PARAMETERS, MACS, SEARCH_TIME = "parameters", "macs", "search-time"
LATENCIES = {"latency": SINGLE, "latency-batch": BATCH}  # {measure: images per pass}


@dataclass(frozen=True)
class Measure:
    """A quantity by which the networks of a robustness table can be compared. Some of them may lack it.

    Attributes:
        name: name of a column of the table, or "parameters", "macs", "search-time", "latency" or "latency-batch".
        title: name for readers.
        unit: "%" for accuracies, which are stored as fractions; "s" for a time; "ms" for a latency, stored in seconds; "" for a
            count.
        larger: True if larger values are better.
        images: number of images of an accuracy; 0 for other measures.
        where: conditions. For an accuracy, radius of the attack and number of images; for a latency, device and threads; "" for
            other measures.
    """

    name: str
    title: str
    unit: str
    larger: bool
    images: int = 0
    where: str = ""

    @property
    def is_accuracy(self) -> bool:
        """True for an accuracy, which is estimated from images. Other measures are exact."""
        return self.unit == "%"

    @property
    def phrase(self) -> str:
        """The title as used inside a sentence: "natural accuracy", but "PGD-20 accuracy" and "MACs per image"."""
        return self.title if self.title[1:2].isupper() else self.title[:1].lower() + self.title[1:]

    @property
    def factor(self) -> float:
        """Factor that converts a stored value to the unit of the measure, for example 100 for an accuracy in per cent."""
        return {"%": 100.0, "ms": 1000.0}.get(self.unit, 1.0)


@dataclass(frozen=True)
class Value:
    """The value of a measure for one network, with the ends of its 95 % interval. For an exact value, all three are equal."""

    value: float
    low: float
    high: float


def measures_of(table: RobustnessTable) -> dict[str, Measure]:
    """Return {name: measure} for all measures of a table: accuracies, sizes, search time and latencies.

    Latencies can be compared only on one device, so only the latencies on the device with the most networks count.
    """
    ball = ball_text(str(table.fields.get("norm") or "Linf"), float(table.fields["epsilon"])) if "epsilon" in table.fields else ""
    measures = []
    for column in table.columns:
        is_natural = column.name == NATURAL
        images = f"{column.images:,} images of the test split"
        where = images if is_natural or not ball else f"{ball}, {images}"
        title = "Natural accuracy" if is_natural else f"{column.title} accuracy"
        measures.append(Measure(column.name, title, "%", True, column.images, where))
    measures += [Measure(PARAMETERS, "Parameters", "", False), Measure(MACS, "MACs per image", "", False),
                 Measure(SEARCH_TIME, "Search time", "s", False)]
    place = common_place(row.latencies for row in table.rows)
    measures += [Measure(name, "Latency of 1 image" if batch == 1 else f"Latency of a batch of {batch}", "ms", False, where=place)
                 for name, batch in LATENCIES.items()]
    return {one.name: one for one in measures}


def value_of(row: NetworkRow, measure: Measure, search_time: Mapping[str, float]) -> Value | None:
    """Return the value of a measure for a network, or None if it has not been measured.

    Args:
        row: the network.
        measure: the measure.
        search_time: {attack run: duration in seconds of the search that found its network}.
    """
    if measure.is_accuracy:
        result = row.results.get(measure.name)
        return None if result is None else Value(result.accuracy, result.low, result.high)
    known = {PARAMETERS: row.parameters, MACS: row.macs, SEARCH_TIME: search_time.get(row.run)}
    known |= {name: one.median_s if (one := row.latencies.get(batch)) and one.place == measure.where else None
              for name, batch in LATENCIES.items()}
    exact = known[measure.name]
    return None if exact is None else Value(float(exact), float(exact), float(exact))


def on_front(values: Sequence[Sequence[float]], larger: Sequence[bool]) -> list[bool]:
    """Return one flag per network: True if no other network is at least as good in all measures and better in one.

    Networks with equal values are on the front together. Takes time quadratic in the number of different values.

    Args:
        values: one row per network, with one number per measure.
        larger: for each measure, True if larger values are better.
    """
    if not values:
        return []
    signed = np.asarray(values, dtype=float) * np.where(larger, 1.0, -1.0)
    different, places = np.unique(signed, axis=0, return_inverse=True)
    beaten = np.array([((different >= one).all(axis=1) & (different > one).any(axis=1)).any() for one in different])
    return [not beaten[place] for place in places.ravel()]
