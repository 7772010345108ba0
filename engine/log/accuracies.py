"""The mean accuracies of each epoch, which the index keeps so that the list of runs need not read every metric.

New steps are added to stored sums. Where a step may already be in a sum (a resumed run repeats steps, and a log may be written by
hand), the sums of the run are computed again from all of its metrics. A log whose steps do not increase costs that at every
reading.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import duckdb

from engine.log import schema
from engine.log.batch import Batch, insert

SPLITS = ("alphas", "select")
NAMES = ("natural_accuracy", "adversarial_accuracy")
_METRIC = {name: place for place, name in enumerate(schema.TABLES["metric_raw"])}
_NUMBER, _ATTEMPT, _STEP, _EPOCH, _SPLIT, _STATISTICS, _NAME, _VALUE = (
    _METRIC[name] for name in ("number", "attempt", "step", "epoch", "split", "statistics", "name", "value"))
_COLUMNS = tuple(schema.TABLES["accuracy"])

Key = tuple[int, str, int]  # number of a run, split, epoch


class EpochSums:
    """Sums of accuracies, to which the values of new steps are added.

    Attributes:
        rows: {key: row of the table `accuracy` as a dict}.
        to_recompute: numbers of runs that have a step which may already be in a sum.
    """

    def __init__(self, stored: Iterable[dict[str, Any]], last: Mapping[tuple[int, str], int], resumed: Mapping[int, int],
                 to_recompute: Iterable[int]) -> None:
        """Begin with the stored rows of some runs.

        Args:
            stored: rows of the table `accuracy`, of all epochs that will be added to.
            last: {(number of a run, split): last step in any stored row}.
            resumed: {number of a run that was resumed: latest attempt that resumed it}.
            to_recompute: numbers of runs whose sums must be computed again in any case.
        """
        self.rows: dict[Key, dict[str, Any]] = {(row["number"], row["split"], row["epoch"]): row for row in stored}
        self.to_recompute = set(to_recompute)
        self._last, self._resumed = last, resumed
        self._latest: dict[tuple[Any, ...], int] = {}  # {(run, split, statistics, name): last step that was added}

    def add(self, metric: Sequence[Any]) -> None:
        """Add a row of the table `metric_raw`, or note that the sums of its run must be computed again."""
        number, split, step, epoch = metric[_NUMBER], metric[_SPLIT], metric[_STEP], metric[_EPOCH]
        series = number, split, metric[_STATISTICS], metric[_NAME]
        known = max(self._last.get((number, split), -1), self._latest.get(series, -1))
        if step <= known or metric[_ATTEMPT] < self._resumed.get(number, 0):
            self.to_recompute.add(number)
            return
        self._latest[series] = step
        if (row := self.rows.get((number, split, epoch))) is None:
            row = dict.fromkeys(_COLUMNS, 0) | {"number": number, "split": split, "epoch": epoch}
            self.rows[number, split, epoch] = row
        row["last_step"] = max(step, row["last_step"])
        if metric[_VALUE] is not None:
            name = metric[_NAME].removesuffix("_accuracy")
            row[f"{name}_sum"] += metric[_VALUE]
            row[f"{name}_count"] += 1

    def results(self) -> list[tuple[Any, ...]]:
        """Return the rows of the runs whose sums need not be computed again, with their means."""
        rows = [row for (number, _, _), row in self.rows.items() if number not in self.to_recompute]
        for row in rows:
            for name in ("natural", "adversarial"):
                row[f"{name}_accuracy"] = row[f"{name}_sum"] / row[f"{name}_count"] if row[f"{name}_count"] else None
        return [tuple(row[name] for name in _COLUMNS) for row in rows]


def update(con: duckdb.DuckDBPyConnection, batch: Batch) -> set[int]:
    """Bring the table `accuracy` up to date with the rows of a batch, in the transaction that has just written them.

    Returns:
        The numbers of the runs whose rows have been written again.
    """
    metrics = [row for row in batch.rows.get("metric_raw", ()) if row[_SPLIT] in SPLITS and row[_NAME] in NAMES]
    just_resumed = {row[_NUMBER] for row in batch.rows.get("resumed_raw", ())}
    numbers = {row[_NUMBER] for row in metrics} | just_resumed
    if not numbers:
        return numbers
    chosen = _chosen("number", numbers)
    of_epochs = f"{chosen} and {_chosen('epoch', {row[_EPOCH] for row in metrics})}"
    rows = con.execute(f"select * from accuracy where {of_epochs}").fetchall()
    stored = [dict(zip(_COLUMNS, row, strict=True)) for row in rows]
    last = con.execute(f"select number, split, max(last_step) from accuracy where {chosen} group by number, split").fetchall()
    resumed = con.execute(f"select number, max(attempt) from resumed_raw where {chosen} group by number").fetchall()
    sums = EpochSums(stored, {(number, split): step for number, split, step in last}, dict(resumed), just_resumed)
    for metric in metrics:
        sums.add(metric)
    if stored:
        con.execute(f"delete from accuracy where {of_epochs}")
    insert(con, "accuracy", sums.results())
    if sums.to_recompute:
        _recompute(con, _chosen("number", sums.to_recompute))
    return numbers


def _chosen(column: str, numbers: Collection[int]) -> str:
    """Return the SQL condition that a column is one of some numbers.

    DuckDB applies a constant list already when it scans a table, also inside a view, which it does not do with a subquery. It
    is safe to put the numbers into the SQL text.
    """
    return f"{column} in ({', '.join(map(str, sorted(numbers)))})" if numbers else "false"


def _recompute(con: duckdb.DuckDBPyConnection, chosen: str) -> None:
    """Compute the rows of the runs that fulfil a condition from all of their metrics.

    The sums are ordered, so that they equal those to which the same steps are added one by one.
    """
    con.execute(f"delete from accuracy where {chosen}")
    con.execute(f"""
        insert into accuracy by name
        select number, split, epoch, natural_sum / nullif(natural_count, 0) as natural_accuracy,
               adversarial_sum / nullif(adversarial_count, 0) as adversarial_accuracy, natural_sum, natural_count,
               adversarial_sum, adversarial_count, last_step
        from (select number, split, epoch,
                     coalesce(sum(value order by step, statistics) filter (name = 'natural_accuracy'), 0) as natural_sum,
                     count(value) filter (name = 'natural_accuracy') as natural_count,
                     coalesce(sum(value order by step, statistics) filter (name = 'adversarial_accuracy'), 0) as adversarial_sum,
                     count(value) filter (name = 'adversarial_accuracy') as adversarial_count,
                     max(step) as last_step
              from metric where {chosen} and split in {SPLITS} and name in {NAMES} group by number, split, epoch)""")
