"""The Jobs API of a Ray cluster, which a thread asks, so that a cluster that does not answer delays nobody.

The API is HTTP at the address of Ray's dashboard. `Cluster.follow` registers a job; the thread submits it if the cluster does not
know it, asks about it every few seconds, and stops it on request. Each `News` is what the cluster last said about a job.

A job's id is chosen before it is submitted, and the cluster takes an id once. So a job can be submitted again whenever it is not
clear whether the cluster has received it.

The token of a cluster with authentication is found as Ray finds it: $RAY_AUTH_MODE=token and $RAY_AUTH_TOKEN, the file
$RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token. Imports no torch, and no Ray.
"""

from __future__ import annotations

import http.client
import json
import os
import threading
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from engine.run.trouble import trouble_is_logged

TIMEOUT_S = 10.0  # of a request; submitting a job takes half a second
PROBE_S = 2.0  # of the question whether there is a cluster, for which a page waits
PROBE_AGAIN_S = 20.0
ASK_S = 5.0  # seconds between two questions about the same job
MOST_BYTES = 4_000_000  # of an answer
UNKNOWN, PENDING, RUNNING, STOPPED = "UNKNOWN", "PENDING", "RUNNING", "STOPPED"
CHOOSE = "rampart queue launcher ray --set address=http://HEAD:8265"
NO_ANSWER = "No Ray cluster answers at {} ({}). Start it, or choose another address: " + CHOOSE + "."
NEEDS_TOKEN = ("The cluster asks for a token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or ~/.ray/auth_token, for the process "
               "that starts Rampart.")
WRONG_TOKEN = "The cluster does not accept the token in RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token."


class RayError(Exception):
    """The cluster gave no answer, or another than expected. The message is a sentence.

    Attributes:
        code: HTTP status of the answer; 0 if there was none.
    """

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class _NoRedirect(HTTPRedirectHandler):
    """Follows no redirect, so that the token goes to no other address."""

    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass(frozen=True)
class News:
    """What the cluster last said about a job.

    Attributes:
        state: the cluster's word, such as "RUNNING"; `UNKNOWN` if it does not know the job or does not answer.
        error: kind of the failure, such as "JOB_SUPERVISOR_ACTOR_DIED"; "" if the job has not failed.
        message: what the cluster says about the failure.
        trouble: why the cluster could not be asked, as a sentence; "" if it has answered.
        at: time of the first answer with this state, in seconds of `time.monotonic`.
    """

    state: str = UNKNOWN
    error: str = ""
    message: str = ""
    trouble: str = ""
    at: float = 0.0


class Job:
    """A job that a `Cluster` follows.

    Attributes:
        id: id of the job.
        submission: what is submitted if the cluster does not know the job; None to submit nothing.
        is_unwanted: True to stop the job.
        news: what the cluster last said about the job.
    """

    def __init__(self, job_id: str, submission: dict[str, Any] | None) -> None:
        """Describe a job. See the class for the arguments."""
        self.id, self.submission = job_id, submission
        self.is_unwanted = False
        self.news = News()
        self.ask_at = 0.0
        self.is_settled = False  # nothing more is to be asked or done about it


class Cluster:
    """A Ray cluster."""

    def __init__(self, address: str) -> None:
        """Prepare to ask the cluster whose dashboard has the address, such as "http://head:8265"."""
        self.address = address.rstrip("/")
        self._lock = threading.Lock()
        self._due = threading.Condition(self._lock)
        self._jobs: list[Job] = []
        self._thread: threading.Thread | None = None

    def follow(self, job: Job) -> None:
        """Begin to ask about a job. The first answer comes later."""
        with self._due:
            self._jobs.append(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._ask_forever, name=f"Ray at {self.address}", daemon=True)
                self._thread.start()
            self._due.notify()

    def stop(self, job: Job) -> None:
        """Begin to stop a job, as soon as the cluster answers. A job that was not submitted will not be."""
        with self._due:
            if not job.is_unwanted:
                job.is_unwanted, job.submission, job.ask_at = True, None, 0.0
                self._due.notify()

    def leave(self, job: Job) -> None:
        """Ask no more about a job that has ended, except to stop it if that was wanted."""
        with self._due:
            job.is_settled = job.is_settled or not job.is_unwanted
            self._due.notify()

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
        """Return the answer to a request.

        Raises:
            RayError: the cluster does not answer, or refuses.
        """
        data = None if body is None else json.dumps(body).encode()
        request = Request(self.address + path, data, {"Content-Type": "application/json"} | authorization(), method=method)
        try:
            with build_opener(_NoRedirect).open(request, timeout=timeout_s) as answer:
                record = json.loads(answer.read(MOST_BYTES))
        except HTTPError as problem:
            raise _refused(problem) from None
        except (OSError, http.client.HTTPException) as problem:
            why = getattr(problem, "reason", problem)
            raise RayError(NO_ANSWER.format(self.address, str(why) or type(why).__name__)) from None
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise RayError(f"What answers at {self.address} is not the dashboard of a Ray cluster.")
        return record

    def _ask_forever(self) -> None:
        while True:
            with self._due:
                self._jobs = [job for job in self._jobs if not job.is_settled]
                if not self._jobs:
                    self._thread = None
                    return
                now = time.monotonic()
                due = [job for job in self._jobs if job.ask_at <= now]
                if not due:
                    self._due.wait(max(0.05, min(job.ask_at for job in self._jobs) - now))
                    continue
                for job in due:
                    job.ask_at = now + ASK_S
            trouble = ""
            for job in due:
                if trouble:  # a cluster that does not answer about one job is not asked about the others
                    self._note(job, News(trouble=trouble))
                    continue
                with trouble_is_logged(job.id):
                    try:
                        self._look_at(job)
                    except RayError as problem:
                        self._note(job, News(trouble=str(problem)))
                        trouble = "" if problem.code else str(problem)

    def _look_at(self, job: Job) -> None:
        """Ask about a job, submit it if the cluster does not know it, and stop it if it is unwanted.

        Raises:
            RayError: the cluster does not answer, or refuses.
        """
        path = f"/api/jobs/{job.id}"
        try:
            answer = self.ask("GET", path)
        except RayError as problem:
            if problem.code != 404:
                raise
            if job.is_unwanted:
                self._note(job, News(STOPPED))
                job.is_settled = True
            elif (submission := job.submission) is not None:
                self.ask("POST", "/api/jobs/", submission)
                self._note(job, News(PENDING))
            else:
                self._note(job, News())
            return
        state, error, message = (str(answer.get(name) or "") for name in ("status", "error_type", "message"))
        self._note(job, News(state, error, message))
        if job.is_unwanted:
            if job.news.state in (PENDING, RUNNING):
                self.ask("POST", f"{path}/stop")
            job.is_settled = job.news.state != RUNNING  # a job that waits stops when Ray starts it, which may be in hours

    def _note(self, job: Job, news: News) -> None:
        at = job.news.at if job.news.state == news.state else time.monotonic()
        job.news = News(news.state, news.error, news.message, news.trouble, at)


@cache
def cluster_at(address: str) -> Cluster:
    """Return the cluster at an address, the same one on every call."""
    return Cluster(address)


def authorization() -> dict[str, str]:
    """Return the header with the token; {} if authentication is off, as it is by default, or if there is no token."""
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        return {}
    token = os.environ.get("RAY_AUTH_TOKEN", "")
    if not token:
        path = os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token"
        try:
            token = Path(path).read_text(encoding="ascii")
        except (OSError, ValueError):
            return {}
    return {"Authorization": f"Bearer {token.strip()}"} if token.strip().isprintable() else {}


def _refused(problem: HTTPError) -> RayError:
    """Return the error for an HTTP status, with the last line of the answer, which is the message of a traceback."""
    if problem.code in (401, 403):
        return RayError(NEEDS_TOKEN if problem.code == 401 else WRONG_TOKEN)
    try:
        lines = problem.read(MOST_BYTES).decode(errors="replace").split("\n")
    except (OSError, http.client.HTTPException):
        lines = []
    said = next((line for line in reversed(lines) if line.strip(" .")), "")
    return RayError(f"Ray refuses the request with HTTP status {problem.code}. {said.strip()[:300]}".strip(), problem.code)


_probes: dict[str, tuple[float, str]] = {}


def unreachable(address: str) -> str:
    """Return why the cluster at an address cannot be used, as a sentence; "" if it answers.

    The answer is up to `PROBE_AGAIN_S` seconds old. The call takes `PROBE_S` seconds at most.
    """
    at, found = _probes.get(address, (-PROBE_AGAIN_S, ""))
    if time.monotonic() - at >= PROBE_AGAIN_S:
        box: list[str] = []
        probe = threading.Thread(target=lambda: box.append(_probe(address)), daemon=True)
        probe.start()
        probe.join(PROBE_S)  # a name server or a slow answer may take longer than the time limit of the connection
        found = box[0] if box else NO_ANSWER.format(address, "timed out")
        _probes[address] = time.monotonic(), found
    return found


def _probe(address: str) -> str:
    try:
        version = Cluster(address).ask("GET", "/api/version", timeout_s=PROBE_S).get("ray_version")
        return "" if version else f"What answers at {address} is not the dashboard of a Ray cluster."
    except RayError as problem:
        return str(problem)
