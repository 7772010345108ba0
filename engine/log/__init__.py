"""The run log: an index over the run folders, and every question that pages and commands ask of it."""

from __future__ import annotations

from engine.log.runlog import RunLog, reindex

__all__ = ["RunLog", "reindex"]
