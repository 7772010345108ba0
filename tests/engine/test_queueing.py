"""The queue of a runs folder: decisions of the user, the supervisor that obeys them, expected starts, and the verb."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import queueing, requests
from engine.cli import main
from engine.errors import ConfigError, RunError
from engine.files import atomic_write_json
from engine.run import device
from engine.run.device import Device, Resources
from engine.run.folder import RunFolder, read_json
from engine.run.supervisor import Supervisor
from tests.engine.run.processes import processes_of, without_supervisor
from tests.engine.run.test_supervisor import FOREVER, ScriptLauncher, submit, tick_until


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Path]:
    with processes_of(without_supervisor(tmp_path / "runs")) as folder:
        yield folder


def supervisor_of(runs: Path) -> Supervisor:
    return Supervisor(runs, launcher=ScriptLauncher(dict.fromkeys(("search", "retrain", "attack"), FOREVER)))


def finish(runs: Path, run_id: str) -> None:
    """Let a running worker end as if its run had finished."""
    folder = RunFolder(runs, run_id)
    folder.results.mkdir(exist_ok=True)
    atomic_write_json(folder.ended_json, {"attempt": 1, "status": "finished", "cause": "", "ended": time.time()})
    os.kill(int((read_json(folder.process_json) or {})["pid"]), signal.SIGKILL)


def causes(runs: Path) -> dict[str, str]:
    return {entry.id: entry.cause for entry in queueing.view(runs).waiting}


def test_a_pause_lets_running_runs_go_on_starts_nothing_and_outlives_the_supervisor(runs: Path) -> None:
    chain = submit(runs, then=("retrain",))
    (other,) = submit(runs)
    first = supervisor_of(runs)
    first.tick()
    queueing.pause(runs)
    assert requests.status(runs, chain[0]).status == "running"
    finish(runs, chain[0])
    tick_until(first, chain[0], "finished")
    successor = supervisor_of(runs)
    successor.tick()
    assert [requests.status(runs, one).status for one in (chain[1], other)] == ["queued", "queued"]
    assert causes(runs) == dict.fromkeys((chain[1], other), "The queue is paused.")
    assert requests.status(runs, other).cause == "the queue is paused."
    queueing.go_on(runs)
    assert causes(runs)[chain[1]] == "Starts in a moment."
    tick_until(successor, chain[1], "running")


def test_a_pause_after_the_begun_chains_starts_only_their_followers(runs: Path) -> None:
    chain, other = submit(runs, then=("retrain",)), submit(runs, then=("retrain",))
    supervisor = supervisor_of(runs)
    supervisor.tick()
    assert list(queueing.pause(runs, after_chains=True).exempt) == [chain[1]]
    finish(runs, chain[0])
    tick_until(supervisor, chain[1], "running")
    finish(runs, chain[1])
    tick_until(supervisor, chain[1], "finished")
    assert requests.status(runs, other[0]).status == "queued"
    assert causes(runs)[other[0]] == "The queue pauses after the chains that have begun."


def test_the_order_is_obeyed_at_once_and_later_launches_come_last(runs: Path) -> None:
    first, second, third = (submit(runs)[0] for _ in range(3))
    assert queueing.move(runs, third, "first") == [third, first, second]
    assert queueing.move(runs, second, before=first) == [third, second, first]
    (late,) = submit(runs)
    assert [one.id for one in queueing.view(runs).waiting] == [third, second, first, late]
    supervisor = supervisor_of(runs)
    supervisor.tick()
    assert list(supervisor.workers) == [third]
    assert (read_json(runs / "queue.json") or {})["order"] == [second, first, late]
    with pytest.raises(RunError, match="Only a waiting run has a place in the queue"):
        queueing.move(runs, third, "last")


def test_slots_are_obeyed_and_why_a_run_waits_is_told(runs: Path) -> None:
    ids = [submit(runs)[0] for _ in range(3)]
    supervisor = supervisor_of(runs)
    supervisor.tick()
    assert causes(runs) == dict.fromkeys(ids[1:], "The CPU slot is taken.")
    queueing.set_slots(runs, cpu=2)
    supervisor.tick()
    assert list(supervisor.workers) == ids[:2] and causes(runs) == {ids[2]: "All 2 CPU slots are taken."}
    assert (queueing.view(runs).cpu_slots, [one.id for one in queueing.view(runs).running]) == (2, ids[:2])
    with pytest.raises(ConfigError, match="cpu must be a whole number from 1 to 256, got 0"):
        queueing.set_slots(runs, cpu=0)


def test_the_queue_counts_the_slots_that_single_thread_runs_of_studies_share(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page and the command give the number of slots that the supervisor uses, so no more are in use than there are."""
    monkeypatch.setattr(device, "cores", lambda: 2)
    ids = [requests.submit(runs, "search", {"threads": 1}, method="arnas", preset="smoke", study={"id": "space", "cell": "a"})[0]
           for _ in range(3)]
    assert queueing.view(runs).cpu_slots == 2
    supervisor = supervisor_of(runs)
    supervisor.tick()
    view = queueing.view(runs)
    assert (view.cpu_slots, len(view.running), causes(runs)) == (2, 2, {ids[2]: "All 2 CPU slots are taken."})
    finish(runs, ids[0])
    tick_until(supervisor, ids[2], "running")
    assert (queueing.view(runs).cpu_slots, len(queueing.view(runs).running)) == (2, 2)  # none waits any more
    finish(runs, ids[1])
    tick_until(supervisor, ids[1], "finished")
    queueing.set_slots(runs, cpu=1)
    assert queueing.view(runs).cpu_slots == 1


def test_a_nearly_full_disk_holds_the_queue(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run_id,) = submit(runs)
    supervisor = supervisor_of(runs)
    monkeypatch.setattr("engine.run.supervisor.free_bytes", lambda path: 12 * 2**20)
    supervisor.tick()
    assert causes(runs) == {run_id: "The disk has only 12 MB free. Runs start when it has 200 MB."}
    monkeypatch.undo()
    supervisor.tick()
    assert list(supervisor.workers) == [run_id]


def test_followers_of_a_failed_run_are_told_what_to_do(runs: Path) -> None:
    chain = submit(runs, then=("retrain",))
    supervisor = Supervisor(runs, launcher=ScriptLauncher({"search": "raise SystemExit(1)"}))
    tick_until(supervisor, chain[0], "failed")
    assert causes(runs) == {chain[1]: "Its search failed. Resume that one first."}
    supervisor.tick()
    assert (read_json(runs / "queue.json") or {})["why"] == causes(runs)


def test_a_gpu_takes_as_many_runs_as_the_user_allows() -> None:
    two = Resources((Device("cpu"), Device("cuda:0"), Device("cuda:1")), threads=1)
    assert two.free_device("auto", ["cuda:0"], runs_per_gpu=2) == "cuda:1"
    assert two.free_device("auto", ["cuda:0", "cuda:1"], runs_per_gpu=2) == "cuda:0"
    assert two.free_device("auto", ["cuda:0", "cuda:1"]) is None
    assert two.free_device("cuda:1", ["cuda:1", "cuda:1"], runs_per_gpu=2) is None


def test_starts_are_expected_from_the_durations_of_finished_runs(runs: Path) -> None:
    done, running, *waiting = (submit(runs)[0] for _ in range(4))
    ended = time.time()
    for run_id, started in ((done, ended - 100), (running, ended)):
        atomic_write_json(RunFolder(runs, run_id).process_json, {
            "attempt": 1, "pid": os.getpid(), "boot_id": "another", "started": started, "device": "cpu", "threads": 1})
    atomic_write_json(RunFolder(runs, done).exit_json, {"attempt": 1, "status": "finished", "code": 0, "ended": ended})
    RunFolder(runs, running).heartbeat.touch()
    seen = queueing.view(runs)
    assert [one.left_s for one in seen.running] == [pytest.approx(100)]
    assert [one.starts_in_s for one in seen.waiting] == [pytest.approx(100), pytest.approx(200)]
    queueing.set_slots(runs, cpu=2)
    assert [one.starts_in_s for one in queueing.view(runs).waiting] == [0, pytest.approx(100)]
    queueing.pause(runs)
    assert [one.starts_in_s for one in queueing.view(runs).waiting] == [None, None]


def test_the_verb_changes_and_tells_the_queue(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (submit(runs)[0] for _ in range(2))

    def told(*words: str) -> dict:
        assert main(["queue", *words, "--runs", str(runs), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    assert told("move", second, "--first") == {"order": [second, first]}
    assert told("pause")["paused"] is True
    assert told("slots", "--cpu", "3")["slots"]["cpu"] == 3
    assert told("slots", "--cpu", "auto")["slots"]["cpu"] == 1
    listed = told()
    assert [one["id"] for one in listed["waiting"]] == [second, first] and listed["paused"]
    assert told("continue")["paused"] is False
    assert main(["queue", "pause", "--runs", str(runs)]) == 0
    assert capsys.readouterr().out == "The queue is paused. 0 runs running, 2 waiting. CPU: 1 slot.\n"
    assert main(["queue", "move", second, "--down", "--runs", str(runs)]) == 0
    assert capsys.readouterr().out == f"{second} is number 2 of 2 in the queue.\n"


@pytest.mark.parametrize(("words", "reason"), [
    (["move"], "Move needs the id of a waiting run"), (["pause", "--first"], "Place belongs to `queue move`, got `queue pause`"),
    (["slots", "--cpu", "two"], "--cpu must be a whole number or auto, got 'two'"), (["list", "--cpu", "2"], "`queue slots`"),
    (["move", "x", "--first"], "A run id looks like")])
def test_the_verb_refuses_nonsense(runs: Path, words: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["queue", *words, "--runs", str(runs)]) == 2
    assert reason in capsys.readouterr().err
