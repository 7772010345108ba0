"""Queries about the newest progress of runs, which change twice a second while a run is active."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from engine.log.batch import TRAIL_POINTS
from engine.log.index import INT, NUMBER, TEXT, Index
from engine.log.schema import EVENTS

PROGRESS = {"attempt": INT, "phase": TEXT, "done": NUMBER, "total": NUMBER, "unit": TEXT, "passes": INT, "detail": TEXT,
            "t": NUMBER, "fraction": NUMBER, "seconds_left": NUMBER}
THROUGHPUT_STEPS = 50
# The answer for a run that has no progress yet.
UNSTARTED = {"attempt": None, "progress": None, "phase": "", "detail": "", "seconds_left": None, "last_event_t": None}


class ProgressQueries(Index):
    """The index's queries about the newest progress of runs. The argument `run` of a query is a run id."""

    def progress(self, run: str) -> dict[str, Any]:
        """Return the latest progress of a run as a dict with the keys listed in `PROGRESS`.

        The dict is empty before the first progress event. `fraction` is done / total, in 0..1. `seconds_left` assumes the rate of
        the last two minutes and is NaN if this rate is unknown.
        """
        row = self._latest([run]).get(run, UNSTARTED)
        named = {} if row["attempt"] is None else {name: row[name] for name in PROGRESS}
        return {name: math.nan if value is None and PROGRESS[name] == NUMBER else value for name, value in named.items()}

    def throughput(self, run: str) -> dict[str, Any]:
        """Return the recent speed of a run. Unknown numbers are None.

        Returns:
            A dict with these keys:

            * unit: unit of work, such as "steps" or "image passes". An image pass is one forward pass of one image.
            * units_per_s: completed units per second, over at most the last two minutes.
            * images_per_s: images per second, as the median of the last 50 steps.
            * passes_per_s: forward passes per second, between the last two measurements of the machine's load.
        """
        row = self._latest([run]).get(run, UNSTARTED)
        (images,), = self.shared(("images_per_s", run), ("folder", "metric"), run, lambda: self._rows("""
            select median(value) from (select value from metric_raw where number = $n and name = 'images_per_s'
                                       order by seq desc limit $most)""", run, most=THROUGHPUT_STEPS))
        (passes,), = self.shared(("passes_per_s", run), ("folder", "telemetry"), run, lambda: self._rows(
            "select arg_max(passes_per_s, seq) from telemetry_raw where number = $n", run))
        return {"unit": row.get("unit", ""), "units_per_s": row.get("units_per_s"), "images_per_s": images,
                "passes_per_s": passes}

    def _latest(self, only: Collection[str] | None) -> dict[str, dict[str, Any]]:
        """Return {run id: newest progress of the run, as `newest` returns it, and the time of its last event}.

        The answers are cached until the runs write further events. The caller must not change them.

        Args:
            only: ids of the runs; None for all.
        """
        alone = next(iter(only)) if only is not None and len(only) == 1 else ""
        return self.shared(("latest", *(("",) if only is None else only)), EVENTS, alone, lambda: self._newest_of(only))

    def _newest_of(self, only: Collection[str] | None) -> dict[str, dict[str, Any]]:
        among = "true" if only is None else self._among(only)
        attempts: dict[int, list[dict[str, Any]]] = {}
        for record in self._records(f"select * from progress where {among}"):
            attempts.setdefault(record["number"], []).append(record)
        last = dict(self._rows(f"select number, last_t from ingest where {among}"))
        return {run: (newest(attempts[number]) if number in attempts else UNSTARTED) | {"last_event_t": last.get(number)}
                for run, (number, _) in self._numbered().items() if only is None or run in only}


def newest(records: Collection[dict[str, Any]]) -> dict[str, Any]:
    """Return the newest progress of a run, given its rows of the table `progress`, one for each phase of each attempt.

    The keys are those of `PROGRESS`, and:

    * progress: the same as `fraction`.
    * units_per_s: mean rate over the trail, a list of progress points from at most the last two minutes; None if unknown.

    `seconds_left` leaves out the first unit of work of a trail, because the first step of an attempt also compiles. If units are
    so slow that the trail is full before the first of them is done, the rate is that of the whole trail. A shorter trail gives no
    estimate, and neither do numbers so large that they overflow.
    """
    row = max(records, key=lambda one: (one["attempt"], one["seq"]))
    times, done, total = row["trail_t"], row["trail_done"], row["total"]
    warm = next((place for place, value in enumerate(done) if value >= done[0] + 1), 0 if len(done) >= TRAIL_POINTS else None)
    left = math.nan
    if warm is not None and row["t"] > times[warm] and row["done"] > done[warm]:
        left = max(0.0, total - row["done"]) * (row["t"] - times[warm]) / (row["done"] - done[warm])
    fraction = max(0.0, min(1.0, row["done"] / total)) if total > 0 else None
    rate = (done[-1] - done[0]) / (times[-1] - times[0]) if times[-1] > times[0] else math.nan
    return {**row, "unit": row["unit"] or "", "passes": row["passes"] or 0, "phase": row["phase"] or "",
            "detail": row["detail"] or "", "fraction": fraction, "progress": fraction,
            "seconds_left": left if math.isfinite(left) else None, "units_per_s": rate if math.isfinite(rate) else None}
