"""Runs of real workers, stopped or killed and then resumed, equal uninterrupted ones bit for bit on the CPU."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from engine import requests
from engine.run import checkpoint
from engine.run.folder import RunFolder, read_json
from tests.engine.run.processes import events_of, processes_of, until, until_status, until_step

# Long enough to be interrupted in the middle, short enough for a test.
CHANGES: dict[str, dict[str, Any]] = {
    "search": {"epochs": 3, "steps_per_epoch": 5},
    "retrain": {"epochs": 4, "steps_per_epoch": 5, "selection_every": 1},
    "attack": {"attacks": ("fgsm", "pgd-150"), "batch_size": 8},
}
COMPARED_EVENTS = ("metric", "objectives", "alpha", "attack", "genotype", "network", "opened", "finished")
# How long it took is no result.
NOT_COMPARED = ("duration_s", "t", "attempt", "images_per_s")


def flags(kind: str) -> list[str]:
    """Return CHANGES as command-line options."""
    words = []
    for name, value in CHANGES[kind].items():
        words += [f"--{name.replace('_', '-')}", *(value if isinstance(value, tuple) else (str(value),))]
    return words


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with processes_of(tmp_path_factory.mktemp("resume") / "runs") as folder:
        yield folder


@pytest.fixture(scope="module")
def whole(runs: Path) -> dict[str, str]:
    """Ids of an uninterrupted search, retraining and attack, run by the command line with --wait."""
    ids: dict[str, str] = {}
    for kind, parent in (("search", None), ("retrain", "search"), ("attack", "retrain")):
        words = [sys.executable, "-m", "engine", kind, "--preset", "smoke", "--threads", "1", "--runs", str(runs), "--json",
                 "--wait", *flags(kind), *(["--parent", ids[parent]] if parent else [])]
        done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr + done.stdout
        answer = json.loads(done.stdout)
        (ids[kind],) = answer["ids"]
        assert answer["runs"][ids[kind]]["status"] == "finished"
    return ids


def same(one: Any, other: Any, path: str = "") -> None:
    """Assert that two nested structures of tensors and values are bit for bit equal."""
    assert type(one) is type(other), path
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype and torch.equal(one, other), path
    elif isinstance(one, dict):
        assert list(one) == list(other), path
        for key in one:
            if key not in ("seconds", "events_bytes", "events_crc32"):
                same(one[key], other[key], f"{path}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), path
        for position, pair in enumerate(zip(one, other, strict=True)):
            same(*pair, f"{path}[{position}]")
    else:
        assert one == other, path


def results(runs: Path, run_id: str) -> dict[str, Any]:
    """Return everything in a run's folder that must not depend on interruptions."""
    folder = RunFolder(runs, run_id)
    found: dict[str, Any] = {path.name: checkpoint.read(path) for path in (folder.checkpoint / "last.pt",
                                                                          folder.checkpoint / "best.pt") if path.exists()}
    found |= {name: read_json(folder.results / name) for name in ("genotype.json", "network.json")}
    outcomes = folder.results / "outcomes.parquet"
    found["outcomes"] = pq.read_table(outcomes).to_pydict() if outcomes.exists() else None
    found["events"] = [strip(event) for event in events_of(runs, run_id) if event["event"] in COMPARED_EVENTS]
    return found


def strip(event: dict[str, Any]) -> dict[str, Any]:
    event = {name: value for name, value in event.items() if name not in NOT_COMPARED}
    if "values" in event:
        event["values"] = {name: value for name, value in event["values"].items() if name not in NOT_COMPARED}
    return event


@pytest.mark.parametrize("kind", ["search", "retrain", "attack"])
def test_stopped_and_resumed_killed_and_resumed_equals_uninterrupted(runs: Path, whole: dict[str, str], kind: str) -> None:
    parent = {"search": None, "retrain": whole["search"], "attack": whole["retrain"]}[kind]
    (run_id,) = requests.submit(runs, kind, CHANGES[kind] | {"threads": 1}, method="arnas", preset="smoke", parent=parent)
    until_step(runs, run_id, 2)
    asked = time.monotonic()
    requests.request_stop(runs, run_id)
    until_status(runs, run_id, "stopped")
    # Two seconds on a machine of one's own; the tests share theirs.
    assert time.monotonic() - asked < 10
    stopped_at = checkpoint.read(RunFolder(runs, run_id).checkpoint / "last.pt")["step"]
    assert requests.status(runs, run_id).cause == "Stopped on request."

    requests.resume(runs, run_id)
    until_step(runs, run_id, stopped_at + 2)
    os.kill(requests.status(runs, run_id).pid, signal.SIGKILL)
    until_status(runs, run_id, "failed")
    until(lambda: "signal 9" in requests.status(runs, run_id).cause, "the cause is told")

    requests.resume(runs, run_id)
    until_status(runs, run_id, "finished")
    assert requests.status(runs, run_id).attempt == 3
    assert [event["from_step"] for event in events_of(runs, run_id, "resumed")][0] == stopped_at
    assert [event["text"] for event in events_of(runs, run_id, "alert")] == []
    same(results(runs, whole[kind]), results(runs, run_id))


@pytest.mark.parametrize("threads", [1, 2])
def test_stopped_and_killed_inside_apgd_t_equals_uninterrupted(runs: Path, whole: dict[str, str], threads: int) -> None:
    """The checkpoint holds every image's place in the attack, so the outcomes are bit for bit those of an uninterrupted run."""
    changes = {"attacks": ("apgd-t",), "batch_size": 2, "images": None, "threads": threads}
    plain, run_id = (requests.submit(runs, "attack", changes, preset="smoke", parent=whole["retrain"])[0] for _ in range(2))
    until_status(runs, plain, "finished")
    natural = -(-359 // 2)  # blocks of natural prediction
    until_step(runs, run_id, natural + 2)
    requests.request_stop(runs, run_id)
    until_status(runs, run_id, "stopped")
    stopped = checkpoint.read(RunFolder(runs, run_id).checkpoint / "last.pt")
    pools = stopped["evaluation"]["running"]["pools"]
    assert stopped["evaluation"]["stage"] == "apgd-t" and len(pools) == threads
    assert all(len(pool["state"]["point"]) > 0 for pool in pools)
    requests.resume(runs, run_id)
    until_step(runs, run_id, stopped["step"] + 2)
    os.kill(requests.status(runs, run_id).pid, signal.SIGKILL)
    until_status(runs, run_id, "failed")
    assert not events_of(runs, run_id, "finished")
    requests.resume(runs, run_id)
    until_status(runs, run_id, "finished")
    same(results(runs, plain), results(runs, run_id))


def test_the_first_start_fixes_what_results_depend_on(runs: Path, whole: dict[str, str]) -> None:
    environments = [read_json(RunFolder(runs, run_id).environment_json) for run_id in whole.values()]
    for environment in environments:
        assert environment["threads"] == 1 and environment["dtype"] == "float32" and environment["device"] == "cpu"
        assert environment["versions"]["torch"] and len(environment["data_hash"]) == 16
    # One lineage, one set of splits.
    assert len({environment["split_hash"] for environment in environments}) == 1


def test_the_first_progress_comes_before_torch_and_passes_move(runs: Path, whole: dict[str, str]) -> None:
    process, events = read_json(RunFolder(runs, whole["search"]).process_json), events_of(runs, whole["search"], "progress")
    assert events[0]["t"] - process["started"] < 5 and events[0]["passes"] == 0
    passes = [event["passes"] for event in events]
    assert passes == sorted(passes) and passes[-1] > 0
    assert events[-1]["done"] == events[-1]["total"]


def test_a_stop_while_torch_is_loading_is_honoured_and_resume_begins(runs: Path, whole: dict[str, str]) -> None:
    (run_id,) = requests.submit(runs, "attack", CHANGES["attack"] | {"threads": 1}, preset="smoke", parent=whole["retrain"])
    until_status(runs, run_id, "running")
    requests.request_stop(runs, run_id)
    until_status(runs, run_id, "stopped")
    assert events_of(runs, run_id, "opened") == []
    requests.resume(runs, run_id)
    until_status(runs, run_id, "finished")
    same(results(runs, whole["attack"]), results(runs, run_id))


def test_killing_the_supervisor_hurts_nobody(runs: Path, whole: dict[str, str]) -> None:
    """The worker continues and a new supervisor adopts it; its end is recorded although it is no child of that supervisor."""
    (run_id,) = requests.submit(runs, "search", CHANGES["search"] | {"threads": 1}, method="arnas", preset="smoke")
    until_step(runs, run_id, 1)
    os.kill(until(lambda: requests.supervisor_pid(runs), "a supervisor"), signal.SIGKILL)
    until(lambda: requests.supervisor_pid(runs) is None, "it is seen to be dead")
    requests.ensure_supervisor(runs)
    until_status(runs, run_id, "finished")
    until(lambda: read_json(RunFolder(runs, run_id).exit_json), "exit.json by the successor")
    assert requests.status(runs, run_id).attempt == 1
    same(results(runs, whole["search"]), results(runs, run_id))


def test_a_damaged_event_before_a_checkpoint_is_written_again(runs: Path, whole: dict[str, str]) -> None:
    """The damaged line still is JSON, so only the checkpoint's checksum tells that the result of a step is lost."""
    (run_id,) = requests.submit(runs, "retrain", CHANGES["retrain"] | {"threads": 1}, preset="smoke", parent=whole["search"])
    folder = RunFolder(runs, run_id)
    until(lambda: (folder.checkpoint / "previous.pt").exists(), "two checkpoints")
    os.kill(requests.status(runs, run_id).pid, signal.SIGKILL)
    until_status(runs, run_id, "failed")
    content = folder.events.read_bytes()
    folder.events.write_bytes(content.replace(b'"event":"metric"', b'"event":"matric"', 1))
    assert folder.events.read_bytes() != content
    requests.resume(runs, run_id)
    until_status(runs, run_id, "finished")
    alerts = [event["text"] for event in events_of(runs, run_id, "alert")]
    assert alerts and all("events.jsonl had" in text and "damaged" in text for text in alerts)
    same(results(runs, whole["retrain"]), results(runs, run_id))


# Python runs this module at its start. It records how long each file was when it was last flushed to disk.
RECORD_FLUSHES = """
import json, os

flush, flushed = os.fsync, {}

def fsync(descriptor):
    flush(descriptor)
    flushed[os.readlink(f"/proc/self/fd/{descriptor}")] = os.fstat(descriptor).st_size
    with open(f"{os.environ['FLUSHES']}.new", "w") as file:
        json.dump(flushed, file)
    os.replace(f"{os.environ['FLUSHES']}.new", os.environ["FLUSHES"])

os.fsync = fsync
"""


def cut_the_power(runs: Path, run_id: str, flushes: Path) -> int:
    """Kill the worker, and cut off the events that it never flushed to disk. Return the number of bytes that are lost."""
    folder = RunFolder(runs, run_id)
    os.kill(until(lambda: requests.status(runs, run_id).pid, "a worker"), signal.SIGKILL)
    until_status(runs, run_id, "failed")
    kept, size = (read_json(flushes) or {}).get(str(folder.events), 0), folder.events.stat().st_size
    os.truncate(folder.events, kept)
    return size - kept


@pytest.mark.parametrize("kind", ["search", pytest.param("retrain", marks=pytest.mark.slow),
                                  pytest.param("attack", marks=pytest.mark.slow)])
def test_a_power_cut_loses_no_event_before_a_checkpoint(runs: Path, whole: dict[str, str], kind: str, tmp_path: Path,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    parent, flushes = {"search": None, "retrain": whole["search"], "attack": whole["retrain"]}[kind], tmp_path / "flushes.json"
    (tmp_path / "sitecustomize.py").write_text(RECORD_FLUSHES)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("FLUSHES", str(flushes))
    with processes_of(tmp_path / "runs") as folder:
        shutil.copytree(runs, folder, ignore=shutil.ignore_patterns("control", "supervisor.log"))
        (run_id,) = requests.submit(folder, kind, CHANGES[kind] | {"threads": 1}, method="arnas", preset="smoke", parent=parent)
        lost = 0
        for step in (3, 8):
            until_step(folder, run_id, step)
            lost += cut_the_power(folder, run_id, flushes)
            requests.resume(folder, run_id)
        until_status(folder, run_id, "finished")
        assert lost > 0
        assert [event["text"] for event in events_of(folder, run_id, "alert")] == []
        same(results(runs, whole[kind]), results(folder, run_id))
