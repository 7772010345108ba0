"""The state that all pages and browser tabs of this server share: the run log, the thread that feeds it, and signatures.

Streamlit's resource cache holds one `Hub` per runs folder. Its thread ingests new events and computes a short signature of
every topic that a page watches; the signatures are written to one small static file. The browser fetches that file three
times a second (`components/live.py`) and reruns a panel only when its signature has changed, so an idle page does nothing at
all: no script run, no message, no touched DOM node.

Topics: "runs" (everything that a list of runs shows), and of one run "run:<id>" (events and status of its chain), "training:<id>"
(its curves and MGDA weights), "architecture:<id>" (its alphas, genotypes and candidates) and "log:<id>" (its log.txt and alerts).
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

from engine import requests
from engine.errors import RampartError
from engine.log import RunLog

STATIC = Path(__file__).parent / "static"
# Pause between two polls; longer if a poll takes long, so that polling never takes more than a fifth of a core.
PERIOD_S = 0.25
# Topics of pages that were left are still computed, so the least recently drawn one is dropped. A panel whose topic was
# dropped is redrawn by its browser, which watches the topic again.
MOST_TOPICS = 48
SUPERVISOR_CHECK_S = 5.0
_LOGGER = logging.getLogger(__name__)


def runs_root() -> Path:
    """Return the runs folder of this server: environment variable RAMPART_RUNS, else `runs` in the working folder."""
    return Path(requests.runs_root()).resolve()


def run_log() -> RunLog:
    """Return the run log, up to date to within a second. Any session may query it."""
    return hub().log


def hub() -> Hub:
    """Return the shared hub of this server's runs folder."""
    return _hub(str(runs_root()))


@st.cache_resource(show_spinner=False)
def _hub(root: str) -> Hub:
    return Hub(Path(root))


class Hub:
    """The run log of one runs folder and the thread that feeds it."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self.log = RunLog.open(root)
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
        """End the thread, which must not be inside DuckDB when the interpreter exits, and remove the signature file."""
        self._over.set()
        self._thread.join(timeout=5)
        self._file.unlink(missing_ok=True)

    @property
    def live_url(self) -> str:
        """Address of the signature file, relative to the page."""
        return f"app/static/{self._file.name}"

    def watch(self, topic: str) -> str:
        """Watch a topic and return its signature. Call this before the queries of a panel, so that the next poll notices
        any change between them and the drawing."""
        signature = self.signature(topic)
        with self._lock:
            new = self._topics.pop(topic, None) is None
            self._topics[topic] = signature  # last in the order: drawn most recently
            while len(self._topics) > MOST_TOPICS:
                del self._topics[next(iter(self._topics))]
        if new:
            self._publish()
        return signature

    def refresh(self) -> None:
        """Read all events that workers have appended since the last call."""
        self.log.ingest()

    def signature(self, topic: str) -> str:
        """Return a short text that changes whenever something that the topic's panels show has changed."""
        kind, _, run_id = topic.partition(":")
        facts = {"runs": lambda _: self._list_facts(), "run": self._run_facts, "log": self._log_facts,
                 "training": self._training_facts, "architecture": self._architecture_facts}[kind](run_id)
        return hashlib.sha1(repr(facts).encode()).hexdigest()[:12]

    def _run_facts(self, run_id: str) -> list[object]:
        """Return events, status and silence of every run of the chain."""
        rows = self.log.chain(run_id)
        return [(one, self.log.events_revision(one), self._silence(one, status))
                for one, status in zip(rows["id"], rows["status"], strict=True)]

    def _list_facts(self) -> list[object]:
        rows = self.log.runs()
        return [self.log.events_revision(), [silence_minutes(one) for one in rows["silent_s"]]]

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
        """Return the data of the curves and of MGDA's weights, which progress within a step does not change."""
        return self._while_revision(f"training:{run_id}", run_id, lambda: [
            content_hash(self.log.curves(run_id)), content_hash(self.log.share_at_vertex(run_id, 1_000_000))])

    def _architecture_facts(self, run_id: str) -> list[object]:
        """Return the data of heat map, lines and cells: newest weights of every cell kind, genotypes and candidates."""
        return self._while_revision(f"architecture:{run_id}", run_id, lambda: [
            content_hash(self.log.genotypes(run_id)), content_hash(self.log.candidates(run_id)),
            *(content_hash(self.log.alpha_matrix(run_id, cell)) for cell in self.log.alpha_cells(run_id))])

    def _while_revision(self, topic: str, run_id: str, compute: Callable[[], list[object]]) -> list[object]:
        """Return `compute()`, cached until the run has new events."""
        revision = self.log.events_revision(run_id)
        known = self._computed.get(topic)
        if known is None or known[0] != revision:
            known = self._computed[topic] = (revision, compute())
        return known[1]

    def _publish(self) -> None:
        """Write the signature file atomically, so that no reader sees half of it."""
        with self._lock:
            text = json.dumps(self._topics, sort_keys=True)
        part = self._file.with_suffix(".part")
        part.write_text(text, encoding="utf-8")
        part.replace(self._file)

    def _work(self) -> None:
        """Poll until the hub is closed or the runs folder is gone (the temporary folder of a test)."""
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
        """Restart a supervisor that was killed while runs wait for it, within seconds."""
        if time.monotonic() < self._next_check:
            return
        self._next_check = time.monotonic() + SUPERVISOR_CHECK_S
        rows = self.log.runs()
        # A queued run with a cause waits for its parent, not for a supervisor.
        if ((rows["status"] == "queued") & (rows["cause"].fillna("") == "")).any():
            requests.ensure_supervisor(self.root)

    def _poll(self) -> None:
        """Ingest new events, and publish the signatures if one of them has changed."""
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

    DuckDB's threads add up a mean in any order, so its last bits differ between queries (by 4e-16, measured).
    """
    return hash(tuple(pd.util.hash_pandas_object(frame.round(9), index=False)))


def silence_minutes(silent_s: float | None) -> int:
    """Return the silence of a live run in whole minutes, so that "no news for 4 min" needs no redraw every second."""
    return int(silent_s // 60) if silent_s is not None and silent_s >= 60 else 0


def prepare_static() -> None:
    """Write `plotly.min.js` from the installed wheel to the static folder, and remove old signature files of other servers."""
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
            continue  # another server has removed it


def _plotly_source_size() -> int:
    import plotly

    return (Path(plotly.__file__).parent / "package_data" / "plotly.min.js").stat().st_size


@st.cache_resource(show_spinner=False)
def static_ready() -> bool:
    """Run `prepare_static` once per server."""
    prepare_static()
    return True
