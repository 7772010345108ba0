"""The further processes of a run with several processes, as its worker starts, tells and ends them.

The worker is process 0 of the run. It starts the others (`engine.run.peer`) on its own machine, and only it writes files, reads
requests and decides what comes next. The others hold nothing that it lacks, so that they can be killed at any moment.

* The worker tells each peer what to compute by a line on its standard input. When this pipe closes, because the worker has ended
  in whatever way, the peer ends at once. So no peer outlives its worker.
* When a peer ends, the worker's next check raises RunError with the cause. If the worker waits for the peer meanwhile, gloo
  raises an error there; where nothing does, a thread ends the worker after a while.

Imports no torch.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, cast

from engine.errors import RunError
from engine.run.folder import RunFolder

LOOK_S = 0.2
NEWS_S = 2.0  # an error of a connection arrives before the end of the process at its other end is known
# A worker that does not notice the end of a peer waits for a GPU that waits for the peer. A forward pass is shorter.
STUCK_S = 60.0
OUT_OF_MEMORY = 6  # exit code
LOST = "Process {} of {} {}. Resume the run to continue from the last checkpoint."


class Peers:
    """The processes 1, 2 and so on of a run.

    Attributes:
        place: path of the file in which the processes meet.
        count: number of all processes of the run, including the worker.
        loss: why a peer has ended before its time, as a sentence; "" if none has.
    """

    def __init__(self, folder: RunFolder, *, count: int, device: str, threads: int, place: Path) -> None:
        """Start the peers. They connect when the worker does.

        Args:
            folder: folder of the run.
            count: number of all processes of the run.
            device: device of the worker. On GPUs, process N computes on "cuda:N".
            threads: CPU threads of each process.
            place: path of the file in which the processes meet.
        """
        self.place, self.count, self.loss = place, count, ""
        self._is_closed = threading.Event()
        self._processes: list[subprocess.Popen[bytes]] = []
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        try:
            for number in range(1, count):
                command = [sys.executable, "-m", "engine.run.peer", "--runs", str(folder.runs), "--run", folder.id,
                           "--number", str(number), "--processes", str(count), "--threads", str(threads), "--place", str(place),
                           "--device", f"cuda:{number}" if device.startswith("cuda") else device]
                self._processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, env=environment))
        except OSError:
            self.close()
            raise

    @property
    def pids(self) -> list[int]:
        """Ids of the peers."""
        return [process.pid for process in self._processes]

    def tell(self, *words: object) -> None:
        """Tell all peers what to compute next: "step EPOCH POSITION" or "select".

        Raises:
            RunError: a peer has ended.
        """
        line = (" ".join(map(str, words)) + "\n").encode()
        try:
            for process in self._processes:
                pipe = cast(IO[bytes], process.stdin)
                pipe.write(line)
                pipe.flush()
        except OSError:
            self.wait_for_loss()
            raise RunError(self.loss or LOST.format("one", self.count, "has closed its input")) from None

    def check(self) -> None:
        """Check that no peer has ended.

        Raises:
            RunError: a peer has ended. The message says why.
        """
        if self.loss:
            raise RunError(self.loss)

    def wait_for_loss(self) -> None:
        """Set `loss` if a peer has ended or ends shortly."""
        deadline = time.monotonic() + NEWS_S
        while not self.loss and time.monotonic() < deadline:
            self.loss = self._look()
            time.sleep(0.02)

    def watch(self, on_stuck: Callable[[str], None]) -> None:
        """Start a thread that watches the peers.

        Args:
            on_stuck: function that is called with the cause if a peer has ended and the worker does not notice it. It has to end
                the worker.
        """
        def until_closed() -> None:
            while not self._is_closed.wait(LOOK_S):
                loss = self.loss or self._look()
                if loss and not self._is_closed.is_set():
                    self.loss = loss
                    if not self._is_closed.wait(STUCK_S):
                        on_stuck(self.loss)
                    return

        threading.Thread(target=until_closed, name="peers", daemon=True).start()

    def close(self) -> None:
        """Kill the peers, and wait until they have ended."""
        self._is_closed.set()
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
            with contextlib.suppress(OSError):
                cast(IO[bytes], process.stdin).close()

    def _look(self) -> str:
        ended = [(number, code) for number, process in enumerate(self._processes, 2) if (code := process.poll()) is not None]
        # A peer that was killed takes others with it, whose connections break.
        number, code = min(ended, key=lambda one: one[1], default=(0, 0))
        return LOST.format(number, self.count, _how(code)) if ended else ""


def _how(code: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name if -code in signal.valid_signals() else "unknown"
        hint = "; the kernel does this if memory runs out" if name == "SIGKILL" else ""
        return f"was killed by signal {-code} ({name}{hint})"
    if code == OUT_OF_MEMORY:
        return "ran out of memory; use smaller batches, fewer channels or more GPUs"
    return f"ended with exit code {code}, and log.txt says why"


@contextlib.contextmanager
def started(folder: RunFolder, *, count: int, device: str, threads: int) -> Iterator[Peers | None]:
    """Start the further processes of a run, and end them with the `with` block.

    Args:
        folder: folder of the run.
        count: number of all processes of the run; None is yielded for 1.
        device: device of the worker.
        threads: CPU threads of each process.
    """
    if count == 1:
        yield None
        return
    from engine.run.leftovers import scratch_folder  # imports psutil, which a worker alone does not need yet

    with scratch_folder("peers") as scratch:
        peers = Peers(folder, count=count, device=device, threads=threads, place=scratch / "meeting")
        try:
            yield peers
        except RuntimeError:
            peers.wait_for_loss()
            raise
        finally:
            peers.close()
