"""Queries about attacked networks: attack results, the robustness table and Pareto fronts.

Pareto fronts compare only results in the same group. The results in a group have the same dataset, attack, epsilon, images and
fingerprint (a hash of the conditions of a measurement).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import duckdb
import pandas as pd

from engine.configuring import machine_settings
from engine.errors import RunLogError
from engine.files import open_to_read
from engine.log.index import FLAG, INT, NUMBER, TEXT, Index
from engine.log.run_queries import SEARCH_ATTACK
from engine.run.folder import RunFolder
from engine.run.recorded_outcomes import correct_images

ATTACKS = {"run": TEXT, "attack": TEXT, "title": TEXT, "part_of": TEXT, "epsilon": NUMBER, "images": INT, "correct": INT,
           "accuracy": NUMBER, "low": NUMBER, "high": NUMBER, "fingerprint": TEXT, "fields": TEXT, "duration_s": NUMBER,
           "complete": FLAG, "t": NUMBER}
EVALUATIONS = {"run": TEXT, "title": TEXT, "method": TEXT, "dataset": TEXT, "preset": TEXT, "parent": TEXT, "created": NUMBER,
               "protocol": TEXT, "protocol_title": TEXT, "protocol_fields": TEXT, "norm": TEXT, "epsilon": NUMBER,
               "network": TEXT, "checkpoint": TEXT, "preprocessing": TEXT, "search_seed": NUMBER, "retrain_seed": NUMBER,
               "parameters": NUMBER, "macs": NUMBER, "genotype": TEXT, "genotype_hash": TEXT, "hand_made": TEXT,
               "complete": FLAG, "current": FLAG, "repeats": INT, "recipe": TEXT}
CHECKS = {"run": TEXT, "check_name": TEXT, "title": TEXT, "finding": TEXT, "measured": TEXT, "advice": TEXT}
VERDICTS = {"run": TEXT, "title": TEXT, "against": TEXT, "against_title": TEXT, "protocol": TEXT, "total": INT, "images": INT,
            "saved": INT, "both_correct": INT, "first_only": INT, "second_only": INT, "neither": INT, "low": NUMBER,
            "high": NUMBER, "level": NUMBER, "verdict": TEXT}
SWEEP = {"run": TEXT, "sweep": TEXT, "attack": TEXT, "title": TEXT, "norm": TEXT, "epsilon": NUMBER, "steps": INT, "images": INT,
         "correct": INT, "fingerprint": TEXT}
CERTIFIED = {"run": TEXT, "norm": TEXT, "epsilon": NUMBER, "images": INT, "correct": INT, "low": NUMBER, "high": NUMBER,
             "method": TEXT}
CRITICAL = {"run": TEXT, "attack": TEXT, "title": TEXT, "norm": TEXT, "images": INT, "median": NUMBER, "low": NUMBER,
            "high": NUMBER, "fingerprint": TEXT}
EPOCHS = {"run": TEXT, "title": TEXT, "method": TEXT, "preset": TEXT, "dataset": TEXT, "epoch": INT, "natural": NUMBER,
          "adversarial": NUMBER, "attack_title": TEXT, "epsilon": NUMBER, "measured": TEXT, "group": TEXT, "is_front": FLAG,
          "is_last": FLAG,
          "genotype_hash": TEXT}

LATENCIES = {"run": TEXT, "batch": INT, "median_s": NUMBER, "low_s": NUMBER, "high_s": NUMBER, "repeats": INT, "device": TEXT,
             "hardware": TEXT, "threads": INT}
BITS = {"run": TEXT, "bits": TEXT, "images": TEXT}
SEARCH_TIMES = {"run": TEXT, "seconds": NUMBER}

# One row per file: the outcomes of a column as a text of zeros and ones. In the worst case, an image counts as correct if no
# attack succeeds on it, and images without an outcome for every attack are left out. The parts of suites have a slash in their
# names.
_BITS = """
    with outcome as (
        select filename as path, image, attack, correct
        from read_parquet($paths, filename = true, union_by_name = true)
        where if($column = 'worst-case', not contains(attack, '/'), attack = $column)),
    size as (select path, count(distinct attack) as attacks from outcome group by path),
    image as (select path, image, bool_and(correct) as correct from outcome join size using (path)
              group by path, image having count(*) = any_value(attacks))
    select path, string_agg(if(correct, '1', '0'), '' order by image) as bits,
           md5(string_agg(image::varchar, ' ' order by image)) as images
    from image group by path"""

# Radius of the attack inside a search. The second setting belongs to methods that attack in a single step instead of with PGD.
EPSILON = "try_cast(coalesce(config ->> 'epsilon', config ->> 'attack_epsilon') as double)"

# True if no other point of the same `grp` is at least as good in both accuracies and better in one. This is so if the point has
# the best adversarial accuracy among all points of equal natural accuracy, and a better one than every point of higher natural
# accuracy. The expression sorts once instead of comparing all pairs. Equal points are all on the front.
_IS_FRONT = """
    adversarial >= max(adversarial) over (partition by grp, "natural")
    and adversarial > coalesce(max(adversarial) over (
        partition by grp order by "natural" desc range between unbounded preceding and current row exclude group), -1)"""


class AttackQueries(Index):
    """The index's queries about attacked networks: results, the robustness table and Pareto fronts."""

    def attacks(self, run: str | None = None) -> pd.DataFrame:
        """Return the attack results of one run, or of all runs if `run` is None, with the columns listed in `ATTACKS`.

        The natural accuracy and each part of a suite such as AutoAttack have separate rows. Some of the columns are:

        * part_of: name of the suite if the row is for a part of a suite, otherwise "".
        * fields: conditions of the measurement, as JSON.
        * fingerprint: hash of these conditions.
        """
        return self._frame("""
            select run, attack, a.title, coalesce(part_of, '') as part_of, epsilon, images, correct, accuracy, low, high,
                   fingerprint, fields, duration_s, complete, t
            from attack a join folder f using (number) where $id is null or run = $id
            order by f.created desc, run, a.seq""", ATTACKS, id=run)

    def evaluations(self) -> pd.DataFrame:
        """Return one row per attack run, newest first, with the columns listed in `EVALUATIONS`.

        Runs whose protocol contains no attacks, such as the runs of `rampart sweep`, have no row. Some of the columns are:

        * protocol: hash of the protocol (the attacks with their settings, and the images). Rows with equal hashes are comparable.
          If a run recorded no protocol, this is a hash of the fingerprints of its results.
        * network: hash of the attacked weights.
        * genotype: a dict, or None.
        * repeats: number of other runs that evaluate the same network under the same protocol.
        * current: True for the newest complete run among the runs with the same network and protocol. If none is complete, True
          for the newest run.
        * recipe: hash of the settings of search and retraining, except seeds and the machine.
        """
        return self.kept("evaluations", ("folder", "attack", "evaluation", "network", "resumed"), "", self._evaluations)

    def _evaluations(self) -> pd.DataFrame:
        evaluations = self._frame("""
            with result as (select * from attack where part_of is null),
            derived as (
                select number, left(md5(string_agg(distinct fingerprint, ' ' order by fingerprint)), 12) as protocol,
                       max(epsilon) as epsilon, max(fields ->> 'norm') as norm, max(fields ->> 'checkpoint') as network
                from result where attack <> 'worst-case' group by number),
            row as (
                select f.run, coalesce(f.title, f.run) as title, coalesce(f.method, '') as method,
                       coalesce(f.dataset, '') as dataset, coalesce(f.preset, '') as preset, coalesce(f.parent, '') as parent,
                       f.created, coalesce(e.protocol, d.protocol) as protocol, coalesce(e.title, '') as protocol_title,
                       coalesce(e.fields::varchar, '') as protocol_fields, coalesce(e.fields ->> 'norm', d.norm, '') as norm,
                       coalesce(try_cast(e.fields ->> 'epsilon' as double), d.epsilon) as epsilon,
                       coalesce(e.network, d.network, f.run) as network, coalesce(e.checkpoint, '') as checkpoint,
                       coalesce(e.preprocessing::varchar, '') as preprocessing,
                       try_cast(s.config ->> 'seed' as integer) as search_seed,
                       try_cast(r.config ->> 'seed' as integer) as retrain_seed,
                       n.parameters, n.macs, coalesce(n.genotype, '') as genotype, coalesce(n.hash, '') as genotype_hash,
                       coalesce(n.hand_made, '') as hand_made,
                       exists (select 1 from result w where w.number = f.number and w.attack = 'worst-case' and w.complete)
                           as complete, concat_ws(chr(10), s.config::varchar, r.config::varchar) as recipe
                from folder f left join evaluation e using (number) left join derived d using (number)
                left join network n using (number)
                left join folder r on r.run = f.parent left join folder s on s.run = r.parent
                where f.kind = 'attack' and (e.protocol is not null or d.protocol is not null)
                  and coalesce(json_array_length(e.fields -> 'attacks'), 1) > 0)
            select *, row_number() over same = 1 as current, count(*) over (partition by protocol, network) - 1 as repeats
            from row window same as (partition by protocol, network order by complete desc, created desc, run desc)
            order by created desc, run desc""", EVALUATIONS)
        evaluations["genotype"] = pd.Series([json.loads(text) if text else None for text in evaluations["genotype"]],
                                            dtype="object", index=evaluations.index)
        evaluations["recipe"] = evaluations["recipe"].map(_recipe)
        return evaluations

    def checks(self, run: str | None = None) -> pd.DataFrame:
        """Return the findings of reliability checks as a table with the columns listed in `CHECKS`.

        The rows are ordered by run and, within a run, by the time of the check.

        Args:
            run: id of an attack run; None for all runs.
        """
        return self._frame("""
            select run, check_name, c.title, finding, measured, coalesce(advice, '') as advice
            from attack_check c join folder f using (number) where $id is null or run = $id order by run, c.seq""", CHECKS,
                           id=run)

    def outcomes(self, run: str) -> pd.DataFrame:
        """Return the outcome of each attack for each image of an attack run, from its results/outcomes.parquet.

        The columns are image, label, attack and correct. Newer runs, which record a protocol, also have prediction, margin, linf,
        l2 and iterations, and the newest have confidence too. In the column `attack`, a part of a suite such as AutoAttack is
        named like "autoattack/apgd-ce".

        Raises:
            RunLogError: the file is missing or cannot be read.
        """
        return self._read_outcomes(run, "select * from read_parquet($path)")

    def correct_images(self, run: str, column: str) -> dict[int, bool]:
        """Return {image: True if it was classified correctly} for one column of the robustness table.

        Args:
            run: id of an attack run.
            column: "natural", the name of an attack, or "worst-case". The worst case includes only the images that every attack
                has covered.

        Raises:
            RunLogError: results/outcomes.parquet is missing or cannot be read.
        """
        query = "select image, attack, correct from read_parquet($path) order by image"
        return correct_images(self._read_outcomes(run, query), column)

    def outcome_bits(self, runs: Sequence[str], column: str) -> pd.DataFrame:
        """Return the outcomes of one column of the robustness table for many attack runs at once, with the columns in `BITS`.

        Runs whose results/outcomes.parquet is missing or cannot be read are left out. `bits` has one character per image, in the
        order of the image numbers: "1" if the image was classified correctly, otherwise "0". `images` is a hash of the image
        numbers, so runs with equal hashes can be compared character by character.

        Args:
            runs: ids of attack runs.
            column: "natural", the name of an attack, or "worst-case", as in `correct_images`.
        """
        paths = {str(path): run for run in runs if (path := RunFolder(self.root, run).results / "outcomes.parquet").is_file()}
        try:
            found = [self._bits_of(list(paths), column)] if paths else []
        except duckdb.Error:  # one of the files cannot be read, so each is tried alone
            found = [one for path in paths if (one := self._readable_bits(path, column)) is not None]
        rows = pd.concat(found) if found else pd.DataFrame(columns=["path", "bits", "images"])
        return rows.assign(run=rows["path"].map(paths))[list(BITS)].astype(BITS).reset_index(drop=True)

    def _bits_of(self, paths: Sequence[str], column: str) -> pd.DataFrame:
        return self._ask(_BITS, {"paths": list(paths), "column": column}, lambda result: result.df())

    def _readable_bits(self, path: str, column: str) -> pd.DataFrame | None:
        try:
            return self._bits_of([path], column)
        except duckdb.Error:
            return None

    def search_times(self) -> pd.DataFrame:
        """Return, for each attack run, the duration of the search that found its network, with the columns in `SEARCH_TIMES`.

        The duration of an attempt is the time from its first to its last metric event. The durations of all attempts are summed,
        so pauses between attempts do not count. Attack runs without a recorded search are left out.
        """
        return self._frame("""
            with spell as (select number, max(t) - min(t) as seconds from metric_raw group by number, attempt)
            select attack.run, sum(seconds) as seconds from folder attack join folder retraining on retraining.run = attack.parent
            join folder search on search.run = retraining.parent join spell on spell.number = search.number
            where attack.kind = 'attack' and search.kind = 'search' group by attack.run order by attack.run""", SEARCH_TIMES)

    def _read_outcomes(self, run: str, query: str, **parameters: str) -> pd.DataFrame:
        return self._parquet(run, "outcomes.parquet", "outcomes", "attack the network again", query, **parameters)

    def _parquet(self, run: str, name: str, what: str, advice: str, query: str, **parameters: str) -> pd.DataFrame:
        """Run a query on a Parquet file in the results folder of a run, and return the result as a table.

        Args:
            run: id of the run.
            name: name of the file.
            what: content of the file, for the error message.
            advice: what to do if the file cannot be read, for the error message.
            query: SQL, in which `$path` is the path of the file.
            parameters: further parameters of the query.

        Raises:
            RunLogError: the file is missing or cannot be read.
        """
        path = RunFolder(self.root, run).results / name
        try:
            open_to_read(path).close()  # DuckDB would wait for the other end of a pipe
            return self._ask(query, {"path": str(path), **parameters}, lambda result: result.df())
        except (OSError, duckdb.Error):
            raise RunLogError(f"results/{name} of run {run} must be a Parquet table of {what}, but it is missing or cannot be "
                              f"read; {advice}.") from None

    def verdicts(self, run: str | None = None) -> pd.DataFrame:
        """Return one row for each attack run that compares its network with another, with the columns listed in `VERDICTS`.

        Such a run attacks images only until it is certain which network is better. Each row gives the newest state of the
        comparison. No column is an accuracy, because the number of attacked images depends on the outcomes. Some of the columns
        are:

        * run: id of this attack run.
        * against: id of the attack run on the other network.
        * total: number of all images.
        * images: number of images that have been attacked.
        * saved: number of images that have not been attacked.

        Args:
            run: id of an attack run; None for all runs.
        """
        return self._frame("""
            select f.run, coalesce(f.title, f.run) as title, v.against, coalesce(o.title, v.against) as against_title, v.protocol,
                   v.total, v.images, v.total - v.images as saved, v.both_correct, v.first_only, v.second_only, v.neither,
                   v.low, v.high, v.level, v.verdict
            from verdict v join folder f using (number) left join folder o on o.run = v.against
            where $id is null or f.run = $id order by f.created desc, f.run""", VERDICTS, id=run)

    def sweeps(self, runs: Sequence[str] | None = None) -> pd.DataFrame:
        """Return accuracies against radius or number of steps, with the columns listed in `SWEEP`.

        Args:
            runs: ids of the runs to include; None for all runs.
        """
        return self._frame("""
            select run, sweep, attack, s.title, norm, epsilon, steps, images, correct, fingerprint
            from sweep s join folder f using (number) where $runs is null or list_contains($runs, run)
            order by run, sweep, attack, epsilon, steps""", SWEEP, runs=None if runs is None else list(runs))

    def distances(self, run: str) -> pd.DataFrame:
        """Return one row per image of a sweep, with the radius and the number of PGD steps that are needed to break the image.

        The table is read from results/distances.parquet of the run. The columns `distance` and `steps` are NaN if the image
        withstands the attack.

        Columns:
            image: number of the image in the dataset.
            label: label of the image.
            distance: distance of the nearest adversarial image, in the norm of the run; 0 if the image is misclassified without
                an attack.
            steps: number of PGD steps after which the image is misclassified.

        Raises:
            RunLogError: the run made no sweep, or the file cannot be read.
        """
        return self._parquet(run, "distances.parquet", "distances", "measure them with `rampart sweep`",
                             "select * from read_parquet($path)")

    def certified(self, run: str | None = None) -> pd.DataFrame:
        """Return certified accuracies, with the columns listed in `CERTIFIED`. They are lower bounds of the robust accuracy.

        Args:
            run: id of an attack run; None for all runs.
        """
        return self._frame("""
            select run, norm, epsilon, images, correct, low, high, c.method
            from certified c join folder f using (number) where $id is null or run = $id
            order by run, c.seq""", CERTIFIED, id=run)

    def critical_epsilons(self, run: str | None = None) -> pd.DataFrame:
        """Return the median critical epsilon of each attack run that measured it, with the columns listed in `CRITICAL`.

        The critical epsilon of an image is the distance of its nearest adversarial image. The columns `median`, `low` and `high`
        hold the median over the images and the ends of its interval. They are NaN where unknown, for example because half of the
        images have no adversarial image.

        Args:
            run: id of an attack run; None for all runs.
        """
        return self._frame("""
            select run, attack, c.title, norm, images, median, low, high, fingerprint
            from critical c join folder f using (number) where $id is null or run = $id
            order by run, c.seq""", CRITICAL, id=run)

    def latencies(self) -> pd.DataFrame:
        """Return the inference latencies of attacked networks, with the columns listed in `LATENCIES`. Older runs have none."""
        return self._frame("""
            select run, batch, median_s, low_s, high_s, repeats, device, hardware, threads
            from latency join folder using (number) order by run, batch""", LATENCIES)

    def pareto_epochs(self, runs: Sequence[str] | None = None, kind: str = "search") -> pd.DataFrame:
        """Return natural and adversarial accuracy per epoch of searches or retrainings, with the columns listed in `EPOCHS`.

        Searches measure the accuracies on the alphas split, and retrainings on the select split. The column `measured` names the
        split and the kind of BatchNorm statistics. Rows with the same `group` have the same dataset, split and attack. `is_front`
        is True if the row is on the Pareto front of its group.

        Args:
            runs: ids of the runs to include; None for all runs.
            kind: "search" or "retrain".
        """
        question = "pareto_epochs", None if runs is None else tuple(runs), kind
        attack = SEARCH_ATTACK if kind == "search" else "'PGD-' || coalesce(config ->> 'selection_steps', '20')"
        split, statistics = ("alphas", "batch") if kind == "search" else ("select", "running")
        return self.kept(question, ("folder", "accuracy", "genotype", "resumed"), "", lambda: self._frame(f"""
            with last_derived as (select number, epoch, arg_max(hash, step) as hash from genotype group by number, epoch),
            point as (
                select run, coalesce(title, run) as title, coalesce(method, '') as method, coalesce(preset, '') as preset,
                       coalesce(dataset, '') as dataset, epoch, natural_accuracy as "natural",
                       adversarial_accuracy as adversarial, {attack} as attack_title, {EPSILON} as epsilon,
                       '{split} split, {statistics} statistics' as measured,
                       coalesce(hash, '') as genotype_hash,
                       epoch = max(epoch) over (partition by number) as is_last,
                       concat_ws(', ', dataset, {attack}, 'epsilon ' || round({EPSILON}, 4)::varchar, measured) as grp
                from accuracy join folder f using (number) left join last_derived using (number, epoch)
                where kind = $kind and split = '{split}' and natural_accuracy is not null and adversarial_accuracy is not null
                  and (config ->> 'ranking_steps') is null  -- candidates are separate networks, not epochs of one
                  and ($runs is null or list_contains($runs, run)))
            select *, grp as "group", {_IS_FRONT} as is_front from point order by grp, run, epoch""", EPOCHS,
                           runs=None if runs is None else list(runs), kind=kind))


def _recipe(configs: str) -> str:
    """Return a hash of the configurations of runs. Seeds, device and numbers of threads and processes do not count.

    Args:
        configs: one configuration per line, as a JSON object.
    """
    settings = [{name: value for name, value in one.items() if name != "seed" and name not in machine_settings(one)}
                for one in map(json.loads, configs.splitlines())]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
