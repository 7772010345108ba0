"""The state that all pages and browser tabs of this server share: the run log, and signatures of the data that pages show.

Streamlit's resource cache holds one `Hub` per runs folder. The hub's thread does the following repeatedly:

* It reads new events into the run log.
* For every topic that an open page shows, it computes a signature: a short hash that changes when the data of the topic change.
* It writes all signatures to one small static file, the signature file.

The browser fetches the signature file three times a second (`components/live.py`). It reruns a panel only if the signature of the
panel's topic has changed.

Topics, where <id> is the id of a run:
    runs: everything that a list of runs shows.
    robustness: results, checks and status of attack runs.
    run:<id>: events and status of all runs in the run's chain (a search with the runs that follow it).
    training:<id>: curves and MGDA weights of the run.
    architecture:<id>: alphas, genotypes and candidates of the run.
    log:<id>: log.txt and alerts of the run.
    queue: the queue, and status and progress of all runs.
    studies: everything that the list of studies shows.
    study:<id>: cells, requests and progress of the study with this id.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import streamlit as st

from app.studies import Studies
from engine import queueing, requests
from engine.errors import RampartError
from engine.log import RunLog

STATIC = Path(__file__).parent / "static"
# Shortest pause between two polls. After a slow poll the pause is four times the poll's duration, so that polling takes at most
# a fifth of a core.
PERIOD_S = 0.25
# Maximum number of topics watched at once. A page that is closed does not unregister its topics, so beyond this number the least
# recently drawn topic is dropped. If a panel that is still open loses its topic, the browser redraws the panel, which
# registers the topic again.
MOST_TOPICS = 48
SUPERVISOR_CHECK_S = 5.0
_LOGGER = logging.getLogger(__name__)


def runs_root() -> Path:
    """Return the runs folder of this server: $RAMPART_RUNS, or `runs` in the working folder if that variable is unset."""
    return Path(requests.runs_root()).resolve()


def run_log() -> RunLog:
    """Return the run log. Its content is at most about a second old. All browser sessions may query it."""
    return hub().log


def hub() -> Hub:
    """Return the shared hub of this server's runs folder."""
    return _hub(str(runs_root()))


@st.cache_resource(show_spinner=False)
def _hub(root: str) -> Hub:
    return Hub(Path(root))


class Hub:
    """The run log of one runs folder, with a thread that reads new events and tells browsers which data have changed.

    The thread computes a signature (a short hash of the data) for every topic that an open page shows. Topics are the kinds of
    data listed in the module docstring. Browsers read the signatures from one small file.
    """

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self.log = RunLog.open(root)
        self.studies = Studies(self.log)
        self._lock = threading.Lock()
        self._topics: dict[str, str] = {}
        self._computed: dict[str, tuple[int, list[object]]] = {}
        self._file = STATIC / f"live-{uuid.uuid4().hex[:12]}.json"
        self._over = threading.Event()
        self._next_check = 0.0
        self.refresh()
        self._thread = threading.Thread(target=self._work, name="rampart-ingest", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def close(self) -> None:
        """End the thread that reads new events, and remove the signature file.

        Call this before the interpreter exits.
        """
        self._over.set()
        self._thread.join(timeout=5)
        self._file.unlink(missing_ok=True)

    @property
    def live_url(self) -> str:
        """Address of the signature file, relative to the page."""
        return f"app/static/{self._file.name}"

    def watch(self, topic: str) -> str:
        """Start watching a topic, and return its current signature (a hash that changes when the topic's data change).

        Call this before a panel queries the data of the topic. If the data change during the queries, the signature changes at
        the next poll, and the panel is redrawn.
        """
        signature = self.signature(topic)
        with self._lock:
            new = self._topics.pop(topic, None) is None
            self._topics[topic] = signature  # the end of the dict holds the most recently drawn topic
            while len(self._topics) > MOST_TOPICS:
                del self._topics[next(iter(self._topics))]
        if new:
            self._publish()
        return signature

    def refresh(self) -> None:
        """Update the run log with the events that runs have written since the last call."""
        self.log.ingest()
        self.studies.refresh()

    def signature(self, topic: str) -> str:
        """Return a short hash of the data of a topic, such as "runs" or "run:<id>". The hash changes when the data change."""
        kind, _, about = topic.partition(":")
        facts_of: dict[str, Callable[[str], list[object]]] = {
            "runs": lambda _: self._list_facts(), "robustness": lambda _: self._robustness_facts(), "run": self._run_facts,
            "log": self._log_facts, "training": self._training_facts, "architecture": self._architecture_facts,
            "queue": lambda _: [queueing.stamp(self.root), content_hash(self.log.runs()[["id", "status", "progress"]].round(2))],
            "studies": lambda _: self.studies.facts(), "study": self.studies.facts}
        return hashlib.sha1(repr(facts_of[kind](about)).encode()).hexdigest()[:12]

    def _run_facts(self, run_id: str) -> list[object]:
        """Return one tuple for every run in the chain of a run: (id, revision, whole minutes without an event).

        The revision is a number that changes whenever the run has a new event or a new status.
        """
        rows = self.log.chain(run_id)
        return [(one, self.log.events_revision(one), self._silence(one, status))
                for one, status in zip(rows["id"], rows["status"], strict=True)]

    def _list_facts(self) -> list[object]:
        rows = self.log.runs()
        return [self.log.events_revision(), [silence_minutes(one) for one in rows["silent_s"]]]

    def _robustness_facts(self) -> list[object]:
        """Return hashes of the results, reliability checks, accuracy curves and status of all attack runs.

        Events of other runs do not change the hashes.
        """
        runs = self.log.runs()
        return self._while_revision("robustness", None, lambda: [
            content_hash(self.log.evaluations().drop(columns="genotype")), content_hash(self.log.attacks()),
            content_hash(self.log.checks()), content_hash(self.log.sweeps()), content_hash(self.log.test_openings())]) + [
                content_hash(runs.loc[runs["kind"] == "attack", ["id", "status"]])]

    def _silence(self, run_id: str, status: str) -> int:
        return silence_minutes(requests.status(self.root, run_id).silent_s) if status in ("running", "stopping") else 0

    def _log_facts(self, run_id: str) -> list[object]:
        alerts = len(self.log.alerts(run_id))
        try:
            log = os.stat(self.root / run_id / "log.txt")
            return [alerts, log.st_size, log.st_mtime_ns]
        except OSError:
            return [alerts]

    def _training_facts(self, run_id: str) -> list[object]:
        """Return hashes of a run's curves and MGDA weights. Progress events within a step do not change the hashes."""
        return self._while_revision(f"training:{run_id}", run_id, lambda: [
            content_hash(self.log.curves(run_id)), content_hash(self.log.share_at_vertex(run_id, 1_000_000))])

    def _architecture_facts(self, run_id: str) -> list[object]:
        """Return hashes of a run's genotypes, of its candidates, and of the newest architecture weights of each cell kind."""
        return self._while_revision(f"architecture:{run_id}", run_id, lambda: [
            content_hash(self.log.genotypes(run_id)), content_hash(self.log.candidates(run_id)),
            *(content_hash(self.log.alpha_matrix(run_id, cell)) for cell in self.log.alpha_cells(run_id))])

    def _while_revision(self, topic: str, run_id: str | None, compute: Callable[[], list[object]]) -> list[object]:
        """Return the result of `compute`, cached under `topic` until the run has new events.

        If `run_id` is None, the result is cached until any run has new events.
        """
        revision = self.log.events_revision(run_id)
        known = self._computed.get(topic)
        if known is None or known[0] != revision:
            known = self._computed[topic] = (revision, compute())
        return known[1]

    def _publish(self) -> None:
        """Write the signature file, a JSON object {topic: hash of its data}. Browsers fetch it to learn which data have changed.

        The file is written atomically, so that no browser reads an incomplete file.
        """
        with self._lock:
            text = json.dumps(self._topics, sort_keys=True)
        part = self._file.with_suffix(".part")
        part.write_text(text, encoding="utf-8")
        part.replace(self._file)

    def _work(self) -> None:
        """Call `_poll` repeatedly, until the hub is closed or the runs folder no longer exists."""
        took = 0.0
        while not self._over.wait(max(PERIOD_S, 4 * took)) and self.root.is_dir():
            started = time.monotonic()
            try:
                self._poll()
            except (RampartError, OSError) as error:
                _LOGGER.warning("The run log was not refreshed: %s", error)
            except Exception:  # noqa: BLE001 - no page would ever update again if one poll could end the thread
                _LOGGER.exception("The run log was not refreshed")
            took = time.monotonic() - started

    def _keep_supervisor(self) -> None:
        """Start a new supervisor if runs are queued, or studies go on, and none is alive, for example because it was killed.

        The supervisor is the process that starts queued runs and launches the runs of studies. This method checks for it only
        every few seconds.
        """
        if time.monotonic() < self._next_check:
            return
        self._next_check = time.monotonic() + SUPERVISOR_CHECK_S
        rows = self.log.runs()
        # A queued run that has a cause waits for its parent run. A run without one waits for the supervisor.
        if ((rows["status"] == "queued") & (rows["cause"].fillna("") == "")).any() or self.studies.is_active():
            requests.ensure_supervisor(self.root)

    def _poll(self) -> None:
        """Read new events. If the data of any topic have changed, write the signatures of all topics to the signature file."""
        self.refresh()
        self._keep_supervisor()
        with self._lock:
            watched = list(self._topics)
        now = {topic: self.signature(topic) for topic in watched}
        with self._lock:
            changed = {topic: one for topic, one in now.items() if topic in self._topics and self._topics[topic] != one}
            self._topics.update(changed)
        if changed:
            self._publish()


def content_hash(frame: pd.DataFrame) -> int:
    """Return a hash of a table's values, rounded to nine decimals.

    Rounding is needed because DuckDB's threads sum the terms of a mean in varying order. The last bits of a mean therefore differ
    between queries.
    """
    return hash(tuple(pd.util.hash_pandas_object(frame.round(9), index=False)))


def silence_minutes(silent_s: float | None) -> int:
    """Return the whole minutes of `silent_s`, the seconds since a run's last event. Return 0 if `silent_s` is None."""
    return int(silent_s // 60) if silent_s is not None and silent_s >= 60 else 0


def prepare_static() -> None:
    """Copy `plotly.min.js` from the plotly package to the static folder, and delete signature files older than 7 days."""
    from plotly.offline import get_plotlyjs

    STATIC.mkdir(exist_ok=True)
    target = STATIC / "plotly.min.js"
    source = _plotly_source_size()
    if not target.exists() or target.stat().st_size != source:
        part = target.with_suffix(f".{uuid.uuid4().hex[:8]}.part")
        part.write_text(get_plotlyjs(), encoding="utf-8")
        part.replace(target)
    for stale in STATIC.glob("live-*"):
        try:
            if time.time() - stale.stat().st_mtime > 7 * 86_400:
                stale.unlink()
        except OSError:
            continue  # another server has already removed the file


def _plotly_source_size() -> int:
    import plotly

    return (Path(plotly.__file__).parent / "package_data" / "plotly.min.js").stat().st_size


@st.cache_resource(show_spinner=False)
def static_ready() -> bool:
    """Prepare the folder of static files (see `prepare_static`) on the first call on this server. Later calls do nothing."""
    prepare_static()
    return True
