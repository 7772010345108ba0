"""The run log: an index of the run folders, and every query that pages and commands ask."""

from __future__ import annotations

from engine.log.index import reindex
from engine.log.runlog import RunLog

__all__ = ["RunLog", "reindex"]
