"""Queries about the training of one run: objectives and their weights, alphas, genotypes and candidates.

Long series are reduced to a few hundred points (`engine.log.thinning`).
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from engine.log.index import FLAG, INT, NUMBER, TEXT
from engine.log.metric_queries import MetricQueries
from engine.log.thinning import BUCKET, extremes, kept

OBJECTIVE_BUCKETS, ALPHA_BUCKETS = 120, 64
EVERY = 10**9  # more buckets than any series has steps, so nothing is left out
OBJECTIVES = {"step": INT, "epoch": INT, "objective": TEXT, "weight": NUMBER, "norm": NUMBER, "loss": NUMBER, "cosine": NUMBER}
SHARES = {"objective": TEXT, "share_ignored": NUMBER, "share_alone": NUMBER, "steps": INT}
MATRIX = {"edge": INT, "operation": TEXT, "alpha": NUMBER, "weight": NUMBER, "edge_weight": NUMBER}
LINES = {"edge": INT, "operation": TEXT, "step": INT, "epoch": INT, "weight": NUMBER}
EDGE_LINES = {"edge": INT, "step": INT, "epoch": INT, "edge_weight": NUMBER}
GENOTYPES = {"epoch": INT, "step": INT, "genotype": TEXT, "hash": TEXT, "unchanged_epochs": INT, "t": NUMBER}
FOUND = {"run": TEXT, "imported": FLAG, "genotype": TEXT, "channels": NUMBER, "layers": NUMBER, "candidates": INT,
         "ranking": TEXT}
CANDIDATES = {"candidate": INT, "rank": INT, "genotype": TEXT, "hash": TEXT, "parameters": INT, "macs": INT, "images": INT,
              "natural": NUMBER, "natural_low": NUMBER, "natural_high": NUMBER, "adversarial": NUMBER, "adversarial_low": NUMBER,
              "adversarial_high": NUMBER, "inherited_natural": NUMBER, "inherited_natural_low": NUMBER,
              "inherited_natural_high": NUMBER, "inherited_adversarial": NUMBER, "inherited_adversarial_low": NUMBER,
              "inherited_adversarial_high": NUMBER, "ranking": TEXT}
# Orders candidates from best to worst. The order is the same as in `engine.search.candidates.ranked`.
BEST_CANDIDATE_FIRST = """
    case ranking when 'adversarial' then adversarial_correct when 'natural' then natural_correct else 0 end / images desc,
    case ranking when 'adversarial' then natural_correct when 'natural' then adversarial_correct else 0 end / images desc,
    candidate"""

# A weight this close to 0 or 1 counts as 0 or 1. MGDA's clipping gives exactly 0 and 1, but Frank-Wolfe only comes close to them.
AT_VERTEX = 1e-9


class Course(NamedTuple):
    """The values of one weight over the steps of a search, reduced to a few hundred points.

    Attributes:
        edge: edge of the cell, 0..13.
        operation: operation to which the weight belongs; "" for the weight of the edge itself.
        steps: steps in increasing order.
        weights: weight at each of the steps, in 0..1, rounded to four decimals.
    """

    edge: int
    operation: str
    steps: list[int]
    weights: list[float]


class TrainingQueries(MetricQueries):
    """The index's queries about the training of one run.

    The argument `run` of a query is the run's id. A query about an unknown run returns no rows.
    """

    def objectives(self, run: str, buckets: int = OBJECTIVE_BUCKETS) -> pd.DataFrame:
        """Return the values of each objective by step. In a long run, only some of the steps are returned.

        The steps are divided into at most `buckets` buckets. In each bucket, the last step is kept, as is each step at which the
        weight, norm, loss or cosine of an objective is smallest or largest. The kept steps are the same for all objectives.

        The columns are step, epoch, objective (name), weight, loss and:

        * norm: norm of the objective's gradient.
        * cosine: smallest cosine similarity of this gradient and the gradient of any other objective.
        """
        return self.kept(("objectives", run, buckets), ("folder", "objective", "resumed"), run, lambda: self._frame(f"""
            with line as (select *, min(step) over () as first, max(step) over () as last from objective where number = $n),
            bucketed as (select *, {BUCKET} as bucket from line),
            kept as (select unnest({kept("step", "weight", "norm", "loss", "cosine")}) as step
                     from bucketed group by objective, bucket)
            select step, epoch, objective, weight, norm, loss, cosine from line
            where step in (select step from kept) order by position, step""", OBJECTIVES, run, buckets=buckets))

    def share_at_vertex(self, run: str, last: int = 500) -> pd.DataFrame:
        """Return how often each objective was ignored (weight 0) or used alone (weight 1) in the last steps of a run.

        The table has one row per objective.

        Columns:
            objective: name of the objective.
            share_ignored: fraction of the counted steps in which the weight was 0.
            share_alone: fraction of the counted steps in which the weight was 1.
            steps: number of counted steps.

        Args:
            run: run id.
            last: number of steps to count, from the end of the run.
        """
        return self._frame("""
            with line as (select *, dense_rank() over (order by step desc) as back from objective where number = $n)
            select objective, avg((weight <= $eps)::int) as share_ignored, avg((weight >= 1 - $eps)::int) as share_alone,
                   count(weight) as steps
            from line where back <= $last group by objective order by max(position)""",
                           SHARES, run, eps=AT_VERTEX, last=last)

    def alpha_cells(self, run: str) -> list[str]:
        """Return the cell kinds (such as "normal") for which a run recorded alphas, in the order of their first record."""
        return [cell for cell, in self._rows(
            "select cell from alpha_raw where number = $n group by cell order by min(seq)", run)]

    def alpha_epochs(self, run: str, cell: str) -> list[int]:
        """Return the epochs in which a run recorded alphas of the cell kind `cell`, in increasing order."""
        return [epoch for epoch, in self._rows(
            "select distinct epoch from alpha where number = $n and cell = $cell order by epoch", run, cell=cell)]

    def alpha_epoch(self, run: str) -> int | None:
        """Return the latest epoch in which any attempt of a run recorded alphas, or None if there is none.

        This is much cheaper than `alpha_epochs`.
        """
        return self.shared(("alpha_epoch", run), ("folder", "alpha"), run, lambda: next(
            (epoch for epoch, in self._rows("select max(epoch) from alpha_raw where number = $n", run)), None))

    def alpha_matrix(self, run: str, cell: str, epoch: int | None = None) -> pd.DataFrame:
        """Return the alphas of a cell kind that were recorded last in an epoch.

        The columns are:

        * edge (0..13), operation, alpha.
        * edge_weight: softmax over all edges into the same node, for a method with edge weights such as PC-DARTS. NaN for other
          methods.
        * weight: softmax of the alphas over the operations of the edge, multiplied by `edge_weight` if the method has edge
          weights. The genotype is derived from these weights.

        Args:
            run: run id.
            cell: the cell kind, such as "normal".
            epoch: the epoch; None for the last recorded epoch.
        """
        return self.kept(("alpha_matrix", run, cell, epoch), ("folder", "alpha", "resumed"), run, lambda: self._frame("""
            with matrix as (select primitives, alpha, weight, edge_weight, len(primitives) as k from alpha_raw
                            where number = $n and seq = (
                                select arg_max(seq, step) from alpha
                                where number = $n and cell = $cell and ($epoch is null or epoch = $epoch))),
            entry as (select k, primitives, edge_weight, unnest(alpha) as alpha, unnest(weight) as weight,
                             generate_subscripts(alpha, 1) - 1 as i from matrix)
            select i // k as edge, primitives[i % k + 1] as operation, alpha, weight, edge_weight[i // k + 1] as edge_weight
            from entry order by i""", MATRIX, run, cell=cell, epoch=epoch))

    def alpha_lines(self, run: str, cell: str) -> pd.DataFrame:
        """Return the weights of all operations of the cell kind `cell` at every recorded step of a run.

        The columns are edge, operation, step, epoch and weight. A weight is the softmax of the alphas over the operations of the
        edge, multiplied by the edge weight if the method has edge weights.
        """
        return self._frame("""
            with entry as (select step, epoch, primitives, len(primitives) as k, unnest(weight) as weight,
                                  generate_subscripts(weight, 1) - 1 as i from alpha where number = $n and cell = $cell)
            select i // k as edge, primitives[i % k + 1] as operation, step, epoch, weight from entry order by i, step""",
                           LINES, run, cell=cell)

    def alpha_courses(self, run: str, cell: str, buckets: int = ALPHA_BUCKETS) -> list[Course]:
        """Return the weights of `alpha_lines` for each edge and operation, reduced to a few hundred points.

        A course has at most `buckets` buckets with up to three points each. Steps at which the cell had other operations than at
        the last step are left out. NumPy chooses the points in a tenth of the time that SQL needs, because SQL makes one row for
        each weight.
        """
        found = self._arrays("""
            with line as (select step, primitives, weight from alpha where number = $n and cell = $cell)
            select step, weight, last.primitives as names
            from line, (select primitives, len(weight) as numbers from line order by step desc limit 1) last
            where line.primitives = last.primitives and len(weight) = numbers order by step""", run, cell=cell)
        steps = found["step"].astype(np.int64)
        if not len(steps):
            return []
        names, weights = list(found["names"][0]), np.stack(list(found["weight"]))
        rounded = weights.astype(np.float64).round(4)
        return [Course(column // len(names), names[column % len(names)], steps[chosen].tolist(), rounded[chosen, column].tolist())
                for column, chosen in enumerate(extremes(steps, weights, buckets))]

    def edge_lines(self, run: str, cell: str) -> pd.DataFrame:
        """Return the edge weights of the cell kind `cell` at every recorded step of a run.

        The columns are edge, step, epoch and edge_weight. For a method without edge weights, there are no rows.
        """
        return self._frame("""
            select unnest(edge_weight) as edge_weight, generate_subscripts(edge_weight, 1) - 1 as edge, step, epoch
            from alpha where number = $n and cell = $cell order by edge, step""", EDGE_LINES, run, cell=cell)

    def edge_courses(self, run: str, cell: str, buckets: int = ALPHA_BUCKETS) -> list[Course]:
        """Return the edge weights of `edge_lines` for each edge, reduced to a few hundred points.

        The same steps are kept for all edges, so that a chart can stack the weights. A step is kept if any edge has its smallest
        or largest weight of the bucket at this step, or if the step is the last of its bucket.
        """
        rows = self._rows(f"""
            with line as (select step, edge_weight, min(step) over () as first, max(step) over () as last
                          from alpha where number = $n and cell = $cell and len(edge_weight) > 0),
            entry as (select step, {BUCKET} as bucket, round(unnest(edge_weight)::double, 4) as weight,
                             generate_subscripts(edge_weight, 1) - 1 as edge from line),
            kept as (select unnest({kept("step", "weight")}) as step from entry group by edge, bucket)
            select edge, '', list(step order by step), list(weight order by step)
            from entry where step in (select step from kept) group by edge order by edge""", run, cell=cell, buckets=buckets)
        return [Course(*row) for row in rows]

    def genotypes(self, run: str) -> pd.DataFrame:
        """Return the genotype at the end of each epoch.

        The columns are epoch, step, genotype (as JSON), hash (of the genotype), t (Unix time of the record) and unchanged_epochs
        (number of epochs since the genotype last changed).
        """
        return self.kept(("genotypes", run), ("folder", "genotype", "resumed"), run, lambda: self._frame("""
            with last as (select * from genotype where number = $n
                          qualify row_number() over (partition by epoch order by step desc) = 1),
            changed as (select *, coalesce(hash <> lag(hash) over (order by epoch), true)::int as is_new from last),
            spell as (select *, sum(is_new) over (order by epoch) as spell from changed)
            select epoch, step, genotype, hash, t,
                   epoch - first_value(epoch) over (partition by spell order by epoch) as unchanged_epochs
            from spell order by epoch""", GENOTYPES, run))

    def candidates(self, run: str) -> pd.DataFrame:
        """Return the candidate networks that a search trained and measured one by one, best first.

        The columns are:

        * candidate (number, from 1), rank (from 1), genotype (as JSON), hash (of the genotype), parameters, macs,
        * images: number of images on which the candidate was measured,
        * natural and adversarial: natural and adversarial accuracy as fractions,
        * natural_low, natural_high, adversarial_low and adversarial_high: the bounds of the 95 % Wilson intervals of the
          accuracies,
        * inherited_natural and inherited_adversarial with their intervals: accuracies of the same architecture with the weights
          of a supernet; empty unless the search measured them,
        * ranking: value of the search's setting `ranking`, which determines the accuracy by which candidates are ranked.
        """
        return self._frame(f"""
            select *, natural_correct / images as "natural", adversarial_correct / images as adversarial,
                   inherited_natural_correct / images as inherited_natural,
                   inherited_adversarial_correct / images as inherited_adversarial,
                   row_number() over (order by {BEST_CANDIDATE_FIRST}) as rank
            from candidate where number = $n order by rank""", CANDIDATES, run)

    def genotype(self, run: str) -> dict[str, Any] | None:
        """Return the genotype of a run in the format of `Genotype.from_dict`, or None if there is none.

        For a retraining or an attack, this is the genotype of the network that is trained or attacked. For a search, it is the
        genotype found last.
        """
        rows = self._rows("""
            select coalesce(n.genotype, (select arg_max(genotype, step) from genotype g where g.number = f.number))
            from folder f left join network n using (number) where number = $n""", run)
        return json.loads(rows[0][0]) if rows and rows[0][0] else None

    def genotypes_of_runs(self) -> pd.DataFrame:
        """Return one row per run that has a genotype, newest first.

        `genotype` is the genotype that the method `genotype` returns for the run, as JSON text. `imported` is True if the run was
        imported. `channels` and `layers` give the size of the network that a retraining or attack built, if the run recorded the
        size. `candidates` is the number of candidates that a search has measured one by one, and `ranking` its setting of this
        name; 0 and "" for other runs. The caller must not change the table.
        """
        tables = ("folder", "genotype", "network", "candidate", "resumed")
        return self.shared("genotypes of runs", tables, "", lambda: self._frame("""
            select f.run, coalesce((document ->> 'imported') <> '{}', false) as imported,
                   coalesce(n.genotype, d.genotype) as genotype, n.channels, n.layers, coalesce(c.candidates, 0) as candidates,
                   coalesce(c.ranking, '') as ranking
            from folder f left join network n using (number)
            left join (select number, count(*) as candidates, any_value(ranking) as ranking from candidate group by number) c
                 using (number)
            left join (select number, arg_max(genotype, step) as genotype from genotype group by number) d using (number)
            where coalesce(n.genotype, d.genotype) is not null
            order by created desc nulls last, f.run desc""", FOUND))
