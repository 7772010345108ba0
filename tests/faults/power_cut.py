"""Cut the power of real runs on a file system of their own, resume them, and compare them with uninterrupted runs.

    python -m tests.faults.power_cut               # 20 cuts; about ten minutes; root on Linux
    python -m tests.faults.power_cut --cuts 6 --seed 3

The runs folder is on an ext4 file system in a file. A cut is the ioctl `EXT4_IOC_SHUTDOWN` without a flush of the journal:
nothing reaches the disk after it, and what was not flushed before is lost. The file system is then mounted again, as after a
restart of the machine. Every run is cut twice at random moments and a third time as soon as it has finished.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from engine import requests
from engine.log.runlog import RunLog
from engine.run.folder import read_json
from tests.engine.run.processes import events_of, processes_of, until, until_status
from tests.engine.run.test_resume import CHANGES, same
from tests.faults.comparison import results_once

SHUTDOWN, WITHOUT_FLUSH = 0x8004587D, 2  # _IOR('X', 125, __u32), EXT4_GOING_FLAGS_NOLOGFLUSH
SIZE_BYTES = 2 << 30  # sparse
KINDS = ("search", "retrain", "attack")
CUTS_PER_RUN = 3
LONGEST_WAIT_S = 6.0
METRICS = "select run, split, name, step, value from metric join folder using (number) order by all"


class Disk:
    """An ext4 file system in a file, whose power can be cut."""

    def __init__(self, place: Path) -> None:
        """Create the file system below the folder `place` and mount it.

        Raises:
            OSError, subprocess.CalledProcessError: this needs root and Linux with ext4 and loop devices.
        """
        self.image, self.root = place / "disk.img", place / "disk"
        self.root.mkdir()
        with self.image.open("wb") as file:
            file.truncate(SIZE_BYTES)
        _command("mkfs.ext4", "-q", str(self.image))
        self.mount()

    def mount(self) -> None:
        """Mount the file system. After a cut, this replays its journal."""
        _command("mount", "-o", "loop", str(self.image), str(self.root))

    def unmount(self) -> None:
        """Unmount the file system as soon as no process uses it."""
        def done() -> bool:
            with suppress(subprocess.CalledProcessError):
                _command("umount", str(self.root))
            return not os.path.ismount(self.root)

        until(done, "the disk is free", every_s=0.2)

    def cut(self) -> None:
        """Cut the power: no write reaches the disk any more."""
        descriptor = os.open(self.root, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", WITHOUT_FLUSH))
        finally:
            os.close(descriptor)


def _command(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


@contextmanager
def disk() -> Iterator[Disk]:
    """Yield a disk in a temporary folder. Unmount it at the end."""
    with tempfile.TemporaryDirectory() as folder:
        found = Disk(Path(folder))
        try:
            yield found
        finally:
            with suppress(subprocess.CalledProcessError):
                _command("umount", "-l", str(found.root))


def why_not() -> str:
    """Return why this machine cannot cut the power of a file system, as a sentence; "" if it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "Cutting the power of a file system needs root on Linux."
    try:
        with disk() as found:
            found.cut()
    except (OSError, subprocess.CalledProcessError) as problem:
        return f"This machine cannot mount an ext4 file system and cut its power ({problem})."
    return ""


def whole_chain(runs: Path) -> dict[str, str]:
    """Run an uninterrupted search, retraining and attack. Return {kind: run id}."""
    ids: dict[str, str] = {}
    for kind in KINDS:
        ids[kind] = submit(runs, kind, ids)
        until_status(runs, ids[kind], "finished")
    return ids


def submit(runs: Path, kind: str, ids: dict[str, str]) -> str:
    """Launch a run that is the same in every folder. Its parent is the run of the previous kind in `ids`."""
    parent = {"search": None, "retrain": "search", "attack": "retrain"}[kind]
    (run_id,) = requests.submit(runs, kind, CHANGES[kind] | {"threads": 1}, method="arnas" if kind == "search" else None,
                                preset="smoke", parent=ids[parent] if parent else None)
    return run_id


def cut(of: Disk, runs: Path) -> None:
    """Cut the power, end all processes of the runs folder, and start the machine again: mount the disk."""
    records = [read_json(path) or {} for path in (runs / "control" / "supervisor.json", *runs.glob("*/process.json"))]
    of.cut()
    for record in records:
        with suppress(psutil.Error, KeyError):
            process = psutil.Process(int(record["pid"]))
            if abs(process.create_time() - record["create_time"]) < 3:
                os.kill(process.pid, signal.SIGKILL)
                process.wait(20)
    of.unmount()
    of.mount()


def index_of(runs: Path, *, in_memory: bool) -> list[tuple[Any, ...]]:
    """Return the metrics in the run log: in the index file that survives the cuts, or in a new index."""
    log = RunLog.open(runs, in_memory=in_memory)
    try:
        log.ingest()
        with log.cursor() as cursor:
            return cursor.execute(METRICS).fetchall()
    finally:
        log.close()


def wait_and_read(runs: Path, run_id: str, seconds: float) -> bool:
    """Wait until the run has started and then for some seconds, or until it has finished. Read the run log meanwhile.

    Return True if the run was still active then.
    """
    until(lambda: requests.status(runs, run_id).status != "queued", f"{run_id} has started")
    deadline = time.monotonic() + seconds
    while (active := not requests.status(runs, run_id).is_over) and time.monotonic() < deadline:
        time.sleep(0.1)
    index_of(runs, in_memory=False)
    return active


def run_with_cuts(of: Disk, runs: Path, kind: str, ids: dict[str, str], chance: random.Random) -> str:
    """Launch a run, cut its power twice at random moments, resume it each time, and cut once more at its end. Return its id."""
    run_id = submit(runs, kind, ids)
    for _ in range(CUTS_PER_RUN - 1):
        active = wait_and_read(runs, run_id, chance.uniform(0, LONGEST_WAIT_S))
        cut(of, runs)
        state = requests.status(runs, run_id)
        print(f"  {'cut while it ran' if active else 'cut after its end'}: {state.status}, attempt {state.attempt}", flush=True)
        if state.can_resume:
            requests.resume(runs, run_id)
        else:
            requests.ensure_supervisor(runs)
    until_status(runs, run_id, "finished")
    cut(of, runs)
    return run_id


def check(whole: Path, whole_id: str, runs: Path, run_id: str) -> None:
    """Assert that a run with cuts equals the uninterrupted run, and that the run log shows what is in its files."""
    state = requests.status(runs, run_id)
    assert state.status == "finished", state
    assert [event["text"] for event in events_of(runs, run_id, "alert")] == []
    same(results_once(whole, whole_id), results_once(runs, run_id))
    assert index_of(runs, in_memory=False) == index_of(runs, in_memory=True)


def prove(cuts: int, seed: int) -> int:
    """Make at least `cuts` cuts in runs of all kinds, check every run, and return the number of cuts.

    Raises:
        AssertionError: a run differs from the uninterrupted one.
    """
    chance, made = random.Random(seed), 0
    with tempfile.TemporaryDirectory() as folder, processes_of(Path(folder) / "runs") as whole, disk() as of:
        ids = whole_chain(whole)
        runs = of.root / "runs"
        shutil.copytree(whole, runs, ignore=shutil.ignore_patterns("control", "*.log", "index*", "queue.json"))
        _command("sync")
        with processes_of(runs):
            while made < cuts:
                kind = KINDS[made // CUTS_PER_RUN % len(KINDS)]
                print(f"{kind}:", flush=True)
                run_id = run_with_cuts(of, runs, kind, ids, chance)
                check(whole, ids[kind], runs, run_id)
                made += CUTS_PER_RUN
                print(f"  finished, equal to the uninterrupted run bit for bit ({made} cuts)", flush=True)
    return made


def main() -> None:
    """Parse the command line, cut the power and print the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cuts", type=int, default=20, help="least number of cuts")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random moments")
    options = parser.parse_args()
    if reason := why_not():
        sys.exit(reason)
    print(json.dumps({"cuts": prove(options.cuts, options.seed), "lost": 0}))


if __name__ == "__main__":
    main()
