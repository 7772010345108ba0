"""Runs are copied through an object store exactly, also if push or pull dies at any moment, and requests go the other way."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from engine import requests
from engine.cli import main
from engine.errors import RunError
from engine.files import atomic_write_json
from engine.run.folder import RunFolder, read_json
from engine.run.state import compute
from engine.run.supervisor import Supervisor
from engine.store import objects, pulling, pushing
from engine.store.objects import Store, Version, sha256
from engine.store.pulling import pull
from engine.store.pushing import push
from tests import sample_runs
from tests.engine.run.processes import processes_of, until, until_status, until_step, without_supervisor
from tests.engine.run.test_resume import results, same

LONG = {"threads": 1, "epochs": 3, "steps_per_epoch": 5}


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket of an S3 server on the loopback interface."""
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    server_of = pytest.importorskip("moto.server", reason="moto is not installed").ThreadedMotoServer
    server = server_of(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        address = "http://{}:{}".format(*server.get_host_and_port())
        for name, value in {"AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
                            "AWS_DEFAULT_REGION": "us-east-1"}.items():
            patch.setenv(name, value)
        fsspec.filesystem("s3", skip_instance_cache=True).mkdir("runs")
        yield "s3://runs"
    server.stop()


@pytest.fixture(params=["file", "memory", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A store: a local folder, the memory of this process, or a part of a bucket."""
    if request.param == "s3":
        yield f"{request.getfixturevalue('bucket')}/{secrets.token_hex(4)}"
        return
    if request.param == "file":
        yield f"file://{tmp_path}/store"
        return
    place = f"memory://{secrets.token_hex(4)}"
    yield place
    files, root = fsspec.core.url_to_fs(place)
    if files.exists(root):
        files.rm(root, recursive=True)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The runs folder of the machine that computes."""
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """The runs folder of another machine."""
    return tmp_path / "there"


def finished(root: Path) -> str:
    """Write a finished attack with results, and a checkpoint, and return its id."""
    search, _, _ = sample_runs.write_finished_chain(root)
    for name in ("last.pt", "previous.pt"):
        (root / search / "checkpoint").mkdir(exist_ok=True)
        (root / search / "checkpoint" / name).write_bytes(os.urandom(5000))
    return search


def more(root: Path, run_id: str, steps: int = 2) -> None:
    """Let a run write further events, and a new checkpoint."""
    events = sample_runs.EventsFile(root / run_id)
    events.step = len((root / run_id / "events.jsonl").read_bytes().splitlines()) // 7
    sample_runs.write_search_steps(events, steps)
    (root / run_id / "checkpoint" / "last.pt").write_bytes(os.urandom(5000))


def content(root: Path, run_id: str) -> dict[str, bytes]:
    """Return the files of a run that a copy has as well."""
    paths = [path for path in (root / run_id).rglob("*") if path.is_file()]
    names = {path.relative_to(root / run_id).as_posix(): path for path in paths}
    return {name: path.read_bytes() for name, path in names.items()
            if objects.FILE.fullmatch(name) or name == "events.jsonl"}


def everything(store: Store) -> dict[str, bytes]:
    """Return the content of a store."""
    files, root = fsspec.core.url_to_fs(store.url)
    return {path: files.cat_file(path) for path in files.find(root)}


def set_attempt(root: Path, run_id: str, attempt: int) -> None:
    path = root / run_id / "process.json"
    atomic_write_json(path, (read_json(path) or {}) | {"attempt": attempt})


def test_a_copy_equals_the_run_and_a_second_call_changes_nothing(url: str, here: Path, there: Path) -> None:
    run_id, store = finished(here), Store(url)
    assert push(here, run_id, store) and pull(there, run_id, Store(url))
    assert content(there, run_id) == content(here, run_id) and len(content(here, run_id)) >= 7
    before, times = everything(store), {path: path.stat().st_mtime_ns for path in (there / run_id).rglob("*")}
    assert not push(here, run_id, store) and not push(here, run_id, Store(url)) and not pull(there, run_id, store)
    assert everything(store) == before
    assert {path: path.stat().st_mtime_ns for path in (there / run_id).rglob("*")} == times
    assert not push(there, run_id, store) and not pull(here, run_id, store)  # a copy is not pushed, nor a run's own folder pulled


def test_closed_parts_of_the_events_stay_and_only_complete_lines_are_copied(url: str, here: Path, there: Path,
                                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pushing, "PART_BYTES", 8000)
    run_id, store = finished(here), Store(url)
    closed: set[str] = set()
    for _ in range(5):
        more(here, run_id)
        complete = (here / run_id / "events.jsonl").read_bytes()
        sample_runs.EventsFile(here / run_id).write_raw('{"event": "half')
        assert push(here, run_id, store) and pull(there, run_id, store)
        assert (there / run_id / "events.jsonl").read_bytes() == complete
        (here / run_id / "events.jsonl").write_bytes(complete)  # as the next worker does
        _, version = store.newest(run_id) or (0, Version(0))
        *whole, last = version.events
        assert closed <= {name for _, _, name in whole} and min(end - first for first, end, _ in whole) >= 8000
        closed = {name for _, _, name in whole}
        kept = [json.loads(store.get(f"{run_id}/versions/{name}") or b"") for name in store.names(f"{run_id}/versions")]
        assert len(kept) <= 2 and {*store.names(f"{run_id}/objects")} == {
            name for one in kept for name in [*one["files"].values(), *(part[2] for part in one["events"])]}
    assert len(closed) >= 3


class Dying(Store):
    """A store whose process dies after a number of writes. The last one is only half done, as a local file may be."""

    def __init__(self, url: str, writes: int) -> None:
        super().__init__(url)
        self.left = writes

    def put(self, path: str, data: bytes) -> None:
        self.left -= 1
        super().put(path, data if self.left > 0 else data[:len(data) // 2])
        if self.left <= 0:
            raise KeyboardInterrupt


def test_a_push_that_dies_at_any_write_is_not_visible_and_the_next_one_completes_it(url: str, here: Path, there: Path) -> None:
    run_id = finished(here)
    push(here, run_id, Store(url))
    pull(there, run_id, Store(url))
    for writes in range(1, 20):
        old = content(there, run_id)
        more(here, run_id)
        (here / run_id / "results" / "new.json").write_text(json.dumps({"writes": writes}))
        try:
            push(here, run_id, Dying(url, writes))
        except KeyboardInterrupt:
            assert not pull(there, run_id, Store(url)) and content(there, run_id) == old
            push(here, run_id, Store(url))
        assert pull(there, run_id, Store(url)) and content(there, run_id) == content(here, run_id)
        if writes > len(old):
            break


@pytest.mark.parametrize("name", ["read", "_replace"])
def test_a_pull_that_dies_at_any_moment_leaves_complete_lines_and_the_next_one_completes_it(
        url: str, here: Path, there: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    run_id, store = finished(here), Store(url)
    push(here, run_id, store)
    owner = Store if name == "read" else pulling
    work, left = getattr(owner, name), [0]

    def dying(*words: object) -> object:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return work(*words)

    monkeypatch.setattr(owner, name, dying)
    deaths = 0
    for calls in range(20):
        left[0] = calls
        more(here, run_id, 1)
        push(here, run_id, store)
        try:
            pull(there, run_id, store)
        except KeyboardInterrupt:
            deaths += 1
            events = there / run_id / "events.jsonl"
            assert not events.exists() or (here / run_id / "events.jsonl").read_bytes().startswith(events.read_bytes())
            assert deaths > 1 or not (there / run_id / "run.json").exists()  # not seen before it is complete
            left[0] = 1000
            assert pull(there, run_id, store)
        assert content(there, run_id) == content(here, run_id)
    assert deaths >= 2


DYING = """
import os, signal, sys
from pathlib import Path
from engine.store import objects, pulling, pushing
left, owner, name = int(sys.argv[1]), *{"push": (objects.Store, "put"), "pull": (os, "replace")}[sys.argv[2]]
work = getattr(owner, name)
def dying(*words, **more):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return work(*words, **more)
setattr(owner, name, dying)
{"push": pushing.push, "pull": pulling.pull}[sys.argv[2]](Path(sys.argv[3]), sys.argv[4], objects.Store(sys.argv[5]))
"""


@pytest.mark.parametrize("action", ["push", "pull"])
def test_a_killed_process_leaves_nothing_that_the_next_one_does_not_mend(tmp_path: Path, here: Path, there: Path,
                                                                        action: str) -> None:
    run_id, url = finished(here), f"file://{tmp_path}/store"
    push(here, run_id, Store(url))
    pull(there, run_id, Store(url))
    for writes in (0, 1, 3):
        more(here, run_id)
        if action == "pull":
            push(here, run_id, Store(url))
        folder = here if action == "push" else there
        done = subprocess.run([sys.executable, "-c", DYING, str(writes), action, str(folder), run_id, url], check=False)
        assert done.returncode == (-signal.SIGKILL if writes < 3 or done.returncode else 0)
        push(here, run_id, Store(url))
        pull(there, run_id, Store(url))
        assert content(there, run_id) == content(here, run_id)


def test_lost_damaged_and_hostile_objects_are_told_in_a_sentence(url: str, here: Path, there: Path) -> None:
    run_id, store = finished(here), Store(url)
    push(here, run_id, store)
    number, version = store.newest(run_id) or (0, Version(0))
    (name,) = {name for _, _, name in version.events}
    whole = store.get(f"{run_id}/objects/{name}") or b""
    store.put(f"{run_id}/objects/{name}", whole[:-1])
    with pytest.raises(RunError, match=rf"Bytes 0 to {len(whole)} of the events of run {run_id} must be .* is damaged there"):
        pull(there, run_id, store)
    store.remove(f"{run_id}/objects/{name}")
    with pytest.raises(RunError, match="is missing there; remove the run from the store"):
        pull(there, run_id, store)
    assert not (there / run_id / "run.json").exists()

    def write(**changes: object) -> None:
        text = json.dumps(json.loads(version.to_bytes()) | changes).encode()
        store.put(f"{run_id}/versions/{number + 1:09d}-{sha256(text)}.json", text)

    for changes, said in (({"events": [[0, 10, name], [20, 30, name]]}, "without gaps"),
                          ({"events": [[10, 20, name], [0, 10, name]]}, "without gaps"),
                          ({"events": [[0, 10, "../../x"]]}, "as `rampart store push` writes it"),
                          ({"files": {"../x": name}}, "as `rampart store push` writes it"),
                          ({"files": {"control/stop": name}}, "as `rampart store push` writes it"),
                          ({"schema": 2}, "as `rampart store push` writes it"), ({"attempt": None}, "as `rampart store push`")):
        write(**changes)
        with pytest.raises(RunError, match=said):
            pull(there, run_id, store)
        for one in store.names(f"{run_id}/versions"):
            if one.startswith(f"{number + 1:09d}"):
                store.remove(f"{run_id}/versions/{one}")


def test_an_older_state_of_the_store_and_other_events_change_nothing(url: str, here: Path, there: Path) -> None:
    run_id, store = finished(here), Store(url)
    push(here, run_id, store)
    (first,) = store.names(f"{run_id}/versions")
    more(here, run_id)
    push(here, run_id, store)
    pull(there, run_id, store)
    second = store.names(f"{run_id}/versions")[-1]
    store.remove(f"{run_id}/versions/{second}")
    assert not pull(there, run_id, store) and content(there, run_id) == content(here, run_id)
    store.put(f"{run_id}/versions/{second}", b"half")
    assert (store.newest(run_id) or (0,))[0] == int(first[:9])
    events = here / run_id / "events.jsonl"
    events.write_bytes(events.read_bytes().replace(b"natural_loss", b"natural_lies", 1))
    with pytest.raises(RunError, match="must only grow"):
        push(here, run_id, Store(url))
    other = there / run_id / "events.jsonl"
    other.write_bytes(other.read_bytes()[:-5] + b"lie}\n")
    events.write_bytes(events.read_bytes().replace(b"natural_lies", b"natural_loss", 1))
    more(here, run_id)
    push(here, run_id, Store(url))
    with pytest.raises(RunError, match="must be those in the store as far as they go"):
        pull(there, run_id, store)


def test_a_run_that_was_not_started_is_not_copied_because_both_machines_would_start_it(url: str, here: Path, there: Path) -> None:
    run_id = without_supervisor(here) and requests.submit(here, "search", {"threads": 1}, method="arnas", preset="smoke")[0]
    assert push(here, run_id, Store(url)) and not pull(there, run_id, Store(url)) and not (there / run_id).exists()


def test_the_machine_with_the_copy_sees_it_run_leaves_it_alone_and_its_stop_arrives(url: str, here: Path, there: Path) -> None:
    with processes_of(here):
        (run_id,) = requests.submit(here, "search", LONG | {"epochs": 300}, method="arnas", preset="smoke")
        until_step(here, run_id, 2)
        store = Store(url)
        assert push(here, run_id, store) and pull(there, run_id, store)
        foreign = there / run_id / "process.json"
        supervisor = Supervisor(there)

        def seen() -> str:
            """Push and pull, let this machine's supervisor look, and return what this machine says of the run."""
            push(here, run_id, store)
            if pull(there, run_id, store):  # on another machine, the process is not seen
                atomic_write_json(foreign, (read_json(foreign) or {}) | {"boot_id": "of another machine"})
            supervisor.tick(everything=True)
            return compute(RunFolder(there, run_id)).status

        assert seen() == "running" and not supervisor.workers
        os.utime(there / run_id / "heartbeat", (1, 1))  # nothing was pushed for a long time
        supervisor.tick(everything=True)
        assert not (there / run_id / "exit.json").exists() and not supervisor.workers
        assert seen() == "running"
        without_supervisor(there)
        requests.request_stop(there, run_id)
        assert seen() == "stopping" and store.names(f"{run_id}/requests") == ["1-stop"]
        until(lambda: push(here, run_id, store) or (here / run_id / "control" / "stop").exists(), "the request has arrived")
        until_status(here, run_id, "stopped")
        until(lambda: read_json(here / run_id / "exit.json"), "its end is recorded")
        until(lambda: seen() == "stopped", "its end is seen")
        assert compute(RunFolder(there, run_id)).cause == "Stopped on request."
        set_attempt(here, run_id, 2)  # as if it had been resumed
        push(here, run_id, store)
        pull(there, run_id, store)
        assert store.names(f"{run_id}/requests") == [] and not (there / run_id / "control" / "stop").exists()


def test_a_run_goes_on_from_its_copy_and_equals_an_uninterrupted_one(tmp_path: Path, here: Path, there: Path) -> None:
    store = Store(f"file://{tmp_path}/store")
    with processes_of(here), processes_of(there):
        whole, run_id = (requests.submit(here, "search", LONG, method="arnas", preset="smoke")[0] for _ in range(2))
        until_status(here, whole, "finished")
        until_step(here, run_id, 6)
        push(here, run_id, store)  # in the middle, as if the machine were lost afterwards
        pull(there, run_id, store)
        requests.force_stop(here, run_id)
        until_status(here, run_id, "stopped")
        until(lambda: read_json(here / run_id / "exit.json"), "its end is recorded")
        exit_json = read_json(here / run_id / "exit.json") or {}
        atomic_write_json(there / run_id / "exit.json", exit_json)  # the user knows that it is lost
        assert (there / run_id / "checkpoint" / "last.pt").exists()
        requests.resume(there, run_id)
        until_status(there, run_id, "finished")
        assert requests.status(there, run_id).attempt == 2
        same(results(here, whole), results(there, run_id))
        assert push(there, run_id, store)  # it is this machine's run now
        with pytest.raises(RunError, match="Attempt 1 of run .* must be the latest"):
            push(here, run_id, Store(store.url))
        set_attempt(here, run_id, 2)
        with pytest.raises(RunError, match="another machine has computed the run"):
            push(here, run_id, Store(store.url))


def test_a_run_that_was_resumed_on_two_machines_is_told(url: str, here: Path, there: Path) -> None:
    run_id, store = finished(here), Store(url)
    push(here, run_id, store)
    pull(there, run_id, store)
    set_attempt(there, run_id, 2)
    assert not pull(there, run_id, store)
    set_attempt(here, run_id, 2)
    push(here, run_id, store)
    with pytest.raises(RunError, match="must be resumed on one machine only"):
        pull(there, run_id, store)


def test_the_verb_copies_all_runs_and_repeats(tmp_path: Path, here: Path, there: Path,
                                              capsys: pytest.CaptureFixture[str]) -> None:
    ids, url = sorted(sample_runs.write_finished_chain(here)), f"file://{tmp_path}/store"
    assert main(["store", "push", url, "--runs", str(here)]) == 0
    assert capsys.readouterr().out.split() == ids
    there.mkdir()
    # A shell's background processes ignore SIGINT, and those that they start inherit this.
    words = ["env", "--default-signal=INT", sys.executable, "-m", "engine", "store", "pull", url, "--runs", str(there),
             "--every", "1", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert json.loads(child.stdout.readline()) == {"changed": ids, "failed": {}}
        assert json.loads(child.stdout.readline()) == {"changed": [], "failed": {}}
        child.send_signal(signal.SIGINT)
        assert child.wait(60) == 130
    assert [content(there, one) for one in ids] == [content(here, one) for one in ids]
    for words, said in ((["pull", "no-such-store://x"], "must be a URL that fsspec can open"),
                        (["pull", url, "x"], "A run id looks like"), (["pull", url, "--every", "0"], "must be from 1 to 86400")):
        assert main(["store", *words, "--runs", str(there)]) == 2
        assert said in capsys.readouterr().err


def test_a_store_that_cannot_be_reached_is_a_sentence(tmp_path: Path, here: Path) -> None:
    run_id = finished(here)
    (tmp_path / "store").write_text("a file instead of a folder")
    with pytest.raises(RunError, match="must be reachable and is not"):
        push(here, run_id, Store(f"file://{tmp_path}/store"))


def test_a_stale_heartbeat_of_another_machine_is_renewed_by_each_push(url: str, here: Path, there: Path) -> None:
    run_id, store = sample_runs.write_running_search(here), Store(url)
    assert push(here, run_id, store) and pull(there, run_id, store)
    os.utime(there / run_id / "heartbeat", (1, 1))
    assert not pull(there, run_id, store)
    assert push(here, run_id, store) and pull(there, run_id, store)
    assert time.time() - (there / run_id / "heartbeat").stat().st_mtime < 15
