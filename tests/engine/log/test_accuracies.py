"""The table of mean accuracies, to which new steps are added, against the mean of all events of a run."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.log import RunLog, accuracies
from tests.sample_runs import EventsFile, write_run_json

RUNS = ("20261118-1000-arnas-digits-1a01", "20261118-1000-arnas-digits-1a02")
NAMES = ("natural_accuracy", "adversarial_accuracy", "natural_loss")
VALUES = st.dictionaries(st.sampled_from(NAMES), st.none() | st.floats(0, 1), min_size=1)
# Most metrics are of the next step, as a worker writes them. The others stay at a step, go back without a resume, or come from
# an earlier attempt.
METRICS = st.tuples(st.just("metric"), st.sampled_from(RUNS), st.sampled_from([1, 1, 1, 0, -2]), st.integers(0, 1),
                    st.sampled_from(["alphas", "alphas", "alphas", "select", "weights"]),
                    st.sampled_from(["batch", "batch", "running"]),
                    st.sampled_from([0, 0, 0, 0, 1]), VALUES)
RESUMES = st.tuples(st.just("resumed"), st.sampled_from(RUNS), st.integers(0, 12))
# Equal branches of `|` count once, so the shares are drawn.
ACTS = st.integers(0, 19).flatmap(lambda share: RESUMES if share == 0 else st.tuples(st.just("other file"), st.sampled_from(RUNS))
                                  if share == 1 else st.just(("ingest",)) if share < 6 else METRICS)
LOGS = st.lists(ACTS, min_size=12, max_size=40)


def means_of(events: list[dict[str, Any]]) -> dict[tuple[str, int], list[float | None]]:
    """Return {(split, epoch): means of `NAMES[:2]`} of a run's events: of each step, the last that no later attempt replaced."""
    resumed = [one for one in events if one["event"] == "resumed"]
    last: dict[tuple[str, str, int, str], tuple[int, float | None]] = {}
    for one in events:
        if one["event"] != "metric" or one["split"] not in ("alphas", "select") or any(
                r["attempt"] > one["attempt"] and one["step"] > r["from_step"] for r in resumed):
            continue
        for name, value in one["values"].items():
            last[one["split"], one["statistics"], one["step"], name] = one["epoch"], value
    found: dict[tuple[str, int], dict[str, list[float]]] = defaultdict(lambda: {name: [] for name in NAMES})
    for (split, _, _, name), (epoch, value) in last.items():
        if name in NAMES[:2]:
            found[split, epoch][name] += [] if value is None else [value]
    return {key: [fmean(values[name]) if values[name] else None for name in NAMES[:2]] for key, values in found.items()}


def assert_means(log: RunLog, events: dict[str, list[dict[str, Any]]]) -> None:
    with log.cursor() as cursor:
        rows = cursor.execute("select run, split, epoch, natural_accuracy, adversarial_accuracy from accuracy "
                              "join folder using (number)").fetchall()
    assert len(rows) == len({row[:3] for row in rows})
    for run in RUNS:
        found, expected = {row[1:3]: row[3:] for row in rows if row[0] == run}, means_of(events[run])
        assert found.keys() == expected.keys()
        for key, values in found.items():
            for value, mean in zip(values, expected[key], strict=True):
                assert value == mean or (value is not None and mean is not None and math.isclose(value, mean, abs_tol=1e-12))


@settings(max_examples=60, deadline=None)
@given(LOGS, st.sampled_from([200, 8 << 20]))
def test_means_are_those_of_all_current_steps(tmp_path_factory: pytest.TempPathFactory, acts: list[tuple[Any, ...]],
                                              chunk_bytes: int) -> None:
    root = tmp_path_factory.mktemp("runs")
    files = {run: EventsFile(write_run_json(root, run, "search")) for run in RUNS}
    events: dict[str, list[dict[str, Any]]] = {run: [] for run in RUNS}
    beginnings = {run: file.path.read_bytes() for run, file in files.items()}
    log = RunLog.open(root, in_memory=True, chunk_bytes=chunk_bytes)
    for act, *details in [*acts, ("ingest",)]:
        if act == "ingest":
            log.ingest()
            assert_means(log, events)
            continue
        run, file = details[0], files[details[0]]
        latest = file.attempt
        if act == "other file":
            file.path.write_bytes(beginnings[run])
            file.step, file.epoch, file.attempt, events[run] = 0, 0, 1, []
            continue
        if act == "resumed":
            file.attempt, file.step = latest + 1, min(details[1], file.step)
            fields: dict[str, Any] = {"from_step": file.step}
        else:
            _, ahead, longer, split, statistics, older, values = details
            file.step, file.epoch = max(0, file.step + ahead), file.epoch + longer
            file.attempt = max(1, latest - older)
            fields = {"split": split, "statistics": statistics, "values": values}
        file.write(act, **fields)
        events[run].append({"event": act, "attempt": file.attempt, "step": file.step, "epoch": file.epoch} | fields)
        file.attempt = latest + (act == "resumed")
    log.close()


def test_new_steps_are_added_without_reading_the_metrics_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a resume, the sums of a run are computed once more, and once only."""
    asked: list[str] = []
    again = accuracies._recompute

    def noted(con: Any, chosen: str) -> None:
        asked.append(chosen)
        again(con, chosen)

    monkeypatch.setattr(accuracies, "_recompute", noted)
    file = EventsFile(write_run_json(tmp_path, RUNS[0], "search"))
    log = RunLog.open(tmp_path, in_memory=True)
    for step in range(1, 13):
        if step == 8:
            file.attempt = 2
            file.write("resumed", from_step=5)
        file.step = step if step < 8 else step - 2
        file.epoch = 1 + file.step // 4
        file.write("metric", split="alphas", statistics="batch", values={"natural_accuracy": step / 100})
        log.ingest()
    assert len(asked) == 1
    with log.cursor() as cursor:
        rows = cursor.execute("select epoch, round(natural_accuracy, 9), natural_count from accuracy order by epoch").fetchall()
    assert rows == [(1, 0.02, 3), (2, round((0.04 + 0.05 + 0.08 + 0.09) / 4, 9), 4), (3, 0.11, 3)]
    log.close()
