"""The inference latency of attacked networks. Latencies can be compared only if device and number of threads are equal.

On a CPU, a latency is the computing time of one thread (`engine.run.latency`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from engine.log.runlog import RunLog
from engine.run.attack_events import BATCH as BATCH  # for the readers of latencies
from engine.run.attack_events import SINGLE as SINGLE

UNKNOWN = "not measured by this older run; attack the network again to measure it"


@dataclass(frozen=True)
class Latency:
    """The time of a forward pass of one network.

    Attributes:
        batch: images per pass.
        median_s, low_s, high_s: median and quartiles of the repeated passes, in seconds.
        place: device and threads, for example "AMD EPYC 7B13, 1 thread".
    """

    batch: int
    median_s: float
    low_s: float
    high_s: float
    place: str

    @property
    def words(self) -> str:
        """The latency in words, for example "2.31 ms for 1 image on AMD EPYC 7B13, 1 thread"."""
        images = "1 image" if self.batch == 1 else f"a batch of {self.batch}"
        return f"{milliseconds(self.median_s)} for {images} on {self.place}"


Latencies = Mapping[int, Latency]  # {images per pass: latency}


def latencies_of(log: RunLog) -> dict[str, dict[int, Latency]]:
    """Return {attack run: {images per pass: latency}}. Runs of older versions, which measured no latency, are left out."""
    found: dict[str, dict[int, Latency]] = defaultdict(dict)
    for row in log.latencies().itertuples():
        threads = f", {row.threads} thread{'s' if row.threads > 1 else ''}" if row.device == "cpu" else ""
        found[row.run][int(row.batch)] = Latency(int(row.batch), row.median_s, row.low_s, row.high_s, f"{row.hardware}{threads}")
    return dict(found)


def latency_columns(latencies: Latencies) -> dict[str, float | str | None]:
    """Return latencies as columns of an exported table: the median of each batch size in seconds, and the device."""
    medians = {f"latency_batch_{batch}_s": latencies[batch].median_s if batch in latencies else None for batch in (SINGLE, BATCH)}
    return {**medians, "latency_device": next((one.place for one in latencies.values()), None)}


def common_place(latencies: Iterable[Latencies]) -> str:
    """Return the device on which most of these networks were measured; "" if none was measured.

    If several devices have equally many networks, return the first in alphabetical order.
    """
    counts = Counter(next(iter(one.values())).place for one in latencies if one)
    return min(counts, key=lambda place: (-counts[place], place), default="")


def milliseconds(seconds: float) -> str:
    """Return a latency as text with three significant digits, for example "2.31 ms"."""
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
