"""The run log: a database index of the run folders, and all queries on the index that pages and commands make."""

from __future__ import annotations

from engine.log.index import reindex
from engine.log.runlog import RunLog, snapshot

__all__ = ["RunLog", "reindex", "snapshot"]
