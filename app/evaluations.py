"""Robustness tables, outcomes and stored images for pages, read once and kept until they change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import streamlit as st

from app import session
from engine.attack.catalogue import WORST
from engine.report.robustness import Distinctions, RobustnessTable, distinctions, robustness_tables
from engine.report.samples import Samples, read_samples
from engine.run.folder import RunFolder

OUTCOMES, SAMPLES = "outcomes.parquet", "samples.parquet"


def tables() -> list[RobustnessTable]:
    """Return one table per protocol, those with the most networks first."""
    return _tables(str(session.runs_root()), session.run_log().events_revision())


def outcomes(run: str) -> pd.DataFrame:
    """Return the outcome of each attack for each image of an attack run, as `RunLog.outcomes` does. Do not change it.

    Raises:
        RunLogError: the file is missing or cannot be read.
    """
    return _outcomes(str(session.runs_root()), run, _changed(result_file(run, OUTCOMES)))


def samples(run: str) -> Samples:
    """Return the images that an attack run stored.

    Raises:
        RunLogError: the file is missing or cannot be read.
    """
    path = result_file(run, SAMPLES)
    return _samples(str(path), _changed(path))


def comparison(table: RobustnessTable, column: str = WORST, runs: Sequence[str] | None = None) -> Distinctions:
    """Return the paired comparison of those networks of a table that recorded an outcome per image.

    Args:
        table: the table.
        column: name of the column to compare.
        runs: attack runs to compare; None for all.

    Raises:
        RunLogError: the outcomes of a run cannot be read.
    """
    compared = [row.run for row in table.rows if row.complete and (runs is None or row.run in runs)]
    stamps = {run: _changed(result_file(run, OUTCOMES)) for run in compared}
    recorded = tuple((run, changed) for run, changed in stamps.items() if changed)
    return _comparison(str(session.runs_root()), table.protocol, column, recorded, table)


def result_file(run: str, name: str) -> Path:
    """Return the path of a file in the results of a run."""
    return RunFolder(session.runs_root(), run).results / name


def _changed(path: Path) -> int:
    """Return the time of the last change of a file in nanoseconds; 0 if there is no such file."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


@st.cache_resource(show_spinner=False, max_entries=2)
def _tables(root: str, revision: int) -> list[RobustnessTable]:
    return robustness_tables(session.run_log())


@st.cache_resource(show_spinner=False, max_entries=12)
def _outcomes(root: str, run: str, changed: int) -> pd.DataFrame:
    return session.run_log().outcomes(run)


@st.cache_resource(show_spinner=False, max_entries=4)
def _samples(path: str, changed: int) -> Samples:
    return read_samples(Path(path))


@st.cache_resource(show_spinner=False, max_entries=24)
def _comparison(root: str, protocol: str, column: str, runs: tuple[tuple[str, int], ...],
                _table: RobustnessTable) -> Distinctions:
    return distinctions(session.run_log(), _table, column, [run for run, _ in runs])
