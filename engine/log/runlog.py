"""The class RunLog, which presents the content of a runs folder as tables.

All SQL of the project is in this package.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.log.alert_queries import AlertQueries
from engine.log.alpha_queries import AlphaQueries
from engine.log.attack_queries import AttackQueries
from engine.log.comparison_queries import ComparisonQueries
from engine.log.insight_queries import InsightQueries
from engine.log.run_queries import RunQueries
from engine.log.training_queries import TrainingQueries


class RunLog(RunQueries, TrainingQueries, AlphaQueries, AttackQueries, ComparisonQueries, InsightQueries, AlertQueries):
    """A database index of the run folders, with all queries that pages and commands make.

    Example:
        log = RunLog.open("runs")
        log.ingest()
        log.runs()
    """


@contextmanager
def snapshot(root: Path) -> Iterator[RunLog]:
    """Yield a run log with the current content of a runs folder. It is in memory and does not use the file `index.duckdb`."""
    log = RunLog.open(root, in_memory=True)
    try:
        log.ingest()
        yield log
    finally:
        log.close()
