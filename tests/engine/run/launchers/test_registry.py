"""The choice of a launcher is checked, remembered in the runs folder, and followed by the supervisor."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import queueing, requests
from engine.cli import main
from engine.doctor import doctor
from engine.errors import ConfigError, RunError
from engine.run.folder import RunFolder, read_json
from engine.run.launchers.contract import End
from engine.run.launchers.registry import LAUNCHERS, Choice, LauncherKind, LauncherSetting, choice_of, path_of, read_choice
from engine.run.supervisor import Supervisor
from tests.engine.run.processes import processes_of, without_supervisor
from tests.engine.run.test_supervisor import FOREVER, ScriptLauncher, submit

ELSEWHERE = LauncherKind("Elsewhere", "Runs compute elsewhere.", "nowhere", "nothing", {
    "partition": LauncherSetting("", "where"), "gpus": LauncherSetting(1, "GPUs of a run", 0, 8),
    "cluster": LauncherSetting("far", "which", options=("far", "near"))}, package="no_such_package", extra="elsewhere")


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Path]:
    with processes_of(without_supervisor(tmp_path / "runs")) as folder:
        yield folder


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second launcher, whose package is not installed."""
    monkeypatch.setattr(LAUNCHERS, "_entries", dict(LAUNCHERS.items()) | {"elsewhere": ELSEWHERE})


def test_settings_are_checked_and_numbers_may_be_texts(elsewhere: None) -> None:
    given = choice_of("elsewhere", {"gpus": "4", "partition": "a100", "cluster": "far"})
    assert given.settings == (("partition", "a100"), ("gpus", 4))
    for wrong, said in (({"gpus": 9}, "gpus must be a whole number from 0 to 8, got 9"), ({"gpus": True}, "got True"),
                        ({"partition": "--wrap=x"}, "without - in front"), ({"partition": "a\nb"}, "printable"),
                        ({"cluster": "moon"}, "one of far, near"), ({"gpu": 1}, "Did you mean 'gpus'")):
        with pytest.raises(ConfigError, match=said):
            choice_of("elsewhere", wrong)
    with pytest.raises(ConfigError, match="There is no launcher"):
        choice_of("cloud", {})


def test_a_launcher_that_cannot_be_used_is_refused_and_the_queue_says_why(runs: Path, elsewhere: None,
                                                                          capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunError, match=r"needs the Python package no_such_package: pip install 'rampart-nas\[elsewhere\]'"):
        queueing.choose_launcher(runs, "elsewhere", {})
    assert not path_of(runs).exists()
    path_of(runs).write_text(json.dumps({"name": "elsewhere", "settings": {}}))  # as if it had been removed since
    (run_id,) = submit(runs)
    supervisor = Supervisor(runs)
    supervisor.tick()
    assert not supervisor.workers and "no_such_package" in (read_json(runs / "queue.json") or {})["why"][run_id]
    lacking = {name: kind.missing({}) or kind.unreachable({}) for name, kind in LAUNCHERS.items() if name != "elsewhere"}
    assert [(one.name, one.is_chosen, bool(one.missing)) for one in queueing.launchers(runs)] == [
        *((name, False, bool(why)) for name, why in lacking.items()), ("elsewhere", True, True)]
    assert [one.good for one in doctor(runs=runs) if one.subject == "launcher elsewhere"] == [False]
    assert main(["queue", "launcher", "elsewhere", "--runs", str(runs)]) == 2
    assert "no_such_package" in capsys.readouterr().err


def test_the_choice_is_remembered_and_keeps_its_other_settings(runs: Path, elsewhere: None,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queueing, "load", lambda choice, runs: None)
    queueing.choose_launcher(runs, "elsewhere", {"partition": "a100"})
    assert queueing.choose_launcher(runs, "elsewhere", {"gpus": "2"}) == read_choice(runs) == Choice(
        "elsewhere", (("partition", "a100"), ("gpus", 2)))
    queueing.choose_launcher(runs, "local", {})
    assert read_choice(runs) == Choice()


def test_a_damaged_choice_starts_nothing_and_says_what_to_do(runs: Path) -> None:
    (run_id,) = submit(runs)
    path_of(runs).write_text('{"name": 3}')
    supervisor = Supervisor(runs)
    supervisor.tick()
    assert not supervisor.workers and "rampart queue launcher NAME" in (read_json(runs / "queue.json") or {})["why"][run_id]
    path_of(runs).unlink()
    supervisor.tick()
    assert list(supervisor.workers) == [run_id]


def test_the_verb_lists_and_chooses(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["queue", "launcher", "local", "--json", "--runs", str(runs)]) == 0
    local = json.loads(capsys.readouterr().out)[0]
    assert (local["name"], local["is_chosen"], local["devices"][0]["name"]) == ("local", True, "cpu")
    for words, said in ((["launcher", "local", "--set", "x"], "must have the form NAME=VALUE"),
                        (["launcher", "--set", "a=b"], "--set needs the name of a launcher"), (["list", "x"], "belongs to")):
        assert main(["queue", *words, "--runs", str(runs)]) == 2
        assert said in capsys.readouterr().err


class ElusiveAttempt:
    """An attempt that waits, then computes, and is then lost."""

    def __init__(self) -> None:
        self.waiting, self.ended, self.kills = "Job 7 waits.", None, 0

    def waits(self) -> str:
        return self.waiting

    def end(self) -> End | None:
        return self.ended

    def kill(self) -> None:
        self.kills += 1
        self.ended = End(None, "Cancelled.")


class ElusiveLauncher(ScriptLauncher):
    """A launcher of attempts that the test moves on."""

    def start(self, folder, start):  # type: ignore[no-untyped-def]
        folder.write_json(folder.process_json, {"attempt": start.attempt, "device": "cpu", "threads": 1, "boot_id": "",
                                                "launcher": self.name, "waits": "Job 7 waits.", "started": 1.0})
        self.last = ElusiveAttempt()
        return self.last


def test_a_lost_run_waits_again_and_a_stopped_one_does_not(runs: Path) -> None:
    (run_id,) = submit(runs)
    folder, launcher = RunFolder(runs, run_id), ElusiveLauncher({"search": FOREVER})
    supervisor = Supervisor(runs, launcher=launcher)
    supervisor.tick()
    first = launcher.last
    first.waiting = ""
    supervisor.tick()
    assert "waits" not in (read_json(folder.process_json) or {})  # it has started
    first.ended = End(None, "The node was lost.", is_lost=True)
    supervisor.tick()
    ended = read_json(folder.exit_json) or {}
    assert (ended["attempt"], ended["status"], ended["cause"]) == (1, "failed", "The node was lost.")
    assert (read_json(folder.process_json) or {})["attempt"] == 2 and launcher.last is not first
    requests.request_stop(runs, run_id) if requests.status(runs, run_id).can_stop else folder.request("stop").touch()
    supervisor.tick()
    supervisor.tick()
    assert launcher.last.kills and requests.status(runs, run_id).cause == "Stopped before it started."
    assert not supervisor.workers and requests.status(runs, run_id).can_resume
