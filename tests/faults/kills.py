"""Kill real workers, supervisors and dashboards at random moments, and compare the runs with uninterrupted ones.

Searches, retrainings and attacks run as a user starts them, while a dashboard shows them. At random moments one of the three
processes is killed with SIGKILL. A killed worker's run is resumed, a killed dashboard is started again, and a killed supervisor
comes back with the next request. Every run must finish and equal the uninterrupted one bit for bit, and the run log must show
what is in its files. `python -m benchmarks.faults` is the command.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import psutil

from benchmarks.page_client import Tab
from engine import requests
from engine.run.folder import read_json
from engine.run.state import ended_from_outside
from tests.browser.conftest import Dashboard, start_dashboard
from tests.engine.run.processes import processes_of, until
from tests.engine.run.test_resume import same
from tests.faults.comparison import results_once
from tests.faults.power_cut import KINDS, index_of, submit, whole_chain
from tests.faults.record import Record

VICTIMS = {"worker": 3, "supervisor": 1, "dashboard": 1}  # how often each is killed, in relation to the others
KILLS_PER_RUN = 5
LONGEST_WAIT_S = 7.0


class Page:
    """A dashboard that shows a run, and is started again after each kill."""

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self.server: Dashboard = start_dashboard(runs)

    def look_at(self, run_id: str) -> None:
        """Show the page of a run. The dashboard reads its events meanwhile."""
        with Tab(self.server.url, psutil.Process(self.server.process.pid)) as tab:
            drawn = tab.visit("run", f"id={run_id}")
            assert not drawn.problems, drawn.problems

    def kill(self) -> None:
        """Kill the dashboard and start it again."""
        self.close()
        self.server = start_dashboard(self._runs)

    def close(self) -> None:
        """Kill the dashboard."""
        with suppress(ProcessLookupError):
            os.killpg(self.server.process.pid, signal.SIGKILL)
        self.server.process.communicate()


@contextmanager
def page_of(runs: Path) -> Iterator[Page]:
    """Yield a dashboard over a runs folder. End it afterwards."""
    page = Page(runs)
    try:
        yield page
    finally:
        page.close()


def kill(victim: str, runs: Path, run_id: str, page: Page) -> bool:
    """Kill the worker of a run, the supervisor or the dashboard. Return False if there was none to kill."""
    if victim == "dashboard":
        page.kill()
        return True
    path = runs / "control" / "supervisor.json" if victim == "supervisor" else runs / run_id / "process.json"
    record = read_json(path) or {}
    with suppress(psutil.Error, KeyError):
        process = psutil.Process(int(record["pid"]))
        if abs(process.create_time() - record["create_time"]) < 3:
            os.kill(process.pid, signal.SIGKILL)
            until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, "it is gone", 30)
            return True
    return False


def carry_on(runs: Path, run_id: str) -> None:
    """Do what a user does after a kill: resume a failed run, and otherwise only have the supervisor looked for."""
    state = requests.status(runs, run_id)
    if state.can_resume:
        requests.resume(runs, run_id)
    else:
        requests.ensure_supervisor(runs)


def finish(runs: Path, run_id: str) -> None:
    """Wait until a run has finished. Resume it if a kill has ended it, which may show only now; any other failure is an error."""
    def is_finished() -> bool:
        state = requests.status(runs, run_id)
        if state.is_over and state.status != "finished":
            assert ended_from_outside(state.cause), state
            requests.resume(runs, run_id)
        return state.status == "finished"

    requests.ensure_supervisor(runs)
    until(is_finished, f"{run_id} has finished")


def run_with_kills(runs: Path, kind: str, ids: dict[str, str], chance: random.Random, page: Page) -> tuple[str, Counter[str]]:
    """Launch a run and kill processes at random moments until it has finished or has seen enough kills.

    Returns:
        The id of the run.
        {victim: number of kills}.
    """
    run_id, kills = submit(runs, kind, ids), Counter[str]()
    for _ in range(KILLS_PER_RUN):
        deadline = time.monotonic() + chance.uniform(0, LONGEST_WAIT_S)
        (victim,) = chance.choices(list(VICTIMS), list(VICTIMS.values()))
        while time.monotonic() < deadline and not requests.status(runs, run_id).is_over:
            time.sleep(0.05)
        if requests.status(runs, run_id).is_over and victim == "worker":
            break
        if kill(victim, runs, run_id, page):
            kills[victim] += 1
        carry_on(runs, run_id)
        if victim == "dashboard":
            page.look_at(run_id)
    finish(runs, run_id)
    return run_id, kills


def prove(kills: int, seed: int, record: Record) -> None:
    """Make at least `kills` kills in runs of all kinds, check every run, and record the numbers of kills by victim.

    A run is wrong if it differs from the uninterrupted one, or a page showed an error.
    """
    with (tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, processes_of(Path(folder) / "runs") as runs):
        ids = whole_chain(runs)
        whole = {kind: results_once(runs, ids[kind]) for kind in KINDS}

        def attempt() -> Counter[str]:
            run_id, made = run_with_kills(runs, kind, ids, random.Random(f"{seed} {number}"), page)
            page.look_at(run_id)
            same(whole[kind], results_once(runs, run_id))
            return made

        with page_of(runs) as page:
            for number in count():
                if record.counts("kills").total() >= kills:
                    break
                kind = KINDS[number % len(KINDS)]
                record.attempt("kills", f"seed {seed}, run {number}, {kind}", attempt)
        record.attempt("run log after kills", f"seed {seed}, {kills} kills", lambda: compare_logs(runs))


def compare_logs(runs: Path) -> Counter[str]:
    """Assert that the run log that processes were killed in holds what one that is read anew does."""
    assert index_of(runs, in_memory=False) == index_of(runs, in_memory=True)
    return Counter(["equal"])
