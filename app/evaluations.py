"""Robustness tables and outcomes of attacks, cached for the pages until the data change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import streamlit as st

from app import session
from engine.attack.catalogue import WORST
from engine.report.robustness import Distinctions, RobustnessTable, distinctions, letters_of, robustness_tables
from engine.report.samples import Samples, read_samples
from engine.report.transfers import TransferMap
from engine.report.transfers import transfer_maps as maps_of
from engine.run.folder import RunFolder

OUTCOMES, SAMPLES = "outcomes.parquet", "samples.parquet"


def tables() -> list[RobustnessTable]:
    """Return one robustness table per protocol. The table with the most networks comes first.

    A protocol consists of the attacks with their settings, and the images.
    """
    return _tables(str(session.runs_root()), session.run_log().events_revision())


def outcomes(run: str) -> pd.DataFrame:
    """Return the outcome of every attack on every image of an attack run, as a table from `RunLog.outcomes`.

    The table is cached and shared, so the caller must not change it.

    Raises:
        RunLogError: the run's file of outcomes is missing or cannot be read.
    """
    return _outcomes(str(session.runs_root()), run, changed(result_file(run, OUTCOMES)))


def samples(run: str) -> Samples:
    """Return the images that an attack run stored.

    Raises:
        RunLogError: the file is missing or cannot be read.
    """
    path = result_file(run, SAMPLES)
    return _samples(str(path), changed(path))


def comparison(table: RobustnessTable, column: str = WORST, runs: Sequence[str] | None = None) -> Distinctions:
    """Compare the networks of a table in pairs, image by image.

    Networks are left out if their attack run is incomplete or has recorded no outcomes of single images.

    Args:
        table: the robustness table.
        column: name of the column of results in which the networks are compared.
        runs: ids of the attack runs whose networks are compared; None for all.

    Raises:
        RunLogError: the outcomes of a run cannot be read.
    """
    return _comparison(str(session.runs_root()), table.protocol, column, recorded(table, runs), table)


def letters(table: RobustnessTable) -> dict[str, str]:
    """Return {attack run: letters of its network}.

    Two networks share a letter if a test finds no difference between their worst-case accuracies.

    Raises:
        RunLogError: the outcomes of a run cannot be read.
    """
    return _letters(str(session.runs_root()), table.protocol, recorded(table), table)


def recorded(table: RobustnessTable, runs: Sequence[str] | None = None) -> tuple[tuple[str, int], ...]:
    """Return a pair (run id, modification time of the file of outcomes in ns) for each complete run of a table.

    Runs that recorded no outcomes are left out.
    """
    compared = [row.run for row in table.rows if row.complete and (runs is None or row.run in runs)]
    stamps = {run: changed(result_file(run, OUTCOMES)) for run in compared}
    return tuple((run, changed) for run, changed in stamps.items() if changed)


def transfer_maps() -> list[TransferMap]:
    """Return the transfer maps, the one with the most results first.

    There is one map for each combination of an attack and its conditions (dataset, epsilon, images and so on).
    """
    return _transfer_maps(str(session.runs_root()), session.run_log().events_revision())


def result_file(run: str, name: str) -> Path:
    """Return the path of a file in the folder results/ of a run."""
    return RunFolder(session.runs_root(), run).results / name


def changed(path: Path) -> int:
    """Return the modification time of a file in nanoseconds, or 0 if the file does not exist."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


@st.cache_resource(show_spinner=False, max_entries=2)
def _tables(root: str, revision: int) -> list[RobustnessTable]:
    return robustness_tables(session.run_log())


@st.cache_resource(show_spinner=False, max_entries=2)
def _transfer_maps(root: str, revision: int) -> list[TransferMap]:
    return maps_of(session.run_log())


@st.cache_resource(show_spinner=False, max_entries=12)
def _outcomes(root: str, run: str, changed: int) -> pd.DataFrame:
    return session.run_log().outcomes(run)


@st.cache_resource(show_spinner=False, max_entries=4)
def _samples(path: str, changed: int) -> Samples:
    return read_samples(Path(path))


@st.cache_resource(show_spinner=False, max_entries=2)
def _comparison(root: str, protocol: str, column: str, runs: tuple[tuple[str, int], ...],
                _table: RobustnessTable) -> Distinctions:
    return distinctions(session.run_log(), _table, column, [run for run, _ in runs])


@st.cache_resource(show_spinner=False, max_entries=8)
def _letters(root: str, protocol: str, runs: tuple[tuple[str, int], ...], _table: RobustnessTable) -> dict[str, str]:
    return letters_of(session.run_log(), _table, [run for run, _ in runs])
