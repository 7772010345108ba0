"""Queries about runs as a whole: the list, progress, lineage, alerts, openings of the test split."""

from __future__ import annotations

from typing import Any

import duckdb
import pandas as pd

from engine.log.frames import FLAG, INT, NUMBER, TEXT, frame
from engine.log.queries_training import BEST_CANDIDATE_FIRST

RUNS = {
    "id": TEXT, "kind": TEXT, "method": TEXT, "title": TEXT, "preset": TEXT, "dataset": TEXT, "parent": TEXT,
    "created": NUMBER, "status": TEXT, "cause": TEXT, "progress": NUMBER, "phase": TEXT, "detail": TEXT,
    "seconds_left": NUMBER, "natural_accuracy": NUMBER, "adversarial_accuracy": NUMBER, "adversarial_attack": TEXT,
    "accuracy_of": TEXT, "chain_attack_run": TEXT, "chain_natural_accuracy": NUMBER, "chain_adversarial_accuracy": NUMBER,
    "chain_adversarial_attack": TEXT, "age_s": NUMBER, "last_event_t": NUMBER, "silent_s": NUMBER, "can_stop": FLAG,
    "can_resume": FLAG, "parameters": NUMBER, "macs": NUMBER, "genotype_hash": TEXT,
    "hand_made": TEXT,
}
PROGRESS = {"attempt": INT, "phase": TEXT, "done": NUMBER, "total": NUMBER, "unit": TEXT, "passes": INT, "detail": TEXT,
            "t": NUMBER, "fraction": NUMBER, "seconds_left": NUMBER}
CHAIN = {"id": TEXT, "kind": TEXT, "title": TEXT, "parent": TEXT, "depth": INT}
ALERTS = {"t": NUMBER, "attempt": NUMBER, "step": NUMBER, "level": TEXT, "text": TEXT, "source": TEXT}
OPENINGS = {"opening": INT, "run": TEXT, "title": TEXT, "kind": TEXT, "dataset": TEXT, "split": TEXT, "images": INT,
            "purpose": TEXT, "attempt": INT, "t": NUMBER}

# Rate over the trail (the last two minutes at most); without two points no estimate.
_PROGRESS = """
    select number, attempt, phase, done, total, coalesce(unit, '') as unit, coalesce(passes, 0) as passes,
           coalesce(detail, '') as detail, t, case when total > 0 then greatest(0, least(1, done / total)) end as fraction,
           case when t > trail_t[1] and done > trail_done[1]
                then greatest(0, total - done) * (t - trail_t[1]) / (done - trail_done[1]) end as seconds_left
    from progress where {among}
    qualify row_number() over (partition by number order by attempt desc, seq desc) = 1"""

# What an attack run measured: natural accuracy, and the lowest of its complete attacks (the last of equals, since attacks
# are ordered from weak to strong).
_TESTED = """
    select number, max(accuracy) filter (attack = 'natural') as natural_accuracy,
           min(accuracy) filter (attack not in ('natural', 'worst-case')) as adversarial_accuracy,
           arg_min(title, (accuracy, -seq)) filter (attack not in ('natural', 'worst-case')) as title
    from attack where complete and part_of is null and {among} group by number"""

# Searches: the last epoch's mean on the alphas split, or on the select split where candidates are measured.
# Retrainings: the epoch whose checkpoint is kept, which is the one
# with the best adversarial accuracy on the select split (natural accuracy between equals, then the earliest).
_TRAINED = """
    select a.number, a.natural_accuracy, a.adversarial_accuracy, a.split
    from accuracy a join folder f using (number)
    where (f.kind = 'search' or (f.kind = 'retrain' and a.split = 'select')) and {among}
    qualify row_number() over (partition by a.number order by
        case when f.kind = 'retrain' then a.adversarial_accuracy end desc nulls last,
        case when f.kind = 'retrain' then a.natural_accuracy end desc nulls last,
        case when f.kind = 'retrain' then -a.epoch else a.epoch end desc) = 1"""

# Of a search that measures candidates, the first in rank.
_FIRST_IN_RANK = f"""
    select number, natural_correct / images as natural_accuracy, adversarial_correct / images as adversarial_accuracy
    from candidate where {{among}} qualify row_number() over (partition by number order by {BEST_CANDIDATE_FIRST}) = 1"""

# Every run with each of its descendants. UNION, not UNION ALL: parents that form a circle end, too.
_BELOW = """
    with recursive below(root, number) as (
        select number, number from folder where $run is null or run = $run
        union
        select below.root, child.number from below
        join folder above on above.number = below.number join folder child on child.parent = above.run)"""

# The attack behind a search's adversarial accuracy, in words. One that has no PGD attacks in one step.
SEARCH_ATTACK = "coalesce('PGD-' || coalesce(config ->> 'ranking_steps', config ->> 'attack_steps'), 'one step')"

# In the pieces above and here {among} is a condition on `number`: a constant list reaches the scans inside the views.
_RUNS = f"""
    {_BELOW},
    tested as ({_TESTED}),
    chain as (
        select below.root, arg_max({{{{'run': f.run, 'natural': t.natural_accuracy, 'adversarial': t.adversarial_accuracy,
                                    'title': t.title}}}}, (f.created, f.run)) as best
        from below join folder f using (number) join tested t using (number) where f.kind = 'attack' group by below.root),
    trained as ({_TRAINED}),
    first_in_rank as ({_FIRST_IN_RANK}),
    latest as ({_PROGRESS}),
    found as (select number, arg_max(hash, step) as hash from genotype where {{among}} group by number),
    built as (select * from network where {{among}})
    select f.run as id, coalesce(kind, '') as kind, coalesce(method, '') as method, coalesce(f.title, f.run) as title,
           coalesce(preset, '') as preset, coalesce(dataset, '') as dataset, coalesce(parent, '') as parent, created,
           coalesce(problem, '') as problem, latest.fraction as progress, coalesce(latest.phase, '') as phase,
           coalesce(latest.detail, '') as detail, latest.seconds_left,
           coalesce(tested.natural_accuracy, first_in_rank.natural_accuracy, trained.natural_accuracy) as natural_accuracy,
           coalesce(tested.adversarial_accuracy, first_in_rank.adversarial_accuracy, trained.adversarial_accuracy)
               as adversarial_accuracy,
           case when kind = 'attack' then coalesce(tested.title, '')
                when trained.adversarial_accuracy is null then ''
                when kind = 'search' then {SEARCH_ATTACK}
                else 'PGD-' || coalesce(config ->> 'selection_steps', '20') end as adversarial_attack,
           case when kind = 'attack' and tested.number is not null then concat_ws(', ', 'test', nullif(tested.title, ''))
                when trained.number is null then ''
                when first_in_rank.number is not null then concat(
                    trained.split, ' split, ', if(config ->> 'ranking' = 'none', 'first', 'best'), ' candidate')
                when config ->> 'ranking_steps' is not null then trained.split || ' split, first candidate so far'
                when kind = 'search' then 'alphas split, batch statistics'
                else 'select, PGD-' || coalesce(config ->> 'selection_steps', '20') end as accuracy_of,
           coalesce(chain.best.run, '') as chain_attack_run, chain.best.natural as chain_natural_accuracy,
           chain.best.adversarial as chain_adversarial_accuracy, coalesce(chain.best.title, '') as chain_adversarial_attack,
           ingest.last_t as last_event_t, built.parameters, built.macs,
           coalesce(built.hash, found.hash, '') as genotype_hash, coalesce(built.hand_made, '') as hand_made
    from folder f
    left join ingest using (number) left join latest using (number) left join tested using (number)
    left join trained using (number) left join chain on chain.root = f.number left join built using (number)
    left join found using (number) left join first_in_rank using (number)
    where $run is null or f.run = $run
    order by created desc nulls last, id desc"""


def runs(cursor: duckdb.DuckDBPyConnection, run: str | None = None) -> pd.DataFrame:
    """All columns of `RUNS` that the database knows, and `problem`; newest first. See `RunLog.runs`."""
    among = "true"
    if run is not None:
        family = cursor.execute(f"{_BELOW} select number from below", {"run": run}).fetchall()
        among = f"number in ({', '.join(str(number) for number, in family) or -1})"
    return cursor.execute(_RUNS.format(among=among), {"run": run}).df()


def document(cursor: duckdb.DuckDBPyConnection, run: str) -> str | None:
    """run.json as text; None for an unknown run or one that cannot be read."""
    row = cursor.execute("select document from folder where run = ?", [run]).fetchone()
    return row[0] if row else None


def progress(cursor: duckdb.DuckDBPyConnection, number: int) -> dict[str, Any]:
    """Latest progress as a dict with the keys of `PROGRESS`; empty before the first. See `RunLog.progress`."""
    found = frame(cursor, _PROGRESS.format(among="number = $n"), {"n": number}, PROGRESS)
    return {} if found.empty else found.iloc[0].to_dict()


def chain(cursor: duckdb.DuckDBPyConnection, run: str) -> pd.DataFrame:
    """See `RunLog.chain`."""
    return frame(cursor, """
        with recursive above(run, parent) as (
            select run, parent from folder where run = $run
            union select f.run, f.parent from above join folder f on f.run = above.parent),
        -- Parents that form a circle have no root: then the run itself stands first.
        root as (select a.run from above a left join above b on b.run = a.parent
                 order by b.run is not null, a.run = $run desc limit 1),
        below(run, depth) as (
            select run, 0 from root
            union select f.run, below.depth + 1 from below join folder f on f.parent = below.run where below.depth < 16)
        select f.run as id, coalesce(kind, '') as kind, coalesce(title, f.run) as title, coalesce(parent, '') as parent,
               min(depth) as depth
        from below join folder f using (run) group by all order by depth, min(created), id""", {"run": run}, CHAIN)


def alerts(cursor: duckdb.DuckDBPyConnection, number: int) -> pd.DataFrame:
    """See `RunLog.alerts`."""
    return frame(cursor, """
        select * from (
            select t, attempt, step, level, text, 'run' as source, seq from alert_raw where number = $n
            union all
            select null, null, null, 'warning', sentence, 'run log', seq from faults where number = $n
            union all
            select null, null, null, 'error', problem, 'run log', -2 from folder where number = $n and problem is not null)
        order by seq""", {"n": number}, ALERTS)


def test_openings(cursor: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    """See `RunLog.test_openings`."""
    return frame(cursor, """
        select row_number() over (order by t, run, seq) as opening, run, coalesce(title, run) as title,
               coalesce(kind, '') as kind, coalesce(dataset, '') as dataset, split, images, purpose, attempt, t
        from opened_raw join folder using (number) where split = 'test' order by opening""", [], OPENINGS)


def revision_rows(cursor: duckdb.DuckDBPyConnection, run: str | None) -> list[tuple[Any, ...]]:
    """What identifies the present content: (run, stamp of run.json, bytes read, inode, stamp of the outcomes)."""
    return cursor.execute(
        "select run, f.stamp, bytes_done, inode, w.stamp from folder f join ingest using (number) left join worst w "
        "using (number) where $run is null or run = $run order by run", {"run": run}).fetchall()
