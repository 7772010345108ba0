"""The run log that all pages share, with a thread that reads new events and tells open pages which data have changed.

For every topic that an open page shows, the hub computes a signature: a short text that changes when the data of the topic
change. Topics, where <id> is the id of a run:
    loading: how many runs have been read since the server was started.
    runs: everything that a list of runs shows.
    robustness: results, checks and status of attack runs.
    run:<id>: events and status of all runs in the run's chain (a search with the runs that follow it).
    head:<id>: the same as run:<id>, but without progress, metrics, objectives, alphas and telemetry, which change all the time.
    training:<id>: curves and MGDA weights of the run.
    series:<id>: which curves and MGDA weights the run has, and whether it is over.
    architecture:<id>: alphas, genotypes and candidates of the run.
    epochs:<id>: candidates of the run, its newest epoch with alphas (for a run without alphas: its genotypes), and whether the
        run is over.
    log:<id>: log.txt and alerts of the run.
    alerts: all alerts.
    alerts:<id>: alerts about the run, and problems found in its files.
    images:<id>: the stored images of the run, and whether it is over.
    system:<id>: measurements of the run's machine.
    machine:<id>: whether the run is over, whether its machine has been measured, and its GPUs.
    queue: the queue, and status and progress of all runs.
    launch:<key>:<threads>: nothing that changes. While a page shows it, the supervisor expects a launch and keeps a worker ready.
        Only pages of users who may launch know the key (`Hub.launch_topic`).
    studies: everything that the list of studies shows.
    study:<id>: cells, requests and progress of the study with this id.

Charts and texts of a run that is active change without a rerun of the page: the hub draws them again and sends what has changed
(`live_values`).

While no page is open, the thread slows down: every 30 seconds, it reads new events and checks whether a supervisor is needed.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import logging
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType

from app.alerts import Alerts
from app.live_values import LiveValues
from app.studies import Studies
from engine import queueing, requests
from engine.errors import RampartError
from engine.log import RunLog
from engine.log.ingest import stamp_of
from engine.log.schema import EVENTS
from engine.run.folder import run_ids
from engine.run.folder_watch import FolderWatch
from engine.run.state import RunState

# Seconds from the beginning of a check of the runs folder to that of the next, while pages are open and while no page is open.
# More frequent checks would cost the browser most: it may share its cores with the search that it shows. A check that takes long
# is followed by a pause of at least its own processor time.
OPEN_S, ALONE_S = 1.85, 30.0
EAGER_S, SOON_S = 10.0, 0.2  # the same for some time after a reader's action, because readers wait for its effect
LONG_READING_S = 3.0  # a reading that takes longer than this has read the runs themselves, not only their index
RELEASE_S = 20.0  # shortest time between two releases of memory
FRESH_S = 2.0  # a page drawn more than this long after the last check triggers another check
LIST_S = 3.0  # shortest time between two changes of a list of runs that show only progress
SUPERVISOR_S = 5.0
EXPECT_S = 20.0  # a supervisor is told so often that a launch is expected
BATCH_RUNS, BATCH_BYTES = 40, 4 << 20  # the first reading stores this many runs or bytes at a time
ACTIVE = ("running", "stopping")

TRAINING = ("metric", "objective", "candidate", "resumed")
CANDIDATES = ("candidate", "resumed")
FOUND = ("genotype", *CANDIDATES)
ARCHITECTURE = ("alpha", *FOUND)
NOTES = ("alert", "faults", "folder")
RESULTS = ("folder", "attack", "attack_check", "evaluation", "sweep", "critical", "certified", "verdict", "opened", "network")
MACHINE = ("telemetry", "gpu")
PROGRESS = ("progress", "accuracy", "metric", "alpha", "objective", *MACHINE)  # a list of runs may show changes of these late
SETTLED = tuple(name for name in EVENTS if name not in PROGRESS)
_LOGGER = logging.getLogger(__name__)


@dataclass(eq=False)
class OpenPage:
    """A page that is open in a browser.

    Attributes:
        send: function that sends a text to the page.
        topics: topics (names of data, such as "run:<id>") that the page shows.
        told: {topic: the signature that was sent last}. A signature is a text that changes when the data of the topic change.
        values: {name of a live value on the screen: hash of the version that the page shows}.
    """

    send: Callable[[str], None]
    topics: tuple[str, ...] = ()
    told: dict[str, str] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)


class Hub:
    """The run log of one runs folder, with the thread that keeps it up to date for open pages.

    Attributes:
        name: a random name, which only pages of this dashboard know. It is part of the address of their WebSocket.
        root: the runs folder.
        log: the run log.
        studies: the studies of the runs folder.
        alerts: the alerts of the runs folder.
        values: charts and texts of active runs, which open pages show.
        launch_topic: the topic launch:<key>:<threads> without the number of threads.
        loading: (number of runs that have been read, number of all runs) while all runs are read for the first time, then None.
        looks: number of times that the hub has checked the runs folder for changes.
    """

    def __init__(self, root: Path, prepare: Callable[[], None] = lambda: None) -> None:
        """Open the run log of a runs folder, and start to read it.

        Args:
            root: the runs folder.
            prepare: computes in advance what pages show first; called once, after all runs have been read.
        """
        root.mkdir(parents=True, exist_ok=True)
        self.name, self.launch_topic = uuid.uuid4().hex, f"launch:{uuid.uuid4().hex}:"
        self.root = root
        self.log = RunLog.open(root)
        self.studies = Studies(self.log)
        self.alerts = Alerts(self.log)
        self.values = LiveValues()
        self.loading: tuple[int, int] | None = (0, len(run_ids(root)))
        self._created = time.monotonic()
        self._loaded = threading.Event()
        self._lock, self._telling = threading.RLock(), threading.Lock()
        self._files = FolderWatch(root)
        self._prepare = prepare
        self._pages: set[OpenPage] = set()
        self._visited = self._released = time.monotonic()  # times of the last visit and of the last release of memory
        self._active: dict[str, tuple[object, ...]] = {}
        self._stamps: object = None
        self._unread: set[str] = set()  # runs that have changed and could not be read yet
        self._states = 0  # number of status changes so far, of all runs
        self._listed = (0.0, 0)
        self.looks = 0
        self._looked = self._changed = self._eager_until = 0.0
        self._supervised: tuple[float, int, bool] = (0.0, -1, True)
        self._expected = (0, -EXPECT_S)  # the last expected number of threads, and when the supervisor was told
        self._wake, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="rampart-ingest", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread. Call this before the interpreter exits."""
        self._over.set()
        self._wake.set()
        self._thread.join(timeout=5)

    # Pages ---------------------------------------------------------------------------------------------------------

    def connect(self, send: Callable[[str], None]) -> OpenPage:
        """Register a page that has been opened. The hub sends a text to the page by calling `send`."""
        page = OpenPage(send)
        self._pages.add(page)
        self._visited = time.monotonic()
        return page

    def show(self, page: OpenPage, topics: Collection[str], values: Mapping[str, str] = MappingProxyType({})) -> None:
        """Record the topics and values that a page shows. A hidden page shows none. Topics that do not exist are left out.

        Args:
            page: the page.
            topics: topics of the data on the page, for example "run:<id>".
            values: {name of a live value on the screen: hash of the version that the page shows}.
        """
        page.topics = tuple(topic for topic in topics if topic.partition(":")[0] in self._facts)
        page.told, page.values = {}, dict(values)
        self._wake.set()

    def leave(self, page: OpenPage) -> None:
        """Forget a page that has been closed."""
        self._visited = time.monotonic()
        self._pages.discard(page)

    def wait(self, seconds: float) -> bool:
        """Wait until all runs have been read once, or the hub is `seconds` seconds old. Return True if all have been read."""
        return self._loaded.wait(max(0.0, self._created + seconds - time.monotonic()))

    def signature(self, topic: str) -> str:
        """Return a short text that changes when the data of a topic change, such as "runs" or "run:<id>".

        Call this before a panel queries the data of the topic. If the data change during the queries, the signature changes at
        the next check for changes, and the panel is drawn again.
        """
        kind, _, about = topic.partition(":")
        return hashlib.sha1(repr(self._facts[kind](about)).encode()).hexdigest()[:12]

    @property
    def _facts(self) -> dict[str, Callable[[str], object]]:
        return {"loading": lambda _: self.loading, "runs": lambda _: self._list_facts(), "run": self._chain_facts,
                "head": partial(self._chain_facts, tables=SETTLED),
                "series": lambda run: (self.log.state(run).is_over, self.log.series(run)),
                "robustness": lambda _: (self.log.revision(RESULTS), self._states), "log": self._log_facts,
                "training": lambda run: self.log.revision(TRAINING, run),
                "architecture": lambda run: self.log.revision(ARCHITECTURE, run),
                "epochs": self._epoch_facts, "machine": self._machine_facts,
                "alerts": self._alert_facts,
                "images": self._image_facts, "system": lambda run: self.log.revision(MACHINE, run),
                "launch": lambda _: None, "queue": lambda _: (queueing.stamp(self.root), self._list_facts()),
                "studies": lambda _: self.studies.facts(), "study": self.studies.facts}

    def _list_facts(self) -> object:
        """Return values that change with the list of runs.

        They change at once when a run starts, ends or has a result, and every few seconds with the progress of the runs.
        """
        at, progress = self._listed
        if time.monotonic() - at > LIST_S:
            progress = self.log.revision(PROGRESS)
            self._listed = (time.monotonic(), progress)
        return self._states, progress, self.log.revision(SETTLED)

    def _chain_facts(self, run: str, tables: Collection[str] = EVENTS) -> object:
        return [(one, self.log.revision(tables, one), _outline(self.log.state(one))) for one in self.log.family(run)]

    def _epoch_facts(self, run: str) -> object:
        epoch = self.log.alpha_epoch(run)
        return self.log.state(run).is_over, epoch, self.log.revision(FOUND if epoch is None else CANDIDATES, run)

    def _alert_facts(self, run: str) -> object:
        alerts = None if self.loading else self.alerts.facts(run)  # the rules take half a second for hundreds of new runs
        return alerts, self.log.revision(NOTES, run) if run else 0

    def _image_facts(self, run: str) -> object:
        return self.log.state(run).is_over, stamp_of(self.root / run / "results" / "samples.parquet")

    def _machine_facts(self, run: str) -> object:
        gpus = tuple(self.log.gpu_telemetry(run, 1)["device"])
        return self.log.state(run).is_over, self.log.telemetry(run, 1).empty, gpus

    def _log_facts(self, run: str) -> object:
        try:
            log = os.stat(self.root / run / "log.txt")
            return self.log.revision(NOTES, run), log.st_size, log.st_mtime_ns
        except OSError:
            return self.log.revision(NOTES, run)

    # Reading -------------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Update the run log with everything that has changed, and tell the open pages. Call this after an action of the user."""
        with self._lock:
            self.log.ingest()
            self.studies.refresh()
            self._look(everything=True)
        self._eager_until = time.monotonic() + EAGER_S
        self._tell()

    def release_memory(self) -> None:
        """Return memory to the system, every `RELEASE_S` seconds in which a page was open or drawn.

        DuckDB drops what its queries have left, and the C library what has been freed between blocks in use.
        """
        now = time.monotonic()
        if now - self._released > RELEASE_S and (self._pages or self._visited >= self._released):
            self._released = now
            self.log.checkpoint()  # DuckDB can drop only what is in the file
            self.log.release_memory()
            if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # only the C library of GNU has it
                trim(0)

    def keep_fresh(self) -> None:
        """Check for changes if the last check was more than `FRESH_S` seconds ago, and release memory if it is time to do so.

        A page calls this before it is drawn. Do nothing until all runs have been read once.
        """
        self._visited = time.monotonic()
        if self._loaded.is_set() and time.monotonic() - self._looked > FRESH_S:
            with self._lock:
                self._look(everything=True)
                self.release_memory()

    def _load(self) -> None:
        """Read all runs, newest first, in small batches, so that pages can show the runs that have been read so far."""
        names = run_ids(self.root)[::-1]
        batch: list[str] = []
        size = 0
        for done, name in enumerate(names, 1):
            batch.append(name)
            size += _size(self.root / name / "events.jsonl")
            if len(batch) >= BATCH_RUNS or size >= BATCH_BYTES or done == len(names):
                self.log.ingest(batch)
                batch, size, self.loading = [], 0, (done, len(names))
                self._tell()
                if self._over.wait(0.001):  # lets a page read the run that it shows
                    return
        self.refresh()  # removes runs that no longer exist, and adds new ones
        self.log.checkpoint()
        # After a long reading, nobody notices another second. A page that competes with this would take two.
        if was_long := time.monotonic() - self._created > LONG_READING_S:
            self.log.release_memory()  # 20 MB of the rows just written, with 1,000 runs
            self._guarded(self._compute_ahead)
        self.loading = None
        self._loaded.set()
        self._tell()
        if not was_long:
            self._guarded(self._compute_ahead)

    def _compute_ahead(self) -> None:
        """Compute what the first visitor would wait for: alerts, durations for the Launch page, answers of studies, and more."""
        self.alerts.now()
        self.studies.durations()
        self.studies.all()
        self._prepare()

    def _look(self, *, everything: bool = False) -> bool:
        """Read the runs that have changed. Return True if anything that a page can show has changed.

        The caller holds the lock.
        """
        self.looks, self._looked = self.looks + 1, time.monotonic()
        self._unread |= self._files.look({*self._active, *self._shown_runs()}, everything=everything)
        if changed := set(self._unread):
            self.log.ingest(changed)  # after an error, for example on a full disk, the next look reads them
            self._unread -= changed
            self.studies.refresh()
        asked = {*self._active, *changed}
        states = {run: self.log.state(run) for run in asked}
        now = {run: _outline(state) for run, state in states.items() if state.status in ACTIVE}
        news = now != self._active or any(run not in now for run in changed)
        self._states += news
        self._active = now
        stamps = (self.studies.stamps() if self._shows("stud") else None,
                  queueing.stamp(self.root) if self._shows("queue") else None)
        news, self._stamps = news or stamps != self._stamps, stamps
        if changed:
            self._changed = self._looked
        return news or self._looked - self._changed < LIST_S + OPEN_S  # a list of runs shows progress up to LIST_S later

    def _shown_runs(self) -> set[str]:
        return {topic.partition(":")[2] for page in list(self._pages) for topic in page.topics
                if not topic.startswith(("stud", "launch"))}

    def _shows(self, beginning: str) -> bool:
        return any(topic.startswith(beginning) for page in list(self._pages) for topic in page.topics)

    def _tell(self) -> None:
        """Send every open page what has changed: signatures of its topics, and live values on its screen.

        Pages are served one after the other, so that the first need not wait until the values of all pages are drawn.
        """
        with self._telling:  # a user's action tells from its own thread
            self._tell_pages(cache(self.signature))

    def _tell_pages(self, signature: Callable[[str], str]) -> None:
        for page in list(self._pages):
            for redraw in self.values.due(list(page.values), signature):
                self._guarded(redraw)
            news = {topic: signature(topic) for topic in page.topics if page.told.get(topic) != signature(topic)}
            page.told = page.told | news
            values = self.values.news(page.values)
            if news or values:
                page.send(json.dumps({"signatures": news, "values": values}))
        self.values.forget_replaced()

    def _work(self) -> None:
        """Read all runs, then check for changes again and again, until the hub is closed or the runs folder no longer exists."""
        self._guarded(self._load)
        pause = ALONE_S if self.loading is None else OPEN_S  # the first look reads what an error kept from being read
        self.loading = None
        self._loaded.set()
        while self.root.is_dir():
            woken = self._wake.wait(pause)
            if self._over.is_set():
                return
            self._wake.clear()
            started, cpu = time.monotonic(), time.thread_time()
            self._guarded(partial(self._turn, woken))
            pause = max(self._interval() - (time.monotonic() - started), time.thread_time() - cpu)

    def _interval(self) -> float:
        """Return the seconds from the beginning of a check to that of the next."""
        if not any(page.topics for page in list(self._pages)):
            return ALONE_S
        return SOON_S if time.monotonic() < self._eager_until else OPEN_S

    def _turn(self, woken: bool) -> None:
        with self._lock:
            news = self._look(everything=self._interval() == ALONE_S)
            self._keep_supervisor()
            self._guarded(self._expect_launch)
        self.alerts.work()
        if news or woken:
            self._tell()
        self.release_memory()

    def _guarded(self, action: Callable[[], None]) -> None:
        """Call `action`, and log any error. An error that ended the thread would stop the updates of all pages."""
        try:
            action()
        except (RampartError, OSError) as error:
            _LOGGER.warning("The run log was not refreshed: %s", error)
        except Exception:  # noqa: BLE001 - see above
            _LOGGER.exception("The run log was not refreshed")

    def _keep_supervisor(self) -> None:
        """Start a supervisor if runs or studies need one and none is alive, for example because the last one was killed.

        The supervisor is the process that starts queued runs and launches the runs of studies.
        """
        at, states, needed = self._supervised
        if time.monotonic() - at < SUPERVISOR_S or (states == self._states and not needed):
            return
        needed = self.log.waits_for_supervisor() or self.studies.is_active()
        self._supervised = (time.monotonic(), self._states, needed)
        if needed:
            requests.ensure_supervisor(self.root)

    def _expect_launch(self) -> None:
        """Tell the supervisor that a launch is expected, as long as a page shows `launch_topic`."""
        now, (threads, at) = time.monotonic(), self._expected
        shown = [int(topic.rpartition(":")[2]) for page in list(self._pages) for topic in page.topics
                 if re.fullmatch(rf"{self.launch_topic}[0-9]{{1,3}}", topic)]
        if shown and (max(shown) != threads or now - at > EXPECT_S):
            self._expected = max(shown), now
            requests.expect_launch(self.root, max(shown))
            requests.ensure_supervisor(self.root)


def _outline(state: RunState) -> tuple[object, ...]:
    """Return the parts of a run's state that pages show: status, cause, attempt, and whole minutes without an event."""
    silent = silence_minutes(state.silent_s) if state.status in ACTIVE else 0
    return state.status, state.cause, state.attempt, silent


def silence_minutes(silent_s: float | None) -> int:
    """Return the whole minutes of `silent_s`, the seconds since a run's last event. Return 0 if `silent_s` is None."""
    return int(silent_s // 60) if silent_s is not None and silent_s >= 60 else 0


def _size(path: Path) -> int:
    """Return the size of a file in bytes; 0 if it does not exist."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
