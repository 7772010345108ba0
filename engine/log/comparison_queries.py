"""Queries that compare several runs: their settings, and the values of one metric over the steps of each run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from engine.log.index import INT, NUMBER, TEXT, Index

MOST_POINTS = 2000  # per run
METRICS = {"name": TEXT, "split": TEXT, "statistics": TEXT, "runs": INT}
OVERLAY = {"run": TEXT, "step": INT, "epoch": INT, "value": NUMBER}


class ComparisonQueries(Index):
    """The index's queries that compare several runs."""

    def configs(self, runs: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return {run id: settings} as recorded in run.json. Unknown runs and runs without settings are left out.

        The caller must not change the settings.
        """
        return self.shared(("configs", *runs), ("folder",), "", lambda: {run: json.loads(config) for run, config in self._rows(
            "select run, config from folder where list_contains($runs, run) and config is not null", runs=list(runs))})

    def configs_naming(self, run: str) -> dict[str, dict[str, Any]]:
        """Return {run id: settings} of all other runs whose settings contain the run id `run`, newest first."""
        rows = self._rows("select run, config from folder where run <> $id and contains(config, $id) order by created desc, run",
                          id=run)
        return {one: json.loads(config) for one, config in rows}

    def metrics_of(self, runs: Sequence[str]) -> pd.DataFrame:
        """Return the metrics that at least one of these runs has recorded, with the columns in `METRICS`.

        The column `runs` is the number of these runs that recorded the metric. Metrics that more runs recorded come first.
        """
        return self._frame("""
            select name, split, statistics, count(distinct number) as runs
            from metric_raw join folder using (number) where list_contains($runs, run)
            group by name, split, statistics order by runs desc, name, split, statistics""", METRICS, runs=list(runs))

    def overlay(self, runs: Sequence[str], name: str, split: str, statistics: str, most: int = MOST_POINTS, *,
                by_epoch: bool = False) -> pd.DataFrame:
        """Return the values of one metric over the steps of several runs, with the columns in `OVERLAY`.

        Each run has at most `most` points. The steps of a run are divided into `most` / 2 buckets of equal length. The smallest
        and the largest value of each bucket are kept, so no peak is lost.

        Args:
            runs: run ids.
            name, split, statistics: the metric, as listed by `metrics_of`.
            most: maximum number of points of a run, at least 2.
            by_epoch: True to reduce the values of each epoch to their mean first. `step` is then the last step of the epoch.
        """
        return self._frame("""
            with line as (
                select run, max(step) as step, epoch, avg(value) as value from metric join folder using (number)
                where list_contains($runs, run) and name = $name and split = $split and statistics = $statistics
                      and value is not null
                group by run, epoch, if($by_epoch, 0, step)),
            ranged as (select *, min(step) over every as first, max(step) over every as last from line
                       window every as (partition by run)),
            bucketed as (select *, (step - first) * $buckets // (last - first + 1) as bucket from ranged)
            select run, step, epoch, value from bucketed
            qualify row_number() over (partition by run, bucket order by value, step) = 1
                 or row_number() over (partition by run, bucket order by value desc, step) = 1
            order by run, step""", OVERLAY, runs=list(runs), name=name, split=split, statistics=statistics,
                           buckets=max(1, most // 2), by_epoch=by_epoch)
