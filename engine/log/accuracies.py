"""The mean accuracies of each epoch, which the index keeps so that the list of runs need not read every metric.

New steps are added to stored sums. Only where a step may already be in a sum (a resumed run repeats steps, and a log may be
written by hand) are the sums of the run computed again from all of its metrics.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
        touched: keys of the rows that have changed.
        unclear: numbers of runs that have a step which may already be in a sum.
    """

    def __init__(self, stored: Iterable[dict[str, Any]], resumed: Mapping[int, int], unclear: Iterable[int]) -> None:
        """Begin with the stored rows of some runs.

        Args:
            stored: rows of the table `accuracy`.
            resumed: {number of a run that was resumed: latest attempt that resumed it}.
            unclear: numbers of runs whose sums must be computed again in any case.
        """
        self.rows: dict[Key, dict[str, Any]] = {}
        self.touched: set[Key] = set()
        self.unclear = set(unclear)
        self._resumed = resumed
        self._last: dict[tuple[int, str], int] = {}  # {(run, split): last step that is stored}
        self._latest: dict[tuple[Any, ...], int] = {}  # {(run, split, statistics, name): last step that was added}
        for row in stored:
            number, split = row["number"], row["split"]
            self.rows[number, split, row["epoch"]] = row
            self._last[number, split] = max(row["last_step"], self._last.get((number, split), -1))

    def add(self, metric: Sequence[Any]) -> None:
        """Add a row of the table `metric_raw`, or note that its run is unclear."""
        number, split, step = metric[_NUMBER], metric[_SPLIT], metric[_STEP]
        series = number, split, metric[_STATISTICS], metric[_NAME]
        known = max(self._last.get((number, split), -1), self._latest.get(series, -1))
        if step <= known or metric[_ATTEMPT] < self._resumed.get(number, 0):
            self.unclear.add(number)
            return
        self._latest[series] = step
        key = number, split, metric[_EPOCH]
        row = self.rows.setdefault(key, dict.fromkeys(_COLUMNS, 0) | {"number": number, "split": split, "epoch": metric[_EPOCH]})
        row["last_step"] = max(step, row["last_step"])
        self.touched.add(key)
        if metric[_VALUE] is not None:
            name = metric[_NAME].removesuffix("_accuracy")
            row[f"{name}_sum"] += metric[_VALUE]
            row[f"{name}_count"] += 1

    def changed(self) -> list[tuple[Any, ...]]:
        """Return the changed rows of the runs that are not unclear, with their means."""
        rows = [self.rows[key] for key in self.touched if key[0] not in self.unclear]
        for row in rows:
            for name in ("natural", "adversarial"):
                row[f"{name}_accuracy"] = row[f"{name}_sum"] / row[f"{name}_count"] if row[f"{name}_count"] else None
        return [tuple(row[name] for name in _COLUMNS) for row in rows]


def update(con: duckdb.DuckDBPyConnection, batch: Batch) -> None:
    """Bring the table `accuracy` up to date with the rows of a batch, in the transaction that has just written them."""
    metrics = [row for row in batch.rows.get("metric_raw", ()) if row[_SPLIT] in SPLITS and row[_NAME] in NAMES]
    just_resumed = {row[_NUMBER] for row in batch.rows.get("resumed_raw", ())}
    numbers = {row[_NUMBER] for row in metrics} | just_resumed
    if not numbers:
        return
    chosen = _chosen(numbers)
    stored = [dict(zip(_COLUMNS, row, strict=True)) for row in con.execute(f"select * from accuracy where {chosen}").fetchall()]
    resumed = con.execute(f"select number, max(attempt) from resumed_raw where {chosen} group by number").fetchall()
    sums = EpochSums(stored, dict(resumed), just_resumed)
    for metric in metrics:
        sums.add(metric)
    if rows := sums.changed():
        con.execute("delete from accuracy where (number, split, epoch) in (select unnest(?), unnest(?), unnest(?))",
                    [list(column) for column in zip(*(row[:3] for row in rows), strict=True)])
        insert(con, "accuracy", rows)
    if sums.unclear:
        _compute_again(con, _chosen(sums.unclear))


def _chosen(numbers: Iterable[int]) -> str:
    """Return the SQL condition that the column `number` is one of `numbers`.

    DuckDB applies a constant list already when it scans a table, also inside a view, which it does not do with a subquery. The
    numbers come from the index, so it is safe to put them into the SQL text.
    """
    return f"number in ({', '.join(map(str, sorted(numbers)))})"


def _compute_again(con: duckdb.DuckDBPyConnection, chosen: str) -> None:
    """Compute the rows of the runs that fulfil a condition (`_chosen`) from all of their metrics."""
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
