"""A spare worker: a process that has imported PyTorch and waits to become the worker of a run, which then starts at once.

The launcher of this machine keeps a spare while a launch is expected and nothing computes. A spare knows no run and writes
nothing. It ends when the supervisor ends. Only the process itself imports torch.

    python -m engine.run.launchers.spare --channel N
"""

from __future__ import annotations

import argparse
import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from engine.run import provenance

PROGRAM = (sys.executable, "-m", "engine.run.worker")
MOST_BYTES = 1 << 16  # of a message: the arguments of a worker


class Spare:
    """A spare worker, as the process that has started it sees it.

    Attributes:
        process: the process.
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        """Start a spare. It imports for some seconds, and can become a worker at any time.

        Args:
            variables: environment variables besides those of this process, for example the number of threads. Packages read them
                when they are imported, so a spare is only for runs with the same variables.

        Raises:
            OSError: the process could not be started.
        """
        self._variables, self._code = dict(variables), code_stamp()
        self._channel, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "engine.run.launchers.spare", "--channel", str(theirs.fileno())],
                cwd=provenance.ENGINE.parent, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                start_new_session=True, pass_fds=(theirs.fileno(),), env=os.environ | self._variables)

    def suits(self, variables: Mapping[str, str]) -> bool:
        """Return True if the spare is alive and has these variables, and the code has not changed since its start."""
        return self._variables == dict(variables) and self.process.poll() is None and self._code == code_stamp()

    def become_worker(self, arguments: Sequence[str], *, log: int, go: int, lock: int) -> subprocess.Popen[bytes]:
        """Let the spare run `engine.run.worker`, and return its process. The spare cannot be used again.

        Args:
            arguments: arguments of the worker, without --go and --lock.
            log: descriptor of the file to which the worker prints.
            go: descriptor for --go.
            lock: descriptor for --lock.

        Raises:
            OSError: the spare has just died.
        """
        with self._channel:
            socket.send_fds(self._channel, [json.dumps(list(arguments)).encode()], [log, go, lock])
        return self.process

    def end(self) -> None:
        """End the spare, which has no run."""
        self._channel.close()
        self.process.kill()
        self.process.wait()


def code_stamp() -> int:
    """Return a number that changes when a file of the engine changes, or when a package is installed or removed.

    A worker must compute with the code that is on disk when its run starts, as run.json records it.
    """
    files = [str(path) for path in sorted(provenance.ENGINE.rglob("*")) if path.suffix in (".py", ".c", ".h", ".json")]
    return hash(tuple(map(_stamp, (*files, *sys.path))))


def _stamp(path: str) -> tuple[int, int]:
    try:
        found = os.lstat(path)
    except OSError:  # sys.path may name what does not exist, and a file may just have been deleted
        return 0, 0
    return found.st_mtime_ns, found.st_size


def free_memory() -> int:
    """Return the bytes of memory that this machine, or the control group of this process, can still give."""
    free = int(psutil.virtual_memory().available)
    try:
        most, used = (Path(f"/sys/fs/cgroup/memory.{name}").read_text().strip() for name in ("max", "current"))
        return free if most == "max" else min(free, int(most) - int(used))
    except (OSError, ValueError):
        return free


def main(arguments: Sequence[str] | None = None) -> int:
    """Import what workers need, wait for the arguments of a worker, run it, and return its exit code; 0 if none came."""
    parser = argparse.ArgumentParser(prog="python -m engine.run.launchers.spare", description=__doc__.split("\n")[0])
    parser.add_argument("--channel", type=int, required=True, help="descriptor of the socket from which the arguments come")
    channel = parser.parse_args(arguments).channel
    from engine.run import worker

    is_broken = False
    try:
        for kind in worker.LOOPS:
            if not select.select([channel], [], [], 0)[0]:  # a run does not wait for loops of other kinds
                worker.load(kind)
    except Exception:  # noqa: BLE001 - a new program in this process imports again, and the run's log says what is wrong
        is_broken = True
    with socket.socket(fileno=channel) as connection:
        message, descriptors, _, _ = socket.recv_fds(connection, MOST_BYTES, 3)
    if not message:
        return 0
    log, go, lock = descriptors
    for printed in (1, 2):
        os.dup2(log, printed)
    os.close(log)
    command = [*json.loads(message), "--go", str(go), "--lock", str(lock)]
    if is_broken:
        for inherited in (go, lock):
            os.set_inheritable(inherited, True)
        os.execv(sys.executable, [*PROGRAM, *command])
    return worker.main(command)


if __name__ == "__main__":
    from engine.run.worker import end_at_once

    end_at_once(main())
