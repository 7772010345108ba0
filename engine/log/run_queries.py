"""Queries about whole runs: the list of runs, status, progress, related runs, alerts, and uses of the test split."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Collection
from typing import Any

import pandas as pd

from engine.configuring import Difference, differences_from_paper, recorded
from engine.errors import ConfigError, RunError, RunLogError
from engine.log.index import FLAG, INT, NUMBER, TEXT
from engine.log.ingest import stamp_of
from engine.log.progress_queries import UNSTARTED, ProgressQueries
from engine.log.training_queries import BEST_CANDIDATE_FIRST
from engine.run.folder import RunFolder
from engine.run.recorded_badge import recorded_badge
from engine.run.state import SILENT_S, RunState, compute

RUNS = {
    "id": TEXT, "kind": TEXT, "method": TEXT, "title": TEXT, "preset": TEXT, "dataset": TEXT, "parent": TEXT,
    "created": NUMBER, "status": TEXT, "cause": TEXT, "progress": NUMBER, "phase": TEXT, "detail": TEXT,
    "seconds_left": NUMBER, "natural_accuracy": NUMBER, "adversarial_accuracy": NUMBER, "natural_low": NUMBER,
    "natural_high": NUMBER, "natural_images": NUMBER, "adversarial_low": NUMBER, "adversarial_high": NUMBER,
    "adversarial_images": NUMBER, "adversarial_attack": TEXT, "accuracy_of": TEXT, "chain_attack_run": TEXT,
    "chain_natural_accuracy": NUMBER, "chain_adversarial_accuracy": NUMBER, "chain_adversarial_attack": TEXT, "badge": TEXT,
    "badge_reasons": TEXT, "age_s": NUMBER, "last_event_t": NUMBER, "silent_s": NUMBER, "can_stop": FLAG, "can_resume": FLAG,
    "parameters": NUMBER, "macs": NUMBER, "genotype_hash": TEXT, "hand_made": TEXT, "study": TEXT, "example": FLAG,
    "tags": TEXT, "note": TEXT, "archived": FLAG, "seed": NUMBER, "protocol": TEXT, "protocol_title": TEXT, "device": TEXT,
    "duration_s": NUMBER,
}
CHAIN = {"id": TEXT, "kind": TEXT, "title": TEXT, "parent": TEXT, "depth": INT}
ALERTS = {"t": NUMBER, "attempt": NUMBER, "step": NUMBER, "level": TEXT, "text": TEXT, "source": TEXT}
OPENINGS = {"opening": INT, "run": TEXT, "title": TEXT, "kind": TEXT, "dataset": TEXT, "split": TEXT, "images": INT,
            "purpose": TEXT, "attempt": INT, "t": NUMBER}

# Files that determine the state of a run whose worker process no longer exists.
STATE_FILES = ("exit.json", "process.json", "control", "run.json")

# Results of an attack run: the natural accuracy, and the worst case per image over all attacks. Until that is complete, the
# lowest accuracy under any complete attack takes its place. If two attacks give the same accuracy, the later one counts, because
# attacks are ordered from weak to strong.
_TESTED = """
    select number, max(accuracy) filter (attack = 'natural') as natural_accuracy,
           arg_max({'low': low, 'high': high, 'images': images}, seq) filter (attack = 'natural') as natural,
           arg_min(accuracy, (attack <> 'worst-case', accuracy, -seq)) filter (attack <> 'natural') as adversarial_accuracy,
           arg_min({'low': low, 'high': high, 'images': images}, (attack <> 'worst-case', accuracy, -seq))
               filter (attack <> 'natural') as adversarial,
           arg_min(title, (attack <> 'worst-case', accuracy, -seq)) filter (attack <> 'natural') as title
    from attack where complete and part_of is null group by number"""

# Accuracies of searches and retrainings. A search is represented by the mean of its last epoch, on the alphas split, or on the
# select split if it measures candidate networks. A retraining is represented by the epoch whose checkpoint is selected, which is
# the one with the best adversarial accuracy on the select split. Ties are decided by natural accuracy, then by the earlier epoch.
# They change with every step, so they are a query of their own.
_TRAINED = """
    select f.run as id, a.natural_accuracy, a.adversarial_accuracy, a.split
    from accuracy a join folder f using (number)
    where {among} and (f.kind = 'search' or (f.kind = 'retrain' and a.split = 'select'))
    qualify row_number() over (partition by a.number order by
        case when f.kind = 'retrain' then a.adversarial_accuracy end desc nulls last,
        case when f.kind = 'retrain' then a.natural_accuracy end desc nulls last,
        case when f.kind = 'retrain' then -a.epoch else a.epoch end desc) = 1"""

# The best candidate of a search that trains and measures candidate networks one by one.
_FIRST_IN_RANK = f"""
    select number, natural_correct / images as natural_accuracy, adversarial_correct / images as adversarial_accuracy
    from candidate qualify row_number() over (partition by number order by {BEST_CANDIDATE_FIRST}) = 1"""

# Findings of the reliability checks of each attack run, in the order of the checks.
_CHECKED = """
    select number, list({'check_name': check_name, 'title': title, 'finding': finding, 'measured': measured} order by seq)
        as findings
    from attack_check group by number"""

# Pairs of a run and itself or one of its descendants. UNION instead of UNION ALL ends the recursion even if the parents of some
# runs form a circle.
_BELOW = """
    with recursive below(root, number) as (
        select number, number from folder
        union
        select below.root, child.number from below
        join folder above on above.number = below.number join folder child on child.parent = above.run)"""

# The family of a run: its earliest ancestor, and all descendants of this ancestor.
_FAMILY = """
    with recursive above(run, parent) as (
        select run, parent from folder where run = $id
        union select f.run, f.parent from above join folder f on f.run = above.parent),
    -- A circle of parents has no root; it starts with the run itself.
    root as (select a.run from above a left join above b on b.run = a.parent
             order by b.run is not null, a.run = $id desc limit 1),
    below(run, depth) as (
        select run, 0 from root
        union select f.run, below.depth + 1 from below join folder f on f.parent = below.run where below.depth < 16)
    select f.run as id, coalesce(kind, '') as kind, coalesce(title, f.run) as title, coalesce(parent, '') as parent,
           min(depth) as depth
    from below join folder f using (run) group by all order by depth, min(created), id"""

# Name of the attack with which a search measures adversarial accuracy. A search that does not use PGD attacks in one step.
SEARCH_ATTACK = "coalesce('PGD-' || coalesce(config ->> 'ranking_steps', config ->> 'attack_steps'), 'one step')"

SPLIT = "SPLIT"  # stands for the split of a search's or retraining's accuracy, which `_with_trained` puts in its place

_RUNS = f"""
    {_BELOW},
    tested as ({_TESTED}),
    chain as (
        select below.root, arg_max({{'run': f.run, 'natural': t.natural_accuracy, 'adversarial': t.adversarial_accuracy,
                                    'title': t.title}}, (f.created, f.run)) as best
        from below join folder f using (number) join tested t using (number) where f.kind = 'attack' group by below.root),
    first_in_rank as ({_FIRST_IN_RANK}),
    checked as ({_CHECKED}),
    derived as (select number, arg_max(hash, step) as hash from genotype group by number),
    built as (select * from network),
    begun as (select number, protocol, title from evaluation)
    select f.run as id, coalesce(kind, '') as kind, coalesce(method, '') as method, coalesce(f.title, f.run) as title,
           coalesce(preset, '') as preset, coalesce(dataset, '') as dataset, coalesce(parent, '') as parent, created,
           coalesce(problem, '') as problem,
           coalesce(tested.natural_accuracy, first_in_rank.natural_accuracy) as natural_accuracy,
           coalesce(tested.adversarial_accuracy, first_in_rank.adversarial_accuracy) as adversarial_accuracy,
           tested.natural.low as natural_low, tested.natural.high as natural_high, tested.natural.images as natural_images,
           tested.adversarial.low as adversarial_low, tested.adversarial.high as adversarial_high,
           tested.adversarial.images as adversarial_images,
           case when kind = 'attack' then coalesce(tested.title, '')
                when kind = 'search' then {SEARCH_ATTACK}
                else 'PGD-' || coalesce(config ->> 'selection_steps', '20') end as adversarial_attack,
           case when kind = 'attack' then if(tested.number is null, '', concat_ws(', ', 'test', nullif(tested.title, '')))
                when first_in_rank.number is not null then concat(
                    '{SPLIT} split, ', if(config ->> 'ranking' = 'none', 'first', 'best'), ' candidate')
                when config ->> 'ranking_steps' is not null then '{SPLIT} split, first candidate so far'
                when kind = 'search' then 'alphas split, batch statistics'
                else 'select, PGD-' || coalesce(config ->> 'selection_steps', '20') end as accuracy_of,
           coalesce(chain.best.run, '') as chain_attack_run, chain.best.natural as chain_natural_accuracy,
           chain.best.adversarial as chain_adversarial_accuracy, coalesce(chain.best.title, '') as chain_adversarial_attack,
           case when kind = 'attack' and tested.adversarial_accuracy is not null then coalesce(findings, []) end as findings,
           built.parameters, built.macs,
           coalesce(built.hash, derived.hash, '') as genotype_hash, coalesce(built.hand_made, '') as hand_made,
           coalesce(f.study, '') as study, coalesce(f.example, false) as example,
           coalesce(f.tags, '') as tags, coalesce(f.note, '') as note, coalesce(f.archived, false) as archived,
           try_cast(config ->> 'seed' as double) as seed, coalesce(begun.protocol, '') as protocol,
           coalesce(begun.title, '') as protocol_title
    from folder f
    left join tested using (number)
    left join chain on chain.root = f.number left join built using (number)
    left join derived using (number) left join first_in_rank using (number) left join checked using (number)
    left join begun using (number)
    order by created desc nulls last, id desc"""

# The answer for a run without such accuracies.
UNTRAINED = {"natural_accuracy": None, "adversarial_accuracy": None, "split": ""}

# Tables that the queries read.
LISTED = ("folder", "attack", "candidate", "attack_check", "genotype", "network", "resumed",
          "evaluation")
TRAINED = ("folder", "accuracy", "resumed")


class RunQueries(ProgressQueries):
    """The index's queries about whole runs. The argument `run` of a query is a run id."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Create the index with the arguments of `Index`. Use `open` instead of calling this directly."""
        super().__init__(*arguments, **options)
        self._settled: dict[str, tuple[tuple[str, ...], RunState]] = {}
        self._families: tuple[int, dict[str, list[str]]] = (-1, {})

    def runs(self, only: Collection[str] | None = None) -> pd.DataFrame:
        """Return one row per run, newest first, with the columns listed in `RUNS`.

        `only` holds the ids of the runs to include; None for all runs. A query for a few runs is much faster than for all.

        In the column `tags`, tags are separated by spaces. `protocol` and `protocol_title` describe the attacks of an attack run.
        `duration_s` is the duration of the latest attempt so far.

        The meaning of `natural_accuracy` and `adversarial_accuracy` depends on the kind of run:

        * attack: accuracies on the test split. For the adversarial accuracy, an image counts as correct only if all attacks fail
          on it. The 95 % Wilson intervals and the numbers of images are in `natural_low`, `natural_high`, `natural_images` etc.
        * retraining: accuracies in the epoch whose checkpoint is selected.
        * search that measures candidate networks: accuracies of the best candidate.
        * any other search: accuracies in the latest epoch.

        The column `badge` is the reliability of an attack run's adversarial accuracy: "green", "amber" or "red", and "" for a run
        without such an accuracy. `badge_reasons` gives the reasons, one per line.

        The column `accuracy_of` describes how the accuracies were measured, and on which split. The columns whose names begin
        with `chain_` hold the results of the newest attack among the run and its descendants. The columns `status`, `cause`,
        `silent_s`, `can_stop`, `can_resume`, `age_s`, `duration_s` and `seconds_left` describe the run at the time of the call.
        Missing numbers are NaN, and missing text is "".
        """
        rows = self._listed(only)
        return pd.DataFrame({name: [row[name] for row in rows] for name in RUNS}).astype(RUNS)

    def records(self, only: Collection[str]) -> list[dict[str, Any]]:
        """Return the rows of `runs` for some runs as dicts. For a few runs, this is ten times faster than the table."""
        return [{name: _or_nan(row[name]) if kind == NUMBER else row[name] for name, kind in RUNS.items()}
                for row in self._listed(only)]

    def ids(self) -> list[str]:
        """Return the ids of all runs, newest first, in the order of `runs`."""
        return [str(row[0]) for row in self._rows("select run from folder order by created desc nulls last, run desc")]

    def run(self, run: str) -> dict[str, Any]:
        """Return everything known about one run as a dict.

        The keys are the columns of `runs` (with None for missing numbers), and in addition:

        * `config`, `command`, `code`, `packages` and `children_of_chain` (ids of the runs that were launched to follow this run)
          from run.json,
        * `attempt`, `device`, `since` and `pid` of the run's current state,
        * `imported`: name, hash and form (kind) of the file from which the run was imported; {} if it was not imported,
        * `differences`: the settings whose values differ from the published values, as a list of `engine.configuring.Difference`.

        Raises:
            RunLogError: the run does not exist.
        """
        listed = self._listed([run])
        if not listed:
            raise RunLogError(f"There is no run {run!r} in {self.root}; the Runs page and `rampart runs` list them.")
        row = {name: float(value) if kind == NUMBER and value is not None else value
               for (name, kind), value in zip(RUNS.items(), map(listed[0].__getitem__, RUNS), strict=True)}
        state = self.state(run)
        return row | self._written(run) | {"attempt": state.attempt, "device": state.device, "since": state.since,
                                           "pid": state.pid}

    def _written(self, run: str) -> dict[str, Any]:
        """Return a new dict with the keys of `run` whose values come from run.json, for example `config` and `differences`."""
        text = self.shared(("document", run), ("folder",), run, lambda: self._rows(
            "select coalesce(document, '{}') from folder where number = $n", run))
        document = json.loads(text[0][0]) if text else {}
        defaults: dict[str, Any] = {"config": {}, "command": "", "code": {}, "packages": {}, "children_of_chain": [],
                                    "imported": {}}
        differences = self.shared(("differences", run), ("folder",), run, lambda: _differences(document))
        return {key: document.get(key) or default for key, default in defaults.items()} | {"differences": [*differences]}

    def chain(self, run: str) -> pd.DataFrame:
        """Return the family of a run: the earliest ancestor of the run, and all descendants of this ancestor.

        The columns are those listed in `CHAIN`, and `status`. Rows are ordered by `depth`, the number of generations since that
        ancestor.
        """
        family = self._frame(_FAMILY, CHAIN, id=run)
        family["status"] = pd.Series([self.state(name).status for name in family["id"]], dtype="str", index=family.index)
        return family

    def family(self, run: str) -> list[str]:
        """Return the ids of the runs that `chain` returns, in the same order. Cached until a run is added or removed."""
        revision = self.revision(("folder",))
        if self._families[0] != revision:
            self._families = (revision, {})
        known = self._families[1]
        if run not in known:
            known[run] = [str(row[0]) for row in self._rows(_FAMILY, id=run)]
        return known[run]

    def statuses(self) -> dict[str, str]:
        """Return {run id: status} of all runs, newest first. This is much cheaper than `runs`."""
        rows = self._rows("select run, coalesce(problem, '') from folder order by created desc nulls last, run desc")
        return {run: self.state(run, problem).status for run, problem in rows}

    def waits_for_supervisor(self) -> bool:
        """Return True if at least one run is queued and waits for nothing but a supervisor."""
        # A queued run that has a cause waits for its parent run.
        return any(self.state(run).cause == "" for run, status in self.statuses().items() if status == "queued")

    def alerts(self, run: str) -> pd.DataFrame:
        """Return the alerts that a run wrote and the problems found in its files, with the columns listed in `ALERTS`.

        `source` is "run" for an alert of the run, and "run log" for a problem such as an unusable line of events.jsonl. Rows are
        in the order of events.jsonl. Only alerts have a time.
        """
        return self._frame("""
            select * from (
                select t, attempt, step, level, text, 'run' as source, seq from alert_raw where number = $n
                union all
                select null, null, null, 'warning', sentence, 'run log', seq from faults where number = $n
                union all
                select null, null, null, 'error', problem, 'run log', -2 from folder where number = $n and problem is not null)
            order by seq""", ALERTS, run)

    def test_openings(self) -> pd.DataFrame:
        """Return one row for each time that a run has read a test split, oldest first.

        The columns are those listed in `OPENINGS`. If a run is resumed and reads the test split again, there is a row for each
        time.
        """
        return self._frame("""
            select row_number() over (order by t, run, seq) as opening, run, coalesce(title, run) as title,
                   coalesce(kind, '') as kind, coalesce(dataset, '') as dataset, split, images, purpose, attempt, t
            from opened_raw join folder using (number) where split = 'test' order by opening""", OPENINGS)

    def events_revision(self, run: str | None = None) -> int:
        """Return a whole number that changes whenever the queries about a run may have a new result.

        If `run` is None, the number covers all runs. It stays the same while the run writes nothing and the status of the run
        does not change. Call `ingest` first.
        """
        rows = self._rows("""
            select run, f.stamp, bytes_done, inode from folder f join ingest using (number)
            where $id is null or run = $id order by run""", id=run)
        states = [self.state(row[0]) for row in rows]
        content = [(*row, state.status, state.cause, state.attempt) for row, state in zip(rows, states, strict=True)]
        return int.from_bytes(hashlib.blake2b(repr(content).encode(), digest_size=6).digest(), "big")

    def _listed(self, only: Collection[str] | None) -> list[dict[str, Any]]:
        """Return the rows of `runs` as dicts, which contain further columns of the queries. Missing numbers are None.

        `only` holds the ids of the runs to return; None for all runs. For a few rows, dicts are several times faster than a data
        frame, and the page of a run needs its row a dozen times. The results of the queries are cached until a table that they
        read changes.
        """
        settled = self.shared("runs", LISTED, "", lambda: {str(row["id"]): _with_badge(row) for row in self._records(_RUNS)})
        chosen = settled if only is None else {run: settled[run] for run in settled if run in set(only)}
        trained, latest = self._trained(only), self._latest(only)
        now = time.time()
        return [_with_state(_with_trained(row, trained.get(run, UNTRAINED)) | latest.get(run, UNSTARTED),
                            self.state(run, row["problem"]), now) for run, row in chosen.items()]

    def _trained(self, only: Collection[str] | None) -> dict[str, dict[str, Any]]:
        """Return {run id: row} from the query `_TRAINED`. `only` holds the ids of the runs; None for all."""
        alone = next(iter(only)) if only is not None and len(only) == 1 else ""
        return self.shared(("trained", *(("",) if only is None else only)), TRAINED, alone, lambda: {
            row["id"]: row for row in self._records(_TRAINED.format(among="true" if only is None else self._among(only)))})

    def state(self, run: str, problem: str = "") -> RunState:
        """Return the current state of a run.

        If a run is over, its state is cached until one of the files in `STATE_FILES` changes. If `problem` gives a
        reason why run.json cannot be used, the run counts as failed.
        """
        if problem:
            return RunState("failed", problem)
        stamps = tuple(stamp_of(f"{self.root}/{run}/{name}") for name in STATE_FILES)
        known = self._settled.get(run)
        if known and known[0] == stamps:
            return known[1]
        try:
            state = compute(RunFolder(self.root, run))
        except RunError as gone:  # the folder was deleted after the last ingest
            return RunState("failed", str(gone))
        # A worker process that has ended without exit.json may still have its last output written.
        if state.is_over and stamps[0]:
            self._settled[run] = (stamps, state)
        return state


def _or_nan(value: float | None) -> float:
    """Return a number of a row as a float, NaN if it is missing."""
    return math.nan if value is None else float(value)


def _duration(state: RunState, now: float) -> float | None:
    """Return the seconds that the latest attempt of a run has taken until now or until its end, or None if they are unknown."""
    end = state.since if state.is_over else now
    return None if state.started is None or end is None else max(0.0, end - state.started)


def _with_badge(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the query `_RUNS` in which the columns `badge` and `badge_reasons` replace the column `findings`."""
    findings = row.pop("findings")
    badge = None if findings is None else recorded_badge(findings)
    return row | {"badge": badge.colour if badge else "", "badge_reasons": "\n".join(badge.reasons) if badge else ""}


def _with_trained(row: dict[str, Any], trained: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the query `_RUNS` in which missing accuracies are taken from `trained`.

    `trained` is the row of the query `_TRAINED` for the same run. Unless the run is an attack, `accuracy_of` names the split of
    `trained` (or is empty without a split), and `adversarial_attack` is empty if `trained` has no adversarial accuracy.
    """
    measured = {name: trained[name] if row[name] is None else row[name] for name in ("natural_accuracy", "adversarial_accuracy")}
    is_attack, split = row["kind"] == "attack", trained["split"]
    return row | measured | {
        "adversarial_attack": row["adversarial_attack"] if is_attack or trained["adversarial_accuracy"] is not None else "",
        "accuracy_of": row["accuracy_of"].replace(SPLIT, split) if is_attack or split else ""}


def _with_state(row: dict[str, Any], state: RunState, now: float) -> dict[str, Any]:
    """Return a copy of `row` with added columns that depend on the run's state, such as `status`.

    `now` is the current Unix time.
    """
    is_live = state.status in ("running", "stopping") and (state.silent_s is None or state.silent_s < SILENT_S)
    return row | {
        "status": state.status, "cause": state.cause, "silent_s": state.silent_s, "can_stop": state.can_stop,
        "can_resume": state.can_resume, "device": state.device, "duration_s": _duration(state, now),
        "age_s": None if row["created"] is None else now - row["created"],
        "progress": 1.0 if state.status == "finished" else row["progress"],
        "seconds_left": row["seconds_left"] if is_live else None}


def _differences(document: dict[str, Any]) -> list[Difference]:
    """Return the settings whose values differ from the published values, given the content of a run.json.

    The list is empty if the differences are unknown. This is the case for imported runs, which have few recorded settings, and
    for runs whose settings this version of the program cannot read.
    """
    if document.get("imported"):
        return []
    try:
        return differences_from_paper(recorded(document))
    except (ConfigError, KeyError):
        return []
