"""A run that a spare worker computes is like any other, and a spare that does not suit the run is not used."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from engine import requests
from engine.run import bell, device
from engine.run.folder import RunFolder, read_json
from engine.run.launchers import local
from engine.run.launchers.contract import Start
from engine.run.launchers.local import LocalLauncher, local_launcher
from engine.run.launchers.spare import Spare
from tests.engine.run.processes import events_of, processes_of, until, until_status, without_supervisor

THREADS = device.of_this_machine().threads
KEEP_ONE = ("from engine.run.launchers.local import LocalLauncher; import time; launcher = LocalLauncher(); "
            "launcher.expect(1); print(launcher._spare.process.pid, flush=True); time.sleep(600)")


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without a GPU and with enough memory."""
    monkeypatch.setenv(device.VARIABLE, "[]")
    monkeypatch.setattr(local, "SPARE_NEEDS_BYTES", 0)
    monkeypatch.setattr(local, "SPARE_ENDS_BYTES", 0)
    device.gpu_table.cache_clear()
    yield
    device.gpu_table.cache_clear()


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Path]:
    with processes_of(without_supervisor(tmp_path / "runs")) as folder:
        yield folder


@pytest.fixture
def launcher(runs: Path) -> Iterator[LocalLauncher]:
    """The launcher of this machine, with a spare."""
    launcher = local_launcher(runs, {})
    launcher.expect(0)
    yield launcher
    launcher.expect(None)


def spare_of(launcher: LocalLauncher) -> Spare:
    assert launcher._spare is not None
    return launcher._spare


def a_search(runs: Path) -> RunFolder:
    (run_id,) = requests.submit(runs, "search", {"threads": THREADS}, method="arnas", preset="smoke")
    return RunFolder(runs, run_id)


def is_over(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_run_computes_in_the_spare_and_finds_what_it_finds_in_a_process_of_its_own(runs: Path, launcher: LocalLauncher) -> None:
    spare, found = spare_of(launcher).process, []
    for expected in (True, False):
        folder = a_search(runs)
        attempt = launcher.start(folder, Start(1, "cpu", THREADS))
        assert attempt.child is not None and (attempt.child is spare) == expected
        assert read_json(folder.process_json)["pid"] == attempt.child.pid
        assert until(attempt.end, "the worker has ended").code == 0
        assert f"attempt 1 of {folder.id}: pid {attempt.child.pid}" in folder.log.read_text()
        assert read_json(folder.ended_json)["status"] == "finished"
        found.append(([event["alpha"] for event in events_of(runs, folder.id, "alpha")], read_json(folder.environment_json)))
    assert found[0] == found[1] and len(found[0][0]) > 3


def test_a_stop_request_and_a_kill_reach_a_worker_that_was_a_spare(runs: Path, launcher: LocalLauncher) -> None:
    folder, spare = a_search(runs), spare_of(launcher)
    attempt = launcher.start(folder, Start(1, "cpu", THREADS))
    requests.request_stop(runs, folder.id)
    assert attempt.child is spare.process
    assert until(attempt.end, "the worker has ended").code == 3
    launcher._next_look = 0.0
    launcher.expect(0)
    spare = spare_of(launcher)
    second = launcher.start(other := a_search(runs), Start(1, "cpu", THREADS))
    assert second.child is spare.process
    assert os.getpgid(second.child.pid) == second.child.pid
    until(lambda: other.log.read_text(), "it has begun")
    second.kill()
    assert until(second.end, "the worker has ended").code == -signal.SIGKILL


def kill(spare: Spare, request: pytest.FixtureRequest) -> None:
    os.kill(spare.process.pid, signal.SIGKILL)
    spare.process.wait()


def die_unseen(spare: Spare, request: pytest.FixtureRequest) -> None:
    kill(spare, request)
    request.getfixturevalue("monkeypatch").setattr(spare.process, "poll", lambda: None)


def install_a_package(spare: Spare, request: pytest.FixtureRequest) -> None:
    (Path(sys.path[-1]) / "a_new_package").mkdir()


def change_the_code(spare: Spare, request: pytest.FixtureRequest) -> None:
    source = Path(requests.__file__)
    before = source.stat()
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns + 2_000_000_000))
    request.addfinalizer(partial(os.utime, source, ns=(before.st_atime_ns, before.st_mtime_ns)))


@pytest.mark.parametrize("trouble", [kill, die_unseen, install_a_package, change_the_code])
def test_a_spare_that_has_died_or_has_older_code_is_not_used(
        runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest,
        trouble: Callable[[Spare, pytest.FixtureRequest], None]) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    monkeypatch.setattr(sys, "path", [*sys.path, str(packages)])
    launcher = LocalLauncher()
    launcher.expect(0)
    spare = spare_of(launcher)
    trouble(spare, request)
    attempt = launcher.start(a_search(runs), Start(1, "cpu", THREADS))
    monkeypatch.undo()
    assert attempt.child is not spare.process and spare.process.poll() is not None and launcher._spare is None
    assert until(attempt.end, "the worker has ended").code == 0


def test_a_spare_is_not_used_for_another_number_of_threads(runs: Path, launcher: LocalLauncher) -> None:
    """NumPy's library reads the number of threads when it is imported."""
    first = spare_of(launcher)
    launcher._next_look = 0.0
    launcher.expect(THREADS + 1)  # the user has changed the setting
    second = spare_of(launcher)
    assert first.process.poll() is not None and second.process.poll() is None
    attempt = launcher.start(a_search(runs), Start(1, "cpu", THREADS))
    assert attempt.child is not second.process and second.process.poll() is not None
    attempt.kill()


def test_a_spare_ends_with_the_process_that_keeps_it() -> None:
    keeper = subprocess.Popen([sys.executable, "-c", KEEP_ONE], stdout=subprocess.PIPE, text=True)
    spare = psutil.Process(int(keeper.stdout.readline()))
    keeper.kill()
    keeper.wait()
    until(lambda: is_over(spare), "the spare has ended")


def test_a_machine_with_gpus_keeps_no_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(device.VARIABLE, '[["A GPU", 8000000000]]')
    device.gpu_table.cache_clear()
    assert not LocalLauncher().expect(0)


def test_little_free_memory_ends_a_spare_and_starts_none(launcher: LocalLauncher, monkeypatch: pytest.MonkeyPatch) -> None:
    process = spare_of(launcher).process
    monkeypatch.setattr(local, "SPARE_NEEDS_BYTES", 1 << 60)
    monkeypatch.setattr(launcher, "_next_look", 0.0)
    assert launcher.expect(0) and process.poll() is None
    monkeypatch.setattr(local, "SPARE_ENDS_BYTES", 1 << 60)
    assert launcher.expect(0)  # it is looked at every few seconds only
    monkeypatch.setattr(launcher, "_next_look", 0.0)
    assert not launcher.expect(0) and process.poll() is not None


def test_a_spare_whose_import_fails_becomes_a_worker_that_imports_again(
        runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch cannot be imported twice in one process."""
    (tmp_path / "torch.py").write_text("import pathlib; pathlib.Path(__file__).unlink(); raise MemoryError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    launcher = LocalLauncher()
    launcher.expect(0)
    spare = spare_of(launcher).process
    until(lambda: not (tmp_path / "torch.py").exists(), "the import has failed")
    attempt = launcher.start(folder := a_search(runs), Start(1, "cpu", THREADS))
    assert attempt.child is spare and until(attempt.end, "the worker has ended").code == 0
    assert f"pid {spare.pid}" in folder.log.read_text()


def test_the_supervisor_keeps_a_spare_while_a_launch_is_expected_and_nothing_computes(tmp_path: Path) -> None:
    with processes_of(tmp_path / "runs") as runs:
        bell.expect_launch(runs, THREADS)
        requests.ensure_supervisor(runs)
        supervisor = psutil.Process(until(lambda: requests.supervisor_pid(runs), "a supervisor"))
        (spare,) = until(supervisor.children, "a spare")
        until(lambda: "engine.run.launchers.spare" in spare.cmdline(), "the process has become a spare")
        folder = a_search(runs)
        until_status(runs, folder.id, "finished")
        assert read_json(folder.process_json)["pid"] == spare.pid
        (another,) = until(lambda: [one for one in supervisor.children() if one.pid != spare.pid], "a spare for the next launch")
        long_ago = time.time() - bell.EXPECTED_S - 1
        os.utime(runs / "control" / "expected", (long_ago, long_ago))
        until(lambda: is_over(another), "nobody launches anything: the spare has ended")
        assert supervisor.is_running()
