"""A supervisor on a full disk, with a run that it cannot read: it lives on, and is found again once there is space."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from engine.run.folder import read_json
from tests.engine.run.processes import until
from tests.sample_runs import write_finished_chain

Process = subprocess.Popen[bytes]


class Disk(NamedTuple):
    """A full disk: the runs folder on it, a function that prepares the process, and one that frees space."""

    runs: Path
    limit: Callable[[Process], object]
    free: Callable[[Process], object]


@pytest.fixture(params=["limit", "tmpfs"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    """A runs folder with a broken run, on a disk that is full: by a limit on the size of files, or really."""
    place = tmp_path / "disk"
    place.mkdir()
    if request.param == "limit":
        def allow(process: Process, size: int) -> None:
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

        yield Disk(_with_broken_run(place), lambda process: allow(process, 0),
                   lambda process: allow(process, resource.RLIM_INFINITY))
        return
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    try:
        runs, filler = _with_broken_run(place), place / "filler"
        with filler.open("wb") as file:
            while _fits(file.fileno()):
                pass
        yield Disk(runs, lambda process: None, lambda process: filler.unlink())
    finally:
        subprocess.run(["umount", str(place)], check=True)


def _fits(descriptor: int) -> bool:
    try:
        return os.write(descriptor, bytes(4096)) == 4096
    except OSError:
        return False


def _with_broken_run(place: Path) -> Path:
    runs = place / "runs"
    for one in write_finished_chain(runs)[:1]:
        (runs / one / "exit.json").unlink()
        (runs / one / "process.json").write_text('{"attempt": "\\ud800"}')
    (runs / "control").mkdir()
    (runs / "supervisor.log").touch()
    return runs


def test_a_supervisor_survives_a_full_disk_and_a_broken_run(disk: Disk) -> None:
    with (disk.runs / "supervisor.log").open("ab") as log:
        code = ("import sys; sys.stdin.buffer.read(1); from engine.background import main; "
                f"main(['--runs', {str(disk.runs)!r}, '--idle', '60'])")
        process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=log, stderr=log)
    try:
        disk.limit(process)
        assert process.stdin is not None
        process.stdin.write(b"g")
        process.stdin.close()
        until(lambda: (disk.runs / "control" / "supervisor.lock").exists(), "the supervisor has its lock")
        for _ in range(3):  # it goes on although it can write neither its record nor its log
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.4)
        assert read_json(disk.runs / "control" / "supervisor.json") is None
        disk.free(process)
        record = until(lambda: read_json(disk.runs / "control" / "supervisor.json"), "the supervisor can be found")
        assert record["pid"] == process.pid
        until(lambda: "attempt in process.json" in (disk.runs / "supervisor.log").read_text()
              or "surrogate" in (disk.runs / "supervisor.log").read_text(), "the reason is logged")
    finally:
        process.kill()
        process.wait()
