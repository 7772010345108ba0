"""Queries for the rules that raise alerts. Each query covers several runs at once, so that a rule needs only one query."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from engine.log.index import INT, NUMBER, TEXT, Index

WRITTEN = {"run": TEXT, "t": NUMBER, "step": INT, "epoch": INT, "level": TEXT, "text": TEXT}
NOT_FINITE = {"run": TEXT, "t": NUMBER, "step": INT, "epoch": INT, "name": TEXT}
RETRAINED = {"run": TEXT, "epoch": INT, "step": INT, "t": NUMBER, "measured": NUMBER, "trained": NUMBER}
PACES = {"run": TEXT, "step": INT, "epoch": INT, "unit": TEXT, "seconds_per_unit": NUMBER}


class LatestAlphas(NamedTuple):
    """The latest alphas that a run recorded for one cell kind, and the run's latest genotype.

    Attributes:
        run: id of the run.
        t: Unix time at which the alphas were recorded.
        step: number of completed steps at this time.
        epoch: epoch at this time.
        cell: the cell kind.
        alpha: [edges, k] alphas before the softmax, for k operations.
        genotype: latest genotype of the run, as JSON; "" if there is none.
    """

    run: str
    t: float
    step: int
    epoch: int
    cell: str
    alpha: npt.NDArray[np.float32]
    genotype: str


class AlertQueries(Index):
    """The index's queries for the rules that raise alerts. The argument `runs` of a query holds run ids."""

    def active_since(self, t: float) -> dict[str, float]:
        """Return {run id: Unix time of its latest event} of all runs whose latest event is not older than the Unix time `t`."""
        return {str(run): float(last) for run, last in self._rows(
            "select run, last_t from folder join ingest using (number) where last_t >= $t order by last_t desc", t=t)}

    def written_alerts(self, runs: Collection[str]) -> pd.DataFrame:
        """Return the warnings and errors that the workers of `runs` have written, oldest first, with the columns in `WRITTEN`."""
        return self._frame(f"""
            select run, t, step, epoch, level, text from alert_raw join folder using (number)
            where {self._among(runs)} and level <> 'info' order by t, seq""", WRITTEN)

    def losses_not_finite(self, runs: Collection[str]) -> pd.DataFrame:
        """Return, for each run with a loss that was NaN or infinite, the first such loss, with the columns in `NOT_FINITE`."""
        among = self._among(runs)
        return self._frame(f"""
            with missing as (
                select number, seq, t, step, epoch, name from metric_raw where {among} and value is null and name like '%\\_loss'
                escape '\\'
                union all
                select number, seq, t, step, epoch, objective || '_loss' from objective_raw where {among} and loss is null)
            select run, t, step, epoch, name from missing join folder using (number)
            qualify row_number() over (partition by number order by seq) = 1""", NOT_FINITE)

    def retrained(self, runs: Collection[str]) -> pd.DataFrame:
        """Return the adversarial accuracies of retrainings by run and epoch.

        The columns are:

        * run, epoch: id of the run, and number of the epoch.
        * step, t: number of completed steps and Unix time at the end of the epoch.
        * measured: accuracy on the select split, in 0..1; NaN if it was not measured in this epoch.
        * trained: mean accuracy on the training batches of the epoch, in 0..1; NaN for natural training.
        """
        return self._frame(f"""
            select run, epoch, max(step) as step, max(t) as t,
                   avg(value) filter (split = 'select' and name = 'adversarial_accuracy') as measured,
                   avg(value) filter (split = 'weights' and name = 'train_adversarial_accuracy') as trained
            from metric join folder using (number)
            where {self._among(runs, 'retrain')} and name in ('adversarial_accuracy', 'train_adversarial_accuracy')
            group by run, epoch order by run, epoch""", RETRAINED)

    def latest_alphas(self, runs: Collection[str]) -> list[LatestAlphas]:
        """Return the latest alphas of each run and cell kind, with the latest genotype of the run."""
        among = self._among(runs, "search")
        # Selected by rowid, DuckDB reads only the blocks of these rows; selected by seq, it reads all alphas of the folder.
        rows = self._rows(f"""
            with latest as (select arg_max(rowid, seq) as latest from alpha_raw where {among} group by number, cell),
            derived as (select number, arg_max(genotype, seq) as genotype from genotype_raw where {among} group by number)
            select run, t, step, epoch, cell, len(primitives), alpha, coalesce(genotype, '')
            from alpha_raw join folder using (number) left join derived using (number)
            where alpha_raw.rowid in (select latest from latest) order by run, seq""")
        return [LatestAlphas(run, t, step, epoch, cell, np.array(alpha, np.float32).reshape(-1, k), genotype)
                for run, t, step, epoch, cell, k, alpha, genotype in rows]

    def paces(self, runs: Collection[str]) -> pd.DataFrame:
        """Return how many seconds each run has recently needed per unit of work, such as a step, with the columns in `PACES`.

        `seconds_per_unit` is computed from the last progress events of the run. It is NaN if no unit was completed between them.
        """
        return self._frame(f"""
            select run, coalesce((select max(step) from metric_raw m where m.number = p.number), 0) as step,
                   coalesce((select max(epoch) from metric_raw m where m.number = p.number), 0) as epoch,
                   coalesce(unit, '') as unit,
                   case when trail_done[-1] > trail_done[1]
                        then (trail_t[-1] - trail_t[1]) / (trail_done[-1] - trail_done[1]) end as seconds_per_unit
            from progress p join folder using (number) where {self._among(runs)}
            qualify row_number() over (partition by number order by attempt desc, seq desc) = 1
            order by run""", PACES)
