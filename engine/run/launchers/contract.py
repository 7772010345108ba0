"""The contract between the supervisor and a launcher, which starts the workers of runs on this machine or elsewhere.

The run's folder is all that a supervisor, a launcher and a worker share. A worker writes its heartbeat, its log and
results/ended.json there, and reads the requests to stop in control/. A launcher therefore does only what depends on where the
worker runs:

* **Start**: it starts `python -m engine.run.worker` for one attempt, and records the attempt in process.json. A worker
  whose attempt is not recorded there does no work, so a supervisor killed during a start cannot leave a second worker running.
* **Log**: what the worker prints is appended to log.txt.
* **Stop**: the worker does this itself when it finds control/stop. The supervisor kills an attempt whose worker has not started.
* **Force**: `Attempt.kill` ends all processes of an attempt.
* **Resume**: a resumed run is a new attempt. It may be started on another device of the same kind.
* **Cause of death**: `Attempt.end` says how an attempt has ended, and whether its machine was lost rather than the run failed.
* **Reconnect**: a worker outlives its supervisor. `Launcher.reconnect` finds it again from process.json alone.
* **Resources**: `Launcher.resources` lists the devices on which runs can start.

`tests/engine/run/launchers/test_contract.py` drives every launcher through all of this. Imports no torch.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from engine.run.device import Resources
from engine.run.folder import RunFolder


@dataclass(frozen=True)
class Start:
    """The parameters of one start of a run's worker. Each start is called an attempt.

    Attributes:
        attempt: number of the attempt, from 1.
        device: name of the device in the launcher's resources, "cpu" or "cuda:N".
        threads: number of CPU threads.
        processes: number of processes that compute the run together. The worker starts the others.
        others: names of the further GPUs of the machine that the run uses, one for each further process; empty on a CPU, and on a
            cluster, which chooses the GPUs of a job.
    """

    attempt: int
    device: str
    threads: int
    processes: int = 1
    others: tuple[str, ...] = ()

    def record(self, launcher: str) -> dict[str, Any]:
        """Return the fields that process.json needs, whatever the launcher. From them, a new supervisor knows what is in use."""
        several = {"processes": self.processes, "devices": [self.device, *self.others]} if self.processes > 1 else {}
        return {"attempt": self.attempt, "launcher": launcher, "started": time.time(), "device": self.device,
                "threads": self.threads} | several


@dataclass(frozen=True)
class End:
    """The end of an attempt, as its launcher sees it. What the worker itself has written to results/ended.json counts more.

    Attributes:
        code: exit code of the worker; -N if signal N ended it; None if unknown.
        cause: why the attempt failed, as a sentence; "" if the launcher knows only the code.
        is_lost: True if the machine was lost or taken away, and the run is not at fault. The supervisor then queues the run for
            another attempt, which continues from the last checkpoint.
    """

    code: int | None
    cause: str = ""
    is_lost: bool = False


class Attempt(Protocol):
    """An attempt that a launcher has started, or has found again. The supervisor asks all of them several times a second."""

    def waits(self) -> str:
        """Return what the worker waits for before it starts, as a sentence; "" if it has started or ended."""
        ...

    def end(self) -> End | None:
        """Return how the attempt has ended, or None as long as its worker waits, computes or may be computing.

        As long as it is None, the run is not started again. The same attempt never computes after an `End` was returned.
        """
        ...

    def kill(self) -> None:
        """Begin to end all processes of the attempt at once. The function may be called again, also after they have ended."""
        ...


class Launcher(Protocol):
    """A way to start workers.

    Attributes:
        name: name in `engine.run.launchers.registry`, which process.json records.
    """

    name: str

    def resources(self) -> Resources:
        """Return the devices on which this launcher can start runs. The call is cheap after the first one."""
        ...

    def start(self, folder: RunFolder, start: Start) -> Attempt:
        """Start a worker for one attempt of a run, and record the attempt in process.json.

        The record holds `Start.record` and what `reconnect` needs.

        Raises:
            RunError: the run cannot be started now, for a reason that the message names.
            OSError: the worker could not be started or recorded. No worker computes.
        """
        ...

    def reconnect(self, folder: RunFolder, process: dict[str, Any]) -> Attempt | None:
        """Return the attempt that an earlier supervisor started with this launcher, whether it has ended or not.

        Args:
            folder: folder of the run.
            process: content of process.json, which describes the attempt.

        Returns:
            The attempt; None if it is not clear whether its worker is alive. The supervisor then asks again some seconds later.
        """
        ...


@runtime_checkable
class GroupLauncher(Launcher, Protocol):
    """A launcher that starts several runs at once, for example as a job array."""

    def start_together(self, starts: Sequence[tuple[RunFolder, Start]]) -> Iterable[Attempt | Exception]:
        """Do what `start` does for several runs. Return the attempt or the error of each run, in their order."""
        ...


@runtime_checkable
class ReadyLauncher(Launcher, Protocol):
    """A launcher that can get ready for a run that is expected to start soon."""

    def expect(self, threads: int | None) -> bool:
        """Get ready if a run is expected to start soon, and undo that otherwise. Return True if the launcher is ready.

        The call must be cheap, because it comes at every tick of the supervisor.

        Args:
            threads: number of CPU threads of the run, 0 for as many as the device gives; None if no run is expected.
        """
        ...


def start_all(launcher: Launcher, starts: Sequence[tuple[RunFolder, Start]]) -> Iterator[Attempt | Exception]:
    """Start workers for several runs, together if the launcher can. Yield the attempt or the error of each, in their order."""
    if isinstance(launcher, GroupLauncher) and len(starts) > 1:
        yield from launcher.start_together(starts)
        return
    for folder, start in starts:
        try:
            yield launcher.start(folder, start)
        except Exception as problem:  # noqa: BLE001 - trouble of one run must not reach the others
            yield problem
