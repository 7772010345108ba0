"""Sample runs and a log over them, fresh for every test that changes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from engine.log import RunLog
from tests.sample_runs import write_sample_runs

# Columns of the list of runs that depend on the clock. A run that falls silent has no time left.
CLOCKED = ("age_s", "silent_s", "duration_s", "seconds_left")


@pytest.fixture
def ids(tmp_path: Path) -> dict[str, str]:
    """Write all sample runs into `tmp_path / "runs"`; return role -> id."""
    return write_sample_runs(tmp_path / "runs")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The runs folder of the test."""
    return tmp_path / "runs"


@pytest.fixture(scope="session")
def shared_log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunLog]:
    """A log over the sample runs, shared by all tests that only query."""
    root = tmp_path_factory.mktemp("shared") / "runs"
    write_sample_runs(root)
    yield from opened_log(root)


@pytest.fixture
def log(request: pytest.FixtureRequest, ids: dict[str, str]) -> Iterator[RunLog]:
    """A log that has ingested the sample runs; a fresh one if the test requests `root`, because only then can it write."""
    if "root" in request.fixturenames:
        yield from opened_log(request.getfixturevalue("root"))
    else:
        yield request.getfixturevalue("shared_log")


@pytest.fixture(scope="session")
def answers(shared_log: RunLog) -> dict[str, Any]:
    """`every_query` over the sample runs, wherever they are stored."""
    return without_revisions(every_query(shared_log))


def opened_log(root: Path) -> Iterator[RunLog]:
    opened = RunLog.open(root)
    opened.ingest()
    yield opened
    opened.close()


def every_query(log: RunLog) -> dict[str, Any]:
    """The answer of every public query about every run, without what depends on the clock."""
    answers: dict[str, Any] = {
        "runs": log.runs().drop(columns=list(CLOCKED)), "attacks": log.attacks(),
        "evaluations": log.evaluations(), "checks": log.checks(), "sweeps": log.sweeps(),
        "search_times": log.search_times(), "pareto_epochs": log.pareto_epochs(), "test_openings": log.test_openings(),
        "revision": log.events_revision(), "statuses": log.statuses(), "waits_for_supervisor": log.waits_for_supervisor(),
        "ids": log.ids(), "genotypes_of_runs": log.genotypes_of_runs(), "latencies": log.latencies(),
        "active_since": log.active_since(0.0),
        "written_alerts": log.written_alerts(log.ids()), "losses_not_finite": log.losses_not_finite(log.ids()),
        "retrained": log.retrained(log.ids()), "latest_alphas": log.latest_alphas(log.ids()), "paces": log.paces(log.ids()),
    }
    of_run: dict[str, Callable[[str], Any]] = {
        "runs": lambda run: log.runs([run]).drop(columns=list(CLOCKED)),
        "run": lambda run: {key: value for key, value in log.run(run).items() if key not in CLOCKED},
        "records": lambda run: [{key: value for key, value in row.items() if key not in CLOCKED} for row in log.records([run])],
        "chain": log.chain, "family": log.family, "state": lambda run: log.state(run).status,
        "progress": log.progress, "alerts": log.alerts, "curves": log.curves, "scalars": log.scalars,
        "objective_names": log.objective_names,
        "configs": lambda run: log.configs([run]), "metrics_of": lambda run: log.metrics_of([run]),
        "configs_naming": log.configs_naming,
        "overlay": lambda run: log.overlay([run], "natural_loss", "weights", "batch", 10),
        "steps_curve": lambda run: log.steps_curve(run, ["natural_loss", "train_loss"], 10), "objectives": log.objectives,
        "share_at_vertex": log.share_at_vertex, "alpha_cells": log.alpha_cells,
        "alpha_epoch": log.alpha_epoch, "alpha_epochs": lambda run: log.alpha_epochs(run, "robust"),
        "alpha_matrix": lambda run: log.alpha_matrix(run, "robust"),
        "alpha_matrix of epoch 1": lambda run: log.alpha_matrix(run, "robust", 1),
        "alpha_lines": lambda run: log.alpha_lines(run, "reduce"), "edge_lines": lambda run: log.edge_lines(run, "reduce"),
        "alpha_history": lambda run: log.alpha_history(run, "robust"),
        "objective_epochs": log.objective_epochs, "stationarity": log.stationarity,
        "telemetry": log.telemetry, "gpu_telemetry": log.gpu_telemetry, "throughput": log.throughput,
        "objective_pairs": log.objective_pairs,
        "alpha_courses": lambda run: log.alpha_courses(run, "reduce"), "series": log.series,
        "edge_courses": lambda run: log.edge_courses(run, "reduce"),
        "genotypes": log.genotypes, "genotype": log.genotype,
        "candidates": log.candidates, "verdicts": log.verdicts, "certified": log.certified,
        "critical_epsilons": log.critical_epsilons,
        "attacks": log.attacks, "pareto_epochs": lambda run: log.pareto_epochs([run]), "revision": log.events_revision,
    }
    for run in answers["runs"]["id"]:
        answers |= {f"{name} of {run}": question(run) for name, question in of_run.items()}
    return answers


def without_revisions(answers: dict[str, Any]) -> dict[str, Any]:
    """Answers of `every_query` that a copy of the folder keeps: revisions are fingerprints of files."""
    return {name: answer for name, answer in answers.items() if "revision" not in name}


def revisions(log: RunLog) -> dict[str, Any]:
    """The answers of `every_query` that `without_revisions` leaves out."""
    return {"revision": log.events_revision()} | {f"revision of {run}": log.events_revision(run) for run in log.runs()["id"]}


def assert_same(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Two answers of `every_query` are equal: same rows, same order, same types."""
    assert first.keys() == second.keys()
    for name, answer in first.items():
        if isinstance(answer, pd.DataFrame):
            pd.testing.assert_frame_equal(answer, second[name], obj=name)
        else:
            # repr: NaN equals NaN.
            assert repr(answer) == repr(second[name]), name
