"""What the launcher `ray` says to a Ray cluster and makes of its words, also if the cluster does not answer."""

from __future__ import annotations

import json
import os
import shlex
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from engine import queueing, requests
from engine.doctor import doctor
from engine.errors import ConfigError, RunError
from engine.files import atomic_write_json
from engine.run import worker
from engine.run.folder import RunFolder, read_json
from engine.run.launchers import ray_jobs
from engine.run.launchers.contract import End, Start
from engine.run.launchers.jobs import SILENT_S, code_file
from engine.run.launchers.ray import SUBMITTING, RayAttempt, RayLauncher, waiting_text
from engine.run.launchers.registry import LAUNCHERS, choice_of, write_choice
from engine.run.state import FRESH_HEARTBEAT_S
from engine.run.supervisor import Supervisor
from tests.engine.run.processes import processes_of, until, without_supervisor
from tests.engine.run.test_supervisor import submit

DIED = "JOB_SUPERVISOR_ACTOR_DIED"
OUT_OF_MEMORY = "Unexpected error occurred: 1 worker(s) were killed due to the node running low on memory. Memory on the node"
NODE_DIED = "Job supervisor actor died: unexpectedly.\n\tpid: 86\nThe actor died because its node has died. Node Id: 0b91c9"


class JobsApi(ThreadingHTTPServer):
    """The Jobs API as Ray 2.60 answers, for jobs whose state the test sets.

    Attributes:
        jobs: {id: what was submitted, and the answer about it}.
        asked: the requests, each as "METHOD path".
        token: the token that it asks for; "" for none.
        refusal: the text with which it refuses submissions; "" to accept them.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.jobs: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.token = self.refusal = ""
        self.address = f"http://127.0.0.1:{self.server_port}"

    def tell(self, job_id: str, status: str, error: str = "", message: str = "") -> None:
        """Change what is answered about a job, whether it was submitted or not."""
        self.jobs[job_id] = self.jobs.get(job_id, {}) | {"status": status, "error_type": error or None, "message": message}


class Answer(BaseHTTPRequestHandler):
    server: JobsApi

    def do_GET(self) -> None:
        self.answer({})

    def do_POST(self) -> None:
        self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or "{}"))

    def answer(self, given: dict[str, Any]) -> None:
        api, job_id = self.server, self.path.split("/")[3:4]
        api.asked.append(f"{self.command} {self.path}")
        if api.token and self.headers.get("Authorization") != f"Bearer {api.token}":
            self.reply(403 if self.headers.get("Authorization") else 401, "Unauthorized")
        elif self.path == "/api/version":
            self.reply(200, {"ray_version": "2.60.0"})
        elif self.path == "/api/elsewhere":
            self.reply(302, "", {"Location": "/api/version"})
        elif given and api.refusal:
            self.reply(500, f"Traceback:\n  File x\n{api.refusal}\n.\n")
        elif given:
            api.jobs[given["submission_id"]] = given | {"status": "PENDING"}
            self.reply(200, {"submission_id": given["submission_id"]})
        elif job_id and job_id[0] in api.jobs:
            self.reply(200, {"stopped": True} if self.path.endswith("/stop") else api.jobs[job_id[0]])
        else:
            self.reply(404, "does not exist")

    def reply(self, code: int, body: Any, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write((body if isinstance(body, str) else json.dumps(body)).encode())

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@pytest.fixture
def api() -> Iterator[JobsApi]:
    with JobsApi() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(ray_jobs, "ASK_S", 0.1)
    monkeypatch.setattr(ray_jobs, "PROBE_AGAIN_S", 0.0)
    with processes_of(without_supervisor(tmp_path / "runs")) as folder:
        yield folder


def launcher(runs: Path, address: str, **settings: object) -> RayLauncher:
    return RayLauncher(runs, LAUNCHERS["ray"].complete({"address": address, **settings}))


def started(runs: Path, api: JobsApi, **settings: object) -> RayAttempt:
    """Return the first attempt of a new run, once the cluster has its job."""
    (run_id,) = submit(runs)
    attempt = launcher(runs, api.address, **settings).start(RunFolder(runs, run_id), Start(1, "cpu", 1))
    until(lambda: attempt.state() == "PENDING", "the job is submitted")
    return attempt


def beat(attempt: RayAttempt) -> None:
    """Write a heartbeat, as a worker does."""
    attempt.folder.heartbeat.touch()
    os.utime(attempt.folder.heartbeat, (1.0, time.time() + 1))


def ended(attempt: RayAttempt) -> End:
    end = until(attempt.end, "the attempt has ended")
    assert isinstance(end, End)
    return end


def test_a_job_is_recorded_then_submitted_with_its_resources_and_waits_for_a_node(runs: Path, api: JobsApi) -> None:
    attempt = started(runs, api, memory_gb=3)
    record = read_json(attempt.folder.process_json) or {}
    given = api.jobs[attempt.job_id]
    assert (record["job"], record["cluster"], record["waits"]) == (attempt.job_id, api.address, SUBMITTING)
    assert (given["entrypoint_num_cpus"], given["entrypoint_num_gpus"], given["entrypoint_memory"]) == (1, 0, 3 * 2**30)
    words = shlex.split(given["entrypoint"])
    assert words[:2] == ["sh", "-c"] and words[-2:] == ["--ticket", record["ticket"]] and attempt.folder.id in words
    assert attempt.waits() == "Its job waits for a node of the Ray cluster with 1 CPU and 3 GB of memory free."
    assert attempt.end() is None
    beat(attempt)
    assert attempt.waits() == "" and attempt.end() is None
    gpu = launcher(runs, api.address).submission(attempt.folder, record, Start(1, "cuda:0", 4))
    assert (gpu["entrypoint_num_cpus"], gpu["entrypoint_num_gpus"]) == (4, 1)
    several = launcher(runs, api.address).submission(attempt.folder, record, Start(1, "cuda:0", 4, processes=2))
    assert several["entrypoint_num_gpus"] == 2 and "--processes 2" in several["entrypoint"]
    assert waiting_text(several) == "Its job waits for a node of the Ray cluster with 2 GPUs, 4 CPUs and 4 GB of memory free."


def test_a_job_that_its_supervisor_could_not_submit_is_submitted_by_the_next_one(runs: Path, api: JobsApi) -> None:
    first = started(runs, api)
    first.ray.leave(first.job)  # its supervisor is killed
    del api.jobs[first.job_id]  # before it has submitted the job
    again = launcher(runs, api.address).reconnect(first.folder, read_json(first.folder.process_json) or {})
    assert again is not None and again.job_id == first.job_id
    until(lambda: again.state() == "PENDING", "it is submitted")
    assert list(api.jobs) == [first.job_id]


def test_a_job_that_has_begun_is_never_submitted_again(runs: Path, api: JobsApi) -> None:
    attempt = started(runs, api)
    beat(attempt)
    assert attempt.waits() == ""
    del api.jobs[attempt.job_id]  # the head of the cluster was replaced
    until(lambda: attempt.state() == "UNKNOWN", "the cluster does not know it")
    record = read_json(attempt.folder.process_json) or {}
    attempt.ray.leave(attempt.job)
    again = launcher(runs, api.address).reconnect(attempt.folder, {name: record[name] for name in record if name != "waits"})
    asked = len(api.asked)
    until(lambda: len(api.asked) > asked + 3, "it is asked about")
    assert again is not None and again.end() is None and not api.jobs


@pytest.mark.parametrize(("error", "message", "cause", "is_lost"), [
    (DIED, NODE_DIED, "was lost. Its node died.", True),
    (DIED, "Job supervisor actor died: The actor exited.", "was lost. Job supervisor actor died: The actor exited.", True),
    ("JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE", OUT_OF_MEMORY, "Out of memory: ", False),
    ("JOB_ENTRYPOINT_COMMAND_ERROR", "exit code 127, logs:\nsh: no python\n", "of its worker: sh: no python", False)])
def test_a_failed_job_that_has_computed_is_lost_if_its_node_or_actor_was(runs: Path, api: JobsApi, error: str, message: str,
                                                                        cause: str, is_lost: bool) -> None:
    attempt = started(runs, api)
    beat(attempt)
    api.tell(attempt.job_id, "FAILED", error, message)
    until(lambda: attempt.state() == "FAILED", "Ray has given it up")
    assert attempt.end() is None  # its worker may be alive where Ray cannot reach it
    for path in (attempt.folder.process_json, attempt.folder.heartbeat):
        os.utime(path, (1.0, time.time() - FRESH_HEARTBEAT_S - 1))
    end = ended(attempt)
    assert cause in end.cause and end.is_lost == is_lost


@pytest.mark.parametrize(("error", "message", "is_lost"), [
    (DIED, NODE_DIED, True), (DIED, "Job supervisor actor died: PermissionError: logs", False),
    ("JOB_SUPERVISOR_ACTOR_START_TIMEOUT", "failed to start within 900 seconds", True),
    ("RUNTIME_ENV_SETUP_FAILURE", "no", False)])
def test_a_job_that_could_not_start_is_submitted_again_only_if_that_may_help(runs: Path, api: JobsApi, error: str, message: str,
                                                                            is_lost: bool) -> None:
    attempt = started(runs, api)
    api.tell(attempt.job_id, "FAILED", error, message)
    assert ended(attempt).is_lost == is_lost


def test_the_word_of_the_worker_counts_more_than_that_of_the_cluster(runs: Path, api: JobsApi) -> None:
    attempt = started(runs, api)
    beat(attempt)
    code_file(runs, attempt.process["ticket"]).write_text("137\n")
    assert ended(attempt) == End(-9) and not code_file(runs, attempt.process["ticket"]).exists()
    other = started(runs, api)
    other.folder.results.mkdir(exist_ok=True)
    atomic_write_json(other.folder.ended_json, {"attempt": 1, "status": "stopped", "cause": "", "ended": 1.0})
    code_file(runs, other.process["ticket"]).write_text("3\n")
    assert other.end() is None  # Ray has not told yet why it ended
    api.tell(other.job_id, "SUCCEEDED")
    end = ended(other)
    assert end.is_lost and end.code == 3


def test_a_job_that_somebody_stopped_in_the_cluster_is_not_started_again(runs: Path, api: JobsApi) -> None:
    attempt = started(runs, api)
    beat(attempt)
    api.tell(attempt.job_id, "STOPPED")
    assert not ended(attempt).is_lost


def test_a_job_that_waits_is_withdrawn_at_once_and_stopped_in_the_cluster(runs: Path, api: JobsApi) -> None:
    attempt = started(runs, api)
    attempt.kill()
    assert ended(attempt).cause == f"Ray job {attempt.job_id} was stopped."
    until(lambda: f"POST /api/jobs/{attempt.job_id}/stop" in api.asked, "the cluster is told")


def test_a_job_that_starts_after_it_was_withdrawn_computes_nothing(runs: Path, api: JobsApi) -> None:
    attempt = started(runs, api)
    folder, ticket = attempt.folder, attempt.process["ticket"]
    atomic_write_json(folder.exit_json, {"attempt": 1, "status": "stopped", "cause": "", "ended": 1.0})
    assert worker.main(["--runs", str(runs), "--run", folder.id, "--attempt", "1", "--ticket", ticket]) == worker.FINISHED
    assert not folder.log.exists() and not folder.events.exists()


def test_a_worker_that_leaves_no_word_is_waited_for_as_long_as_a_shared_folder_may_be_late(
        runs: Path, api: JobsApi, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = started(runs, api)
    api.tell(attempt.job_id, "SUCCEEDED")
    until(lambda: attempt.state() == "SUCCEEDED", "Ray has told")
    assert attempt.end() is None
    monkeypatch.setattr("engine.run.launchers.ray.LATE_S", 0.0)
    assert "Its runs folder must be this one" in ended(attempt).cause


def test_a_cluster_that_has_gone_loses_a_run_once_its_heartbeat_is_old(runs: Path, api: JobsApi) -> None:
    attempt = started(runs, api)
    beat(attempt)
    assert attempt.waits() == ""
    api.shutdown()
    api.server_close()
    until(lambda: "No Ray cluster answers" in attempt.job.news.trouble, "the trouble is seen")
    assert attempt.end() is None
    for path in (attempt.folder.process_json, attempt.folder.heartbeat):
        os.utime(path, (1.0, time.time() - SILENT_S - 20))
    assert ended(attempt).is_lost


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_cluster_that_hangs_delays_no_tick_of_the_supervisor_and_the_run_can_be_stopped(runs: Path, silent: str) -> None:
    write_choice(runs, choice_of("ray", {"address": silent}))
    (run_id,) = submit(runs)
    folder, supervisor = RunFolder(runs, run_id), Supervisor(runs)
    for _ in range(3):
        supervisor.tick()
    assert run_id in supervisor.workers and (read_json(folder.process_json) or {})["waits"] == SUBMITTING
    folder.request("stop").touch()
    supervisor.tick()
    assert requests.status(runs, run_id).cause == "Stopped before it started." and not supervisor.workers


def test_a_refusal_is_told_where_the_run_waits_and_the_job_is_submitted_when_it_ends(runs: Path, api: JobsApi) -> None:
    api.refusal = "ValueError: no agent"
    (run_id,) = submit(runs)
    attempt = launcher(runs, api.address).start(RunFolder(runs, run_id), Start(1, "cpu", 1))
    until(lambda: attempt.waits() == "Ray refuses the request with HTTP status 500. ValueError: no agent", "the refusal is told")
    api.refusal, api.token = "", "secret"
    until(lambda: attempt.waits().startswith("The cluster asks for a token: set RAY_AUTH_MODE=token"), "the token is asked for")
    api.token = ""
    until(lambda: attempt.waits().startswith("Its job waits for a node"), "it is submitted")


def test_the_token_is_sent_as_ray_sends_it_and_only_if_authentication_is_on(
        runs: Path, api: JobsApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api.token = "secret"
    assert ray_jobs.unreachable(api.address) == ray_jobs.NEEDS_TOKEN
    monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong")
    assert ray_jobs.unreachable(api.address) == ray_jobs.NEEDS_TOKEN
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert ray_jobs.unreachable(api.address) == ray_jobs.WRONG_TOKEN
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    assert ray_jobs.unreachable(api.address) == ""
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ray_jobs.unreachable(api.address) == ray_jobs.NEEDS_TOKEN
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("secret\n")
    assert ray_jobs.unreachable(api.address) == ""
    (tmp_path / "elsewhere").write_text("wrong")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "elsewhere"))
    assert ray_jobs.unreachable(api.address) == ray_jobs.WRONG_TOKEN
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    with pytest.raises(ray_jobs.RayError, match="status 302"):  # a redirect would take the token elsewhere
        ray_jobs.Cluster(api.address).ask("GET", "/api/elsewhere")
    assert "GET /api/elsewhere" in api.asked and api.asked[-1] == "GET /api/elsewhere"


def test_a_cluster_that_does_not_answer_is_refused_and_the_lists_say_so(runs: Path, api: JobsApi, silent: str) -> None:
    with pytest.raises(RunError, match=r"No Ray cluster answers at .* choose another address: rampart queue launcher ray --set"):
        queueing.choose_launcher(runs, "ray", {"address": silent})
    with pytest.raises(RunError, match="It needs the address of the dashboard of a Ray cluster"):
        queueing.choose_launcher(runs, "ray", {})
    for wrong in ("head:8265", "http://user@head", "file:///etc/passwd", "http://head/path"):
        with pytest.raises(ConfigError, match="address must be such as http://HEAD:8265"):
            queueing.choose_launcher(runs, "ray", {"address": wrong})
    queueing.choose_launcher(runs, "ray", {"address": api.address, "gpus": 0})
    listed = {one.name: one for one in queueing.launchers(runs)}["ray"]
    assert (listed.is_chosen, listed.missing, [(one.name, one.slots) for one in listed.devices]) == (True, "", [("cpu", 20)])
    api.token = "secret"
    assert [(one.good, one.found) for one in doctor(runs=runs) if one.subject == "launcher ray"] == [
        (False, f"chosen; {ray_jobs.NEEDS_TOKEN}")]


def test_an_address_in_a_run_s_folder_is_never_asked(runs: Path, api: JobsApi) -> None:
    attempt = started(runs, api)
    record = read_json(attempt.folder.process_json) or {}
    with JobsApi() as stranger:
        threading.Thread(target=stranger.serve_forever, daemon=True).start()
        assert launcher(runs, api.address).reconnect(attempt.folder, record | {"cluster": stranger.address}) is None
        said = (read_json(attempt.folder.process_json) or {})["waits"]
        assert said.startswith(f"Its job was submitted to the Ray cluster {stranger.address}. Choose this cluster again")
        beat(attempt)
        elsewhere = launcher(runs, api.address).reconnect(attempt.folder, record | {"cluster": stranger.address})
        assert elsewhere is not None and elsewhere.end() is None
        for path in (attempt.folder.process_json, attempt.folder.heartbeat):
            os.utime(path, (1.0, time.time() - SILENT_S - 20))
        assert ended(elsewhere).is_lost and not stranger.asked
        stranger.shutdown()
    for wrong in ({"job": "rampart-x"}, {"job": None}, {"ticket": "../x"}, {"job": record["job"] + "/stop"}):
        with pytest.raises(RunError, match="must name a job and its ticket"):
            launcher(runs, api.address).reconnect(attempt.folder, record | wrong)
