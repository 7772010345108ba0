"""Queries about one run's training: curves, MGDA, alphas, genotypes, candidates. Long series are bucketed here, in SQL."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import pandas as pd

from engine.log.frames import INT, NUMBER, TEXT, frame

CURVES = {"epoch": INT, "step": INT, "split": TEXT, "statistics": TEXT, "name": TEXT, "value": NUMBER}
OBJECTIVES = {"step": INT, "epoch": INT, "objective": TEXT, "weight": NUMBER, "norm": NUMBER, "loss": NUMBER, "cosine": NUMBER}
SHARES = {"objective": TEXT, "share_ignored": NUMBER, "share_alone": NUMBER, "steps": INT}
MATRIX = {"edge": INT, "operation": TEXT, "alpha": NUMBER, "weight": NUMBER, "edge_weight": NUMBER}
LINES = {"edge": INT, "operation": TEXT, "step": INT, "epoch": INT, "weight": NUMBER}
EDGE_LINES = {"edge": INT, "step": INT, "epoch": INT, "edge_weight": NUMBER}
GENOTYPES = {"epoch": INT, "step": INT, "genotype": TEXT, "hash": TEXT, "unchanged_epochs": INT, "t": NUMBER}
CANDIDATES = {"candidate": INT, "rank": INT, "genotype": TEXT, "hash": TEXT, "parameters": INT, "macs": INT, "images": INT,
              "natural": NUMBER, "natural_low": NUMBER, "natural_high": NUMBER, "adversarial": NUMBER, "adversarial_low": NUMBER,
              "adversarial_high": NUMBER, "ranking": TEXT}
# Best first, as `engine.search.candidates.ranked`.
BEST_CANDIDATE_FIRST = """
    case ranking when 'adversarial' then adversarial_correct when 'natural' then natural_correct else 0 end / images desc,
    case ranking when 'adversarial' then natural_correct when 'natural' then adversarial_correct else 0 end / images desc,
    candidate"""

# A weight within this of 0 or 1 counts as at a vertex of the simplex: MGDA's clip gives 0 and 1 exactly, Frank-Wolfe not.
AT_VERTEX = 1e-9


def curves(cursor: duckdb.DuckDBPyConnection, number: int) -> pd.DataFrame:
    """See `RunLog.curves`."""
    return frame(cursor, """
        select epoch, max(step) as step, split, statistics, name, avg(value) as value from metric
        where number = ? group by epoch, split, statistics, name order by split, statistics, name, epoch""", [number], CURVES)


def steps_curve(cursor: duckdb.DuckDBPyConnection, number: int, names: Sequence[str], buckets: int) -> pd.DataFrame:
    """See `RunLog.steps_curve`."""
    return frame(cursor, """
        with line as (select *, min(step) over series as first, max(step) over series as last from metric
                      where number = $n and name in (select unnest($names))
                      window series as (partition by split, statistics, name))
        select max(step) as step, max(epoch) as epoch, split, statistics, name, avg(value) as value from line
        group by split, statistics, name, (step - first) * $buckets // (last - first + 1)
        order by split, statistics, name, step""",
                 {"n": number, "names": list(names), "buckets": buckets}, CURVES)


def objectives(cursor: duckdb.DuckDBPyConnection, number: int, buckets: int) -> pd.DataFrame:
    """See `RunLog.objectives`."""
    return frame(cursor, """
        with line as (select *, min(step) over () as first, max(step) over () as last from objective where number = $n)
        select max(step) as step, max(epoch) as epoch, objective, avg(weight) as weight, avg(norm) as norm, avg(loss) as loss,
               avg(cosine) as cosine
        from line group by objective, position, (step - first) * $buckets // (last - first + 1)
        order by position, step""", {"n": number, "buckets": buckets}, OBJECTIVES)


def share_at_vertex(cursor: duckdb.DuckDBPyConnection, number: int, last: int) -> pd.DataFrame:
    """See `RunLog.share_at_vertex`."""
    return frame(cursor, """
        with line as (select *, dense_rank() over (order by step desc) as back from objective where number = $n)
        select objective, avg((weight <= $eps)::int) as share_ignored, avg((weight >= 1 - $eps)::int) as share_alone,
               count(weight) as steps
        from line where back <= $last group by objective, position order by position""",
                 {"n": number, "eps": AT_VERTEX, "last": last}, SHARES)


def alpha_cells(cursor: duckdb.DuckDBPyConnection, number: int) -> list[str]:
    """See `RunLog.alpha_cells`."""
    rows = cursor.execute("select cell from alpha_raw where number = ? group by cell order by min(seq)", [number]).fetchall()
    return [row[0] for row in rows]


def alpha_epochs(cursor: duckdb.DuckDBPyConnection, number: int, cell: str) -> list[int]:
    """See `RunLog.alpha_epochs`."""
    rows = cursor.execute("select distinct epoch from alpha where number = ? and cell = ? order by epoch",
                          [number, cell]).fetchall()
    return [row[0] for row in rows]


def alpha_matrix(cursor: duckdb.DuckDBPyConnection, number: int, cell: str, epoch: int | None) -> pd.DataFrame:
    """See `RunLog.alpha_matrix`."""
    return frame(cursor, """
        with matrix as (select primitives, alpha, weight, edge_weight, len(primitives) as k from alpha
                        where number = $n and cell = $cell and ($epoch is null or epoch = $epoch) order by step desc limit 1),
        entry as (select k, primitives, edge_weight, unnest(alpha) as alpha, unnest(weight) as weight,
                         generate_subscripts(alpha, 1) - 1 as i from matrix)
        select i // k as edge, primitives[i % k + 1] as operation, alpha, weight, edge_weight[i // k + 1] as edge_weight
        from entry order by i""",
                 {"n": number, "cell": cell, "epoch": epoch}, MATRIX)


def alpha_lines(cursor: duckdb.DuckDBPyConnection, number: int, cell: str, buckets: int) -> pd.DataFrame:
    """See `RunLog.alpha_lines`."""
    return frame(cursor, """
        with line as (select step, epoch, primitives, weight, len(primitives) as k, min(step) over () as first,
                             max(step) over () as last
                      from alpha where number = $n and cell = $cell),
        bucket as (select * from line qualify row_number() over (
                       partition by (step - first) * $buckets // (last - first + 1) order by step desc) = 1),
        entry as (select step, epoch, primitives, k, unnest(weight) as weight, generate_subscripts(weight, 1) - 1 as i
                  from bucket)
        select i // k as edge, primitives[i % k + 1] as operation, step, epoch, weight from entry order by i, step""",
                 {"n": number, "cell": cell, "buckets": buckets}, LINES)


def edge_lines(cursor: duckdb.DuckDBPyConnection, number: int, cell: str, buckets: int) -> pd.DataFrame:
    """See `RunLog.edge_lines`."""
    return frame(cursor, """
        with line as (select step, epoch, edge_weight, min(step) over () as first, max(step) over () as last
                      from alpha where number = $n and cell = $cell and len(edge_weight) > 0),
        bucket as (select * from line qualify row_number() over (
                       partition by (step - first) * $buckets // (last - first + 1) order by step desc) = 1)
        select unnest(edge_weight) as edge_weight, generate_subscripts(edge_weight, 1) - 1 as edge, step, epoch
        from bucket order by edge, step""", {"n": number, "cell": cell, "buckets": buckets}, EDGE_LINES)


def genotypes(cursor: duckdb.DuckDBPyConnection, number: int) -> pd.DataFrame:
    """See `RunLog.genotypes`."""
    return frame(cursor, """
        with last as (select * from genotype where number = ?
                      qualify row_number() over (partition by epoch order by step desc) = 1),
        changed as (select *, coalesce(hash <> lag(hash) over (order by epoch), true)::int as is_new from last),
        spell as (select *, sum(is_new) over (order by epoch) as spell from changed)
        select epoch, step, genotype, hash, t,
               epoch - first_value(epoch) over (partition by spell order by epoch) as unchanged_epochs
        from spell order by epoch""", [number], GENOTYPES)


def candidates(cursor: duckdb.DuckDBPyConnection, number: int) -> pd.DataFrame:
    """See `RunLog.candidates`."""
    return frame(cursor, f"""
        select *, natural_correct / images as "natural", adversarial_correct / images as adversarial,
               row_number() over (order by {BEST_CANDIDATE_FIRST}) as rank
        from candidate where number = ? order by rank""", [number], CANDIDATES)


def genotype_text(cursor: duckdb.DuckDBPyConnection, run: str) -> str | None:
    """Genotype of a run as JSON: its network's, else the latest it found; None when it has none."""
    row = cursor.execute("""
        select coalesce(n.genotype, (select arg_max(genotype, step) from genotype g where g.number = f.number))
        from folder f left join network n using (number) where run = ?""", [run]).fetchone()
    return row[0] if row else None

