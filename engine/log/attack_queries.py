"""Queries about attacked networks: attack results, the robustness table and Pareto fronts.

Pareto fronts compare only results in the same group. All results in a group come from one dataset, one attack, one epsilon and
the same images, and have equal fingerprints (a fingerprint is a hash of the conditions of a measurement).
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import pandas as pd

from engine.attack.catalogue import ATTACKS as CATALOGUE
from engine.attack.catalogue import NATURAL
from engine.log.index import FLAG, INT, NUMBER, TEXT, Index
from engine.log.run_queries import SEARCH_ATTACK

ATTACKS = {"run": TEXT, "attack": TEXT, "title": TEXT, "part_of": TEXT, "epsilon": NUMBER, "images": INT, "correct": INT,
           "accuracy": NUMBER, "low": NUMBER, "high": NUMBER, "fingerprint": TEXT, "fields": TEXT, "duration_s": NUMBER,
           "complete": FLAG, "t": NUMBER}
# Maps the prefix of a column to the name of the attack in events.
WIDE = {NATURAL: NATURAL} | {attack.prefix: name for name, attack in CATALOGUE.items()}
_NUMBERS = ("accuracy", "low", "high", "images")
ROBUSTNESS = (
    {"run": TEXT, "title": TEXT, "method": TEXT, "dataset": TEXT, "preset": TEXT, "parent": TEXT, "created": NUMBER,
     "epsilon": NUMBER}
    | {f"{prefix}_{name}": NUMBER for prefix in (*WIDE, "worst") for name in _NUMBERS}
    | {"worst_of": TEXT, "parameters": NUMBER, "macs": NUMBER, "genotype": TEXT, "genotype_hash": TEXT, "hand_made": TEXT,
       "fingerprint": TEXT, "complete": FLAG}
)
NETWORKS = {"run": TEXT, "title": TEXT, "method": TEXT, "preset": TEXT, "dataset": TEXT, "attack": TEXT, "attack_title": TEXT,
            "epsilon": NUMBER, "natural": NUMBER, "natural_low": NUMBER, "natural_high": NUMBER, "natural_images": INT,
            "adversarial": NUMBER, "adversarial_low": NUMBER, "adversarial_high": NUMBER, "images": INT, "fingerprint": TEXT,
            "group": TEXT, "is_front": FLAG, "parameters": NUMBER, "macs": NUMBER}
EPOCHS = {"run": TEXT, "title": TEXT, "method": TEXT, "preset": TEXT, "dataset": TEXT, "epoch": INT, "natural": NUMBER,
          "adversarial": NUMBER, "attack_title": TEXT, "epsilon": NUMBER, "group": TEXT, "is_front": FLAG, "is_last": FLAG,
          "genotype_hash": TEXT}

# Radius of the attack inside a search. The second setting belongs to methods that attack in a single step instead of with PGD.
EPSILON = "coalesce(config ->> 'epsilon', config ->> 'attack_epsilon')::double"

# True if no other point of the same `grp` is at least as good in both accuracies and better in one. This is so if the point has
# the best adversarial accuracy among all points of equal natural accuracy, and a better one than every point of higher natural
# accuracy. The expression sorts once instead of comparing all pairs. Equal points are all on the front.
_IS_FRONT = """
    adversarial >= max(adversarial) over (partition by grp, "natural")
    and adversarial > coalesce(max(adversarial) over (
        partition by grp order by "natural" desc range between unbounded preceding and current row exclude group), -1)"""


class AttackQueries(Index):
    """An index with the queries about attacked networks: results, the robustness table and Pareto fronts."""

    def attacks(self, run: str | None = None) -> pd.DataFrame:
        """Return the attack results of one run, or of all runs if `run` is None, with columns `ATTACKS`.

        The natural accuracy and each part of a suite (such as AutoAttack) have rows of their own. `fields` holds the conditions
        of the measurement, which the fingerprint summarises, as JSON. `part_of` is the name of the suite to which the row
        belongs, or "".
        """
        return self._frame("""
            select run, attack, a.title, coalesce(part_of, '') as part_of, epsilon, images, correct, accuracy, low, high,
                   fingerprint, fields, duration_s, complete, t
            from attack a join folder f using (number) where $id is null or run = $id
            order by f.created desc, run, a.seq""", ATTACKS, id=run)

    def robustness(self) -> pd.DataFrame:
        """Return one row per attack run, the most robust network first, with columns `ROBUSTNESS`.

        Each attack has four columns that begin with its prefix (such as pgd20_ or autoattack_) and end with accuracy, low, high
        (the 95 % Wilson interval) and images. The prefixes natural_ (without an attack) and worst_ have the same four.

        The worst_ columns count an image as correct only if it is correct under every attack, on the images that every attack
        covered. If the run did not record this, they repeat the attack with the lowest accuracy. `worst_of` says which applies.

        `genotype` is a dict or None. `fingerprint` holds the hashes of all results, separated by spaces.
        """
        wide = ", ".join(f"max({name}) filter (attack = '{attack}') as {prefix}_{name}"
                         for prefix, attack in WIDE.items() for name in _NUMBERS)
        networks = self._frame(f"""
            with complete as (select * from attack where complete and part_of is null),
            wide as (
                select number, {wide}, max(epsilon) as epsilon,
                       string_agg(distinct fingerprint, ' ' order by fingerprint) filter (attack <> 'worst-case') as fingerprint,
                       arg_min({{'accuracy': accuracy, 'low': low, 'high': high, 'images': images, 'title': title}},
                               (accuracy, -seq))
                           filter (attack not in ('natural', 'worst-case')) as weakest,
                       arg_max({{'accuracy': accuracy, 'low': low, 'high': high, 'images': images}}, seq)
                           filter (attack = 'worst-case') as per_image
                from complete group by number)
            select f.run, coalesce(f.title, f.run) as title, coalesce(method, '') as method, coalesce(dataset, '') as dataset,
                   coalesce(preset, '') as preset, coalesce(parent, '') as parent, created, wide.*,
                   coalesce(w.correct / w.images, per_image.accuracy, weakest.accuracy) as worst_accuracy,
                   coalesce(w.low, per_image.low, weakest.low) as worst_low,
                   coalesce(w.high, per_image.high, weakest.high) as worst_high,
                   coalesce(w.images, per_image.images, weakest.images) as worst_images,
                   case when w.images is not null or per_image is not null then 'every attack, image by image'
                        else coalesce(weakest.title, '') end as worst_of,
                   n.parameters, n.macs, coalesce(n.genotype, '') as genotype, coalesce(n.hash, '') as genotype_hash,
                   coalesce(n.hand_made, '') as hand_made,
                   not exists (select 1 from attack a where a.number = f.number and not a.complete) as complete
            from wide join folder f using (number) left join (select * from worst where images > 0) w using (number)
            left join network n using (number)
            order by worst_accuracy desc nulls last, f.run""", ROBUSTNESS)
        networks["genotype"] = pd.Series([json.loads(text) if text else None for text in networks["genotype"]], dtype="object",
                                         index=networks.index)
        return networks

    def pareto_networks(self) -> pd.DataFrame:
        """Return natural and adversarial accuracy of attacked networks, one row per network and attack, with columns `NETWORKS`.

        Only rows with the same `group` (dataset, attack, epsilon, images, fingerprint) are comparable. `is_front` is True if the
        row is on the Pareto front of its group.
        """
        return self._frame(f"""
            with complete as (select * from attack where complete and part_of is null),
            point as (
                select f.run, coalesce(f.title, f.run) as title, coalesce(method, '') as method, coalesce(preset, '') as preset,
                       coalesce(dataset, '') as dataset, a.attack, a.title as attack_title, a.epsilon, c.accuracy as "natural",
                       c.low as natural_low, c.high as natural_high, c.images as natural_images, a.accuracy as adversarial,
                       a.low as adversarial_low, a.high as adversarial_high, a.images, a.fingerprint, n.parameters, n.macs,
                       concat_ws(', ', dataset, a.title, 'epsilon ' || round(a.epsilon, 4)::varchar, a.images || ' images',
                                 a.fingerprint) as grp
                from complete a join complete c on c.number = a.number and c.attack = 'natural'
                join folder f on f.number = a.number left join network n on n.number = a.number
                where a.attack <> 'natural')
            select *, grp as "group", {_IS_FRONT} as is_front from point order by grp, "natural" desc, run""", NETWORKS)

    def pareto_epochs(self, runs: Sequence[str] | None = None) -> pd.DataFrame:
        """Return natural and adversarial accuracy per epoch of searches, with columns `EPOCHS`.

        The accuracies are measured on the alphas split. `is_front` is True if the row is on the Pareto front of the returned rows
        with the same `group`.

        Args:
            runs: ids of the runs to include; None for all runs.
        """
        return self._frame(f"""
            with last_derived as (select number, epoch, arg_max(hash, step) as hash from genotype group by number, epoch),
            point as (
                select run, coalesce(title, run) as title, coalesce(method, '') as method, coalesce(preset, '') as preset,
                       coalesce(dataset, '') as dataset, epoch, natural_accuracy as "natural",
                       adversarial_accuracy as adversarial, {SEARCH_ATTACK} as attack_title, {EPSILON} as epsilon,
                       coalesce(hash, '') as genotype_hash,
                       epoch = max(epoch) over (partition by number) as is_last,
                       concat_ws(', ', dataset, {SEARCH_ATTACK}, 'epsilon ' || round({EPSILON}, 4)::varchar,
                                 'alphas split, batch statistics') as grp
                from accuracy join folder f using (number) left join last_derived using (number, epoch)
                where kind = 'search' and split = 'alphas' and natural_accuracy is not null and adversarial_accuracy is not null
                  and (config ->> 'ranking_steps') is null  -- candidates are separate networks, not epochs of one
                  and ($runs is null or list_contains($runs, run)))
            select *, grp as "group", {_IS_FRONT} as is_front from point order by grp, run, epoch""", EPOCHS,
                           runs=None if runs is None else list(runs))
