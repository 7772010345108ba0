"""Queries about the metrics of one run: their means over each epoch, and their values by step."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from engine.log.index import INT, NUMBER, TEXT, Index
from engine.log.thinning import Floats, Integers, epoch_means, extremes

CURVE_BUCKETS = 400
MOST_BYTES = 8 << 20  # largest total size of the metrics that are kept, of several runs
CURVES = {"epoch": INT, "step": INT, "split": TEXT, "statistics": TEXT, "name": TEXT, "value": NUMBER}
SCALARS = {"name": TEXT, "step": INT, "t": NUMBER, "value": NUMBER}

Points = tuple[Integers, Integers, Floats]
NO_POINTS: Points = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))


class MetricSeries(NamedTuple):
    """The values of one metric over the steps of a run.

    Attributes:
        split: split of the data on which the metric was measured.
        statistics: "batch" or "running", the statistics that BatchNorm used.
        name: name of the metric.
        points: three arrays of the same length: epochs, steps (increasing) and values (NaN if missing).
    """

    split: str
    statistics: str
    name: str
    points: Points


@dataclass
class _Buffer:
    """An array with spare room at its end.

    Attributes:
        values: the array. Elements that have been written are never changed.
        used: number of elements that have been written.
    """

    values: npt.NDArray[Any]
    used: int


class _Column(NamedTuple):
    """An array that grows in place. It is copied only when it has grown by an eighth, or when another column has grown from it.

    A copy at every step would leave gaps in memory, which nothing else fits into.

    Attributes:
        buffer: the array, which several columns may share.
        length: number of values, which are the first ones of the array.
    """

    buffer: _Buffer
    length: int

    @classmethod
    def of(cls, values: npt.NDArray[Any]) -> _Column:
        """Return a column with these values."""
        return cls(_Buffer(values, len(values)), len(values))

    @property
    def values(self) -> npt.NDArray[Any]:
        """The values, as a view."""
        return self.buffer.values[:self.length]

    def followed_by(self, more: npt.NDArray[Any]) -> _Column:
        """Return a column with further values."""
        length, buffer = self.length + len(more), self.buffer
        if length > len(buffer.values) or buffer.used != self.length:
            buffer = _Buffer(np.empty(length + length // 8 + 16, self.values.dtype), self.length)
            buffer.values[:self.length] = self.values
        buffer.values[self.length:length] = more
        buffer.used = length
        return _Column(buffer, length)


NO_COLUMNS = (_Column.of(NO_POINTS[0]), _Column.of(NO_POINTS[1]), _Column.of(NO_POINTS[2]))


class _Read(NamedTuple):
    """What has been read of a run's metrics.

    Attributes:
        state: the database, and the revision of what makes the values out of date.
        last: largest `seq` of the rows that have been read.
        columns: {(split, statistics, name): epochs, steps and values}. Series with the same epochs or steps share these columns.
    """

    state: object
    last: int
    columns: dict[tuple[str, str, str], tuple[_Column, _Column, _Column]]

    @property
    def bytes(self) -> int:
        """The size of the arrays, with their spare room."""
        buffers = {id(column.buffer): column.buffer.values for columns in self.columns.values() for column in columns}
        return sum(values.nbytes for values in buffers.values())

    @property
    def series(self) -> list[MetricSeries]:
        """The series, ordered by split, BatchNorm statistics and name."""
        return [MetricSeries(*key, (epochs.values, steps.values, values.values))
                for key, (epochs, steps, values) in sorted(self.columns.items())]


class MetricQueries(Index):
    """The index's queries about the metrics of one run.

    The argument `run` of a query is the run's id. A query about an unknown run returns no rows.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Create the index with the arguments of `Index`. Use `open` instead of calling this directly."""
        super().__init__(*arguments, **options)
        self._read: dict[str, _Read] = {}

    def curves(self, run: str) -> pd.DataFrame:
        """Return the mean of every metric over each epoch.

        The columns are epoch, step (the last step of the epoch), split, statistics, name (of the metric) and value. `statistics`
        is "batch" or "running", depending on the statistics that BatchNorm used.
        """
        def computed() -> pd.DataFrame:
            metrics = self._metrics(run)
            return _curve_table(metrics, [epoch_means(*one.points) for one in metrics])

        return self.shared(("curves", run), ("folder", "metric", "resumed"), run, computed).copy()

    def steps_curve(self, run: str, names: Collection[str], buckets: int = CURVE_BUCKETS) -> pd.DataFrame:
        """Return the values of some metrics by step. A long series is reduced to the extremes and the last point of each bucket.

        A series is one metric on one split with one kind of BatchNorm statistics.

        Args:
            run: run id.
            names: names of the metrics.
            buckets: maximum number of buckets of a series. Each bucket contributes at most three points.

        Returns:
            A table with the columns epoch, step, split, statistics (kind of BatchNorm statistics), name (of the metric) and
            value.
        """
        metrics = [one for one in self._metrics(run) if one.name in names]
        return _curve_table(metrics, [_thinned(one.points, buckets) for one in metrics])

    def _metrics(self, run: str) -> list[MetricSeries]:
        """Return all values of all metrics of a run, ordered by split, BatchNorm statistics and name.

        The result is kept, up to a size of `MOST_BYTES`, and later calls read only the rows that the run has written since. After
        a resume, everything is read again, because a resumed run repeats steps (`engine.log.schema`).
        """
        state = self._con, self.revision(("folder", "resumed"), run)
        known = self._read.pop(run, None)  # taken out, because only one thread may extend its columns in place
        if known is None or known.state != state or (more := self._continued(run, known)) is None:
            more = self._read_whole(run, state)
        self._read[run] = more
        while sum(one.bytes for one in list(self._read.values())) > MOST_BYTES:
            self._read.pop(next(iter(list(self._read)), ""), None)
        return more.series

    def _read_whole(self, run: str, state: object) -> _Read:
        """Return all values of all metrics of a run."""
        (last,), = self._rows("select coalesce(max(seq), -1) from metric_raw where number = $n", run)
        found = self._arrays("""
            select split, statistics, name, list(epoch order by step) as epochs, list(step order by step) as steps,
                   list(coalesce(value, 'nan') order by step) as "values"
            from metric where number = $n group by split, statistics, name""", run)
        shared: dict[bytes, _Column] = {}

        def column(numbers: npt.NDArray[Any]) -> _Column:
            numbers = numbers.astype(np.int64)
            return shared.setdefault(numbers.tobytes(), _Column.of(numbers))

        return _Read(state, last, {
            (split, statistics, name): (column(epochs), column(steps), _Column.of(values))
            for split, statistics, name, epochs, steps, values in zip(*found.values(), strict=True)})

    def _continued(self, run: str, known: _Read) -> _Read | None:
        """Return known values together with those that the run has written since, or None if a step was written once more."""
        rows = self._rows("select split, statistics, name, epoch, step, value, seq from metric_raw "
                          "where number = $n and seq > $last order by seq", run, last=known.last)
        added: dict[tuple[str, str, str], list[tuple[int, int, float]]] = {}
        for split, statistics, name, epoch, step, value, _ in rows:
            added.setdefault((split, statistics, name), []).append((epoch, step, np.nan if value is None else value))
        columns = dict(known.columns)
        grown: dict[tuple[Any, ...], _Column] = {}

        def grow(column: _Column, more: tuple[int, ...]) -> _Column:
            same = id(column.buffer), column.length, more
            if same not in grown:
                grown[same] = column.followed_by(np.array(more))
            return grown[same]

        for key, more in added.items():
            epochs, steps, values = zip(*more, strict=True)
            earlier = columns.get(key, NO_COLUMNS)
            if np.any(np.diff(steps, prepend=earlier[1].values[-1:]) <= 0):
                return None
            columns[key] = grow(earlier[0], epochs), grow(earlier[1], steps), earlier[2].followed_by(np.array(values))
        return _Read(known.state, rows[-1][-1] if rows else known.last, columns)

    def series(self, run: str) -> list[tuple[str, str]]:
        """Return (split, name) of each metric and ("", name) of each objective that any attempt of a run recorded.

        Metrics come first, by split and name, then the objectives in the order in which the run lists them. This is much cheaper
        than `curves` and `objectives`.
        """
        return self.shared(("series", run), ("folder", "metric", "objective"), run, lambda: [
            (split, name) for split, name in self._rows("""
                select split, name from (
                    select split, name, -1 as place from metric_raw where number = $n group by split, name
                    union all select '', objective, min(position) from objective_raw where number = $n group by objective)
                order by place, split, name""", run)])

    def objective_names(self, run: str) -> list[str]:
        """Return the names of the objectives that any attempt of a run recorded, in the order in which the run lists them."""
        return [name for split, name in self.series(run) if not split]

    def scalars(self, run: str) -> pd.DataFrame:
        """Return every number that a run recorded step by step, one row per number, ordered by name and step.

        Columns:
            name: path of the series, for example "select/running/natural_accuracy" or "objectives/natural/weight".
            step: number of completed steps.
            t: Unix time in seconds.
            value: the number, without averaging.
        """
        return self._frame("""
            select concat_ws('/', split, nullif(statistics, ''), name) as name, step, t, value from metric
            where number = $n and value is not null
            union all
            select concat_ws('/', 'objectives', objective, part), step, t, value from (
                unpivot (select objective, step, t, loss, weight, norm, cosine from objective where number = $n)
                on loss, weight, norm, cosine into name part value value)
            order by 1, 2""", SCALARS, run)


def _curve_table(metrics: Sequence[MetricSeries], points: Sequence[Points]) -> pd.DataFrame:
    """Return a table with the columns `CURVES`: epochs, steps and values of some points of each metric."""
    counts = [len(epochs) for epochs, _, _ in points]
    texts = {name: pd.array([getattr(one, name) for one in metrics], dtype=TEXT).repeat(counts)
             for name in ("split", "statistics", "name")}
    epochs, steps, values = (np.concatenate(column) for column in zip(NO_POINTS, *points, strict=True))
    return pd.DataFrame({"epoch": epochs, "step": steps, **texts, "value": values})


def _thinned(points: Points, buckets: int) -> Points:
    """Return those points of a metric that `extremes` keeps."""
    epochs, steps, values = points
    (chosen,) = extremes(steps, values[:, None], buckets)
    return epochs[chosen], steps[chosen], values[chosen]
