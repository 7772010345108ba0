"""The worker, a process that computes a run. The supervisor starts workers as detached processes.

    python -m engine.run.worker --runs DIR --run ID --attempt N --device cpu --threads 2

Each start of a worker is an attempt of the run. A resumed run has several attempts. A worker writes only to the folder of its
run. At the end it writes results/ended.json, so that the outcome is known even if no supervisor was alive to see the process end.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import signal
import sys
import threading
import time
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from engine.errors import RampartError, RunError, StopRequested
from engine.files import atomic_write_bytes, make_folder, open_to_append, touch
from engine.run import disk, locks
from engine.run.device import devices_of
from engine.run.event_kinds import Alert, Finished
from engine.run.folder import RunFolder, read_json
from engine.run.locks import Lock
from engine.run.peers import OUT_OF_MEMORY, started
from engine.run.session import GONE, RESERVE_BYTES, Session

HEARTBEAT_S = 2.0
RECORD_S = 120.0  # clients of NFS may see a new file a minute late
REPLACED = "Another worker has been started for run {}, so this one has ended and writes nothing more."
LOOPS = {"search": "engine.run.loop_search", "retrain": "engine.run.loop_retrain", "attack": "engine.run.loop_attack"}
# Exit codes for shells and other launchers, besides those of `engine.run.disk` and `OUT_OF_MEMORY`; ended.json has the message.
FINISHED, CRASHED, STOPPED, REFUSED, NOT_ITS_FOLDER = 0, 1, 3, 4, 7


def beat(session: Session) -> None:
    """Start a thread that touches the heartbeat file every two seconds until the process ends.

    The thread ends the process if the run's folder has been deleted, moved or replaced, if a forced stop is requested, or if
    process.json records another worker. The supervisor may be on another machine, from which it cannot kill the process.
    """
    def forever() -> None:
        while True:
            if session.folder_is_gone:
                print(GONE.format(session.folder.id), file=sys.stderr, flush=True)
                end_at_once(NOT_ITS_FOLDER)
            if is_forced_to_stop(session):
                end_group()
            if is_replaced(session):
                print(REPLACED.format(session.folder.id), file=sys.stderr, flush=True)
                end_at_once(NOT_ITS_FOLDER)
            with contextlib.suppress(OSError):  # on a full disk, the run's loop fails and reports it
                touch(session.folder.heartbeat, session.folder.path)
            time.sleep(HEARTBEAT_S)

    threading.Thread(target=forever, name="heartbeat", daemon=True).start()


def is_forced_to_stop(session: Session) -> bool:
    """Return True if the user has requested a forced stop of this attempt."""
    with contextlib.suppress(RunError):
        force = read_json(session.folder.request("force"))
        return force is not None and force.get("attempt") == session.attempt
    return False


def is_replaced(session: Session) -> bool:
    """Return True if process.json records another worker, because the supervisor took this one for lost and started another.

    This is what keeps one worker per run where machines share a folder without locks.
    """
    with contextlib.suppress(RunError):
        recorded = read_json(session.folder.process_json) or {"attempt": session.attempt, "ticket": session.ticket}
        return (recorded.get("attempt"), recorded.get("ticket") or "") != (session.attempt, session.ticket)
    return False


def end_group() -> NoReturn:
    """Kill this process. If it leads a process group, kill the whole group, and thus its children.

    Every worker that a supervisor has started leads a group.
    """
    if os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
    os._exit(128 + signal.SIGKILL)  # the first process of a container, which it cannot kill; its end ends all others there


def stop_while_starting(session: Session) -> None:
    """Start a thread that ends the process if a stop is requested before the run's loop has begun.

    Loading torch takes seconds, during which no other code checks for stop requests. No checkpoint is written, and an earlier
    checkpoint is kept.
    """
    def watch() -> None:
        while not session.begun.wait(0.1):
            if session.stop.is_requested():
                with session.gate:
                    if not session.begun.is_set():
                        leave(session, "stopped", session.stop.cause)
                        end_at_once(STOPPED)

    threading.Thread(target=watch, name="stop while starting", daemon=True).start()


def end_at_once(code: int) -> NoReturn:
    """Exit the process with `code` at once, because Python's normal shutdown takes up to a second with torch loaded.

    Call it only when all files are on disk.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def wait_for_go(descriptor: int | None) -> bool:
    """Wait until the supervisor has recorded this process in process.json.

    Args:
        descriptor: read end of a pipe into which the supervisor writes one byte; None to return True at once.

    Returns:
        True if the process is recorded. False if the supervisor died before recording it; the worker must then exit.
    """
    if descriptor is None:
        return True
    with os.fdopen(descriptor, "rb", buffering=0) as pipe:
        return pipe.read(1) == b"g"


def wait_for_record(folder: RunFolder, attempt: int, ticket: str) -> bool:
    """Wait until process.json records the job with this ticket. Return False if it records another, or none for a long time.

    A job may start before its supervisor has recorded it, and a supervisor may be killed before it can.
    """
    deadline = time.monotonic() + RECORD_S
    while time.monotonic() < deadline:
        recorded = read_json(folder.process_json) or {}
        if recorded.get("ticket") == ticket:
            return True
        if int(recorded.get("attempt") or 0) >= attempt:
            return False
        time.sleep(0.2)
    return False


def use_log(folder: RunFolder) -> None:
    """Append everything that this process prints to log.txt of the run, if its launcher cannot do so."""
    with os.fdopen(open_to_append(folder.log, folder.path), "ab") as log:
        for descriptor in (1, 2):
            os.dup2(log.fileno(), descriptor)


def reserve(folder: RunFolder) -> Path:
    """Write a small file to reserve disk space, and return its path.

    The file is deleted when the run fails, so that there is space for ended.json even on a full disk.
    """
    path = folder.results / ".reserve"
    if not path.exists():
        # Random bytes, because a file system may not allocate blocks for zeros.
        atomic_write_bytes(path, os.urandom(RESERVE_BYTES), inside=folder.path)
    return path


def out_of_memory(problem: BaseException) -> bool:
    """Return True if an error of Python or torch means that memory ran out."""
    text = str(problem).lower()
    return isinstance(problem, MemoryError) or "out of memory" in text or "can't allocate memory" in text


def load(kind: str) -> ModuleType:
    """Import torch and the loop of a kind of run.

    Garbage collection is off during the import, which saves a sixth of the time.
    """
    gc.disable()
    try:
        return import_module(LOOPS[kind])
    finally:
        gc.freeze()  # what has been imported stays until the process ends, so later collections need not look at it
        gc.enable()


def attempt(session: Session) -> tuple[int, str, str]:
    """Run the loop of a search, a retraining or an attack, depending on the kind of the run.

    If the loop fails in an expected way, for example on a full or broken disk or invalid input, the status "failed" is returned.
    Unexpected errors propagate.

    Returns:
        The exit code for the process.
        The status: "finished", "stopped" or "failed".
        The cause, as a sentence that explains the status; empty for a run that finished with its last epoch.
    """
    try:
        with started(session.folder, count=session.processes, device=session.device, threads=session.threads_each) as peers:
            session.peers = peers
            if peers is not None:
                peers.watch(partial(end_without_peer, session))
            load(session.kind).run(session)
        session.check_folder()
        session.write(Finished(early=session.finished_early or None))
        session.close()
        return FINISHED, "finished", session.finished_early
    except StopRequested:
        return STOPPED, "stopped", session.stop.cause
    except RampartError as problem:
        return REFUSED, "failed", str(problem)
    except (OSError, MemoryError, RuntimeError) as problem:
        if session.peers is not None and session.peers.loss:
            return REFUSED, "failed", session.peers.loss
        if (code := disk.exit_code(problem)) is not None:
            return code, "failed", disk.cause(code, problem)
        if out_of_memory(problem):
            return OUT_OF_MEMORY, "failed", ("Out of memory: use fewer channels, smaller batches or another device "
                                             f"({str(problem).splitlines()[0][:200]}).")
        raise


def end_without_peer(session: Session, cause: str) -> None:
    """End the process if another process of the run has ended, while this one waits for it and cannot notice."""
    leave(session, "failed", cause)
    end_at_once(REFUSED)


def leave(session: Session, status: str, cause: str) -> int | None:
    """Record the end of the attempt in results/ended.json, and write an alert if the attempt failed.

    On a full or broken disk, both may be impossible. Then only the exit code of the process shows the outcome. In a folder that
    is no longer the worker's own, nothing is written.

    Args:
        session: session of the attempt (start of the worker).
        status: "finished", "stopped" or "failed".
        cause: a sentence that explains the status; empty for "finished".

    Returns:
        The exit code that says why nothing could be recorded; None if the end is recorded.
    """
    if session.folder_is_gone:
        return NOT_ITS_FOLDER
    try:
        if status == "failed":
            (session.folder.results / ".reserve").unlink(missing_ok=True)
            print(cause, file=sys.stderr, flush=True)
            if session.has_events:
                session.write(Alert(level="error", text=cause))
        session.close()
        session.folder.write_json(session.folder.ended_json, {
            "attempt": session.attempt, "status": status, "cause": cause, "ended": time.time()})
    except OSError as problem:
        if (trouble := disk.exit_code(problem)) is None:
            raise
        print(f"results/ended.json could not be written: {problem}", file=sys.stderr, flush=True)
        return trouble
    return None


def run(folder: RunFolder, lock: Lock, *, number: int, device: str, threads: int, device_name: str = "",
        ticket: str = "", processes: int = 1) -> int:
    """Run one attempt (start of the worker) and write results/ended.json at its end.

    Args:
        folder: folder of the run.
        lock: the lock of the folder, which this process holds.
        number: number of the attempt, from 1.
        device: "cpu" or "cuda:N".
        threads: number of CPU threads.
        device_name: names of the devices among the launcher's, separated by ", "; "" if the only name is `device`.
        ticket: text by which process.json names this worker, if it is a job of a cluster; "" otherwise.
        processes: number of processes that compute the run together, of which this one is the first.

    Returns:
        The exit code for the process.
    """
    folder.check_files()
    make_folder(folder.results, folder.path)
    session = Session(folder, folder.read_run(), attempt=number, device=device, threads=threads, lock=lock,
                      device_name=device_name, ticket=ticket, processes=processes)
    beat(session)
    session.stop.listen()
    stop_while_starting(session)
    try:
        reserve(folder)
        if number == 1:
            session.open_events()
            session.activity = "starting: loading PyTorch"
            session.progress(force=True)
        code, status, cause = attempt(session)
    except OSError as problem:
        if (trouble := disk.exit_code(problem)) is None:
            raise
        code, status, cause = trouble, "failed", disk.cause(trouble, problem)
    except BaseException as problem:
        # For an unexpected error, Python also writes the traceback to log.txt.
        leave(session, "failed", f"Exit code {CRASHED}: {type(problem).__name__}: {problem}")
        raise
    return leave(session, status, cause) or code


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line of the worker process, run the attempt, and return the exit code.

    Raises:
        RunError: process.json does not record this attempt, which means that no supervisor started the process, or the attempt
            has already ended.
    """
    parser = argparse.ArgumentParser(prog="python -m engine.run.worker", description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=Path, required=True, help="folder of all runs")
    parser.add_argument("--run", required=True, help="id of the run")
    parser.add_argument("--attempt", type=int, required=True, help="number of the attempt")
    parser.add_argument("--device", default="cpu", help="cpu or cuda:N")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--processes", type=int, default=1, help="processes that compute the run together")
    parser.add_argument("--go", type=int, default=None, help="file descriptor that signals that process.json is written")
    parser.add_argument("--lock", type=int, default=None, help="file descriptor that holds the lock of the run's folder")
    parser.add_argument("--ticket", default="", help="for jobs of a cluster: text by which process.json records the job")
    options = parser.parse_args(arguments)
    if not wait_for_go(options.go):
        return FINISHED
    folder = RunFolder(options.runs, options.run)
    if options.ticket:
        if not wait_for_record(folder, options.attempt, options.ticket):
            return FINISHED
        if (read_json(folder.exit_json) or {}).get("attempt") == options.attempt:
            return FINISHED  # the attempt was given up before the cluster started its job
        use_log(folder)
    recorded: dict[str, Any] = read_json(folder.process_json) or {}
    if recorded.get("attempt") != options.attempt:
        raise RunError(f"process.json must record attempt {options.attempt} before it starts, "
                       f"got {recorded.get('attempt')}; workers are started by the supervisor.")
    lock = locks.take(folder.lock, required=not options.ticket) if options.lock is None else Lock(folder.lock, options.lock)
    if lock is None:
        print(f"Another worker computes run {folder.id}, so this one has ended. A run has one worker at a time.", file=sys.stderr)
        return NOT_ITS_FOLDER
    if (read_json(folder.ended_json) or {}).get("attempt") == options.attempt:
        raise RunError(f"Attempt {options.attempt} of run {folder.id} has already ended; resume the run for another attempt.")
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} attempt {options.attempt} of {folder.id}: pid {os.getpid()}, "
          f"{recorded.get('device') or options.device}, {options.threads} thread(s)"
          + (f", {options.processes} processes" if options.processes > 1 else ""), flush=True)
    try:
        code = run(folder, lock, number=options.attempt, device=options.device, threads=options.threads,
                   device_name=", ".join(devices_of(recorded)), ticket=options.ticket, processes=options.processes)
    except Exception as problem:
        if lock.is_in_place():
            if (trouble := disk.exit_code(problem)) is None:
                raise
            print(disk.cause(trouble, problem), file=sys.stderr)
            return trouble
        code = NOT_ITS_FOLDER
    if lock.is_in_place():
        return code
    print(GONE.format(folder.id), file=sys.stderr)
    return NOT_ITS_FOLDER


if __name__ == "__main__":
    end_at_once(main())
