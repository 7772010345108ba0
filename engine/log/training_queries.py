"""Queries about the training of one run: objectives and their weights, genotypes and candidates.

Long series are reduced to a few hundred points (`engine.log.thinning`).
"""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from engine.log.index import FLAG, INT, NUMBER, TEXT
from engine.log.metric_queries import MetricQueries
from engine.log.thinning import BUCKET, kept

OBJECTIVE_BUCKETS = 120
EVERY = 10**9  # more buckets than any series has steps, so nothing is left out
OBJECTIVES = {"step": INT, "epoch": INT, "objective": TEXT, "weight": NUMBER, "norm": NUMBER, "loss": NUMBER, "cosine": NUMBER}
SHARES = {"objective": TEXT, "share_ignored": NUMBER, "share_alone": NUMBER, "steps": INT}
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
