"""The data of a study's charts as tables for export: accuracies as fractions in 0..1 with their 95 % intervals."""

from __future__ import annotations

import pandas as pd

from app.charts.data import accuracy_columns
from engine.report.latency import latency_columns
from engine.study.means import Mean, mean_of
from engine.study.measures import further_results
from engine.study.results import ArmResult, Results


def networks_frame(results: Results) -> pd.DataFrame:
    """Return one row per network of a study: its arm, seed, accuracies, size, search time, latencies and reliability.

    For a study that compares rankings, further columns hold the measures that rank the networks.
    """
    rows = []
    for arm in results.arms.values():
        for one in arm.cells:
            accuracies: dict[str, object] = accuracy_columns("endpoint", one.endpoint) | accuracy_columns("natural", one.natural)
            for name, measured in one.accuracies.items():
                accuracies |= accuracy_columns(name, measured)
            rows.append({"arm": arm.name, "search_seed": one.cell.search_seed, "retraining": one.cell.index + 1, "run": one.run}
                        | {name: value for name, value in one.measures.items() if name not in one.accuracies} | accuracies
                        | {"parameters": one.parameters, "macs": one.macs, "search_s": one.search_s}
                        | latency_columns(one.latencies) | {"reliability": one.badge.colour} | study_columns(results))
    return pd.DataFrame(rows)


def cells_frame(results: Results) -> pd.DataFrame:
    """Return one row per cell (repetition of an arm) of a study, with the cell's status, its runs and its results so far."""
    measured = {(row["arm"], row["search_seed"], row["retraining"]): row for row in networks_frame(results).to_dict("records")}
    rows = []
    for state in results.cells:
        place = (state.cell.arm, state.cell.search_seed, state.cell.index + 1)
        rows.append(dict(zip(("arm", "search_seed", "retraining"), place, strict=True)) | {"status": state.status}
                    | {f"{step.kind}_run": step.run for step in state.steps} | measured.get(place, {}))
    return pd.DataFrame(rows)


def arms_frame(results: Results) -> pd.DataFrame:
    """Return one row per arm: its means over the search seeds with their intervals, its sizes, search time and latency."""
    rows = []
    for arm in results.arms.values():
        means: dict[str, object] = {"arm": arm.name, "search_seeds": len(arm.units)}
        for name in ("endpoint", "natural", *further_results(results.study)):
            means |= mean_columns(name, mean_of(arm.measured(name)))
        rows.append(means | cost_columns(arm) | {"latency_s": results.latency(arm), "latency_device": results.latency_place}
                    | study_columns(results))
    return pd.DataFrame(rows)


def mean_columns(name: str, mean: Mean | None) -> dict[str, object]:
    """Return {column: value} for a mean: its value, the ends of its interval, and the basis of the interval."""
    values = (mean.value, mean.low, mean.high, mean.basis) if mean else (None,) * 4
    return dict(zip((name, f"{name}_low", f"{name}_high", f"{name}_interval_from"), values, strict=True))


def cost_columns(arm: ArmResult) -> dict[str, object]:
    """Return {column: value} for the mean sizes and the mean search time of an arm."""
    return {name: arm.mean(name) for name in ("parameters", "macs", "search_s")}


def study_columns(results: Results) -> dict[str, object]:
    """Return {column: value} for the columns that identify the study, the accuracy that it compares, and the protocol."""
    return {"study": results.study.id, "endpoint_is": results.study.endpoint, "protocol": results.protocol}
