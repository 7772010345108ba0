"""A separate process that answers questions, so that the dashboard's process never imports torch. Imports no torch.

The process reads one JSON object per line from stdin. It answers each with a series of JSON objects on stdout, one per line,
which improve from line to line. If the process is killed at the time limit, the last complete line is the answer. Between two
questions, the process stays alive, because loading PyTorch takes longer than answering.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.errors import first_line

ROOT = Path(__file__).resolve().parents[2]
DONE = {"done": True}  # what the process prints after the answers to a question


class AnsweringProcess:
    """A process that answers requests one after another. It ends when `close` is called, or when the calling process ends.

    Attributes:
        key: value that identifies the subject for which the process was started.
    """

    def __init__(self, module: str, first: Mapping[str, Any], key: object) -> None:
        """Start the process, and send it the first object, to which it prints no answer.

        Args:
            module: full name of the module that the process runs.
            first: JSON object that the process reads first.
            key: value that identifies the subject, for example a search.
        """
        self.key = key
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self._process = subprocess.Popen([sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         stderr=self._errors, text=True, errors="replace", cwd=ROOT, start_new_session=True)
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, name="rampart-whatif", daemon=True).start()
        self._send(first)

    @property
    def is_alive(self) -> bool:
        """True until the process has ended."""
        return self._process.poll() is None

    def ask(self, request: Mapping[str, Any], limit_s: float) -> tuple[list[dict[str, Any]], str]:
        """Send a request, and wait for its answers.

        Args:
            request: JSON object to send.
            limit_s: seconds after which the process is killed.

        Returns:
            answers: the JSON objects that the process printed, in order.
            problem: why the process has failed, or "" if it has not.
        """
        self._send(request)
        answers: list[dict[str, Any]] = []
        deadline = time.monotonic() + limit_s
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                self.close()
                return answers, "it took too long"
            if not line:
                return answers, self._problem()
            if line.endswith("\n") and line.startswith("{"):
                if (answer := json.loads(line)) == DONE:
                    return answers, ""
                answers.append(answer)

    def close(self) -> None:
        """Kill the process."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _send(self, content: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the process has ended, which `ask` notices
            self._process.stdin.write(f"{json.dumps(content)}\n")
            self._process.stdin.flush()

    def _read(self) -> None:
        """Put every line that the process prints into the queue, and "" when its output ends."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def _problem(self) -> str:
        """Return a phrase that says why the process has ended: the last line of its stderr, or its exit code."""
        code = self._process.wait()
        self._errors.seek(0)
        told = self._errors.read().decode(errors="replace").strip().splitlines()
        return first_line(told[-1]) if told else f"exit code {code}"


class Standby:
    """The owner of at most one process that answers questions. The process is kept alive between questions.

    The process ends after `idle_s` seconds without a question. It is replaced when a question has another subject.

    Attributes:
        module: full name of the module that the process runs.
        idle_s: seconds without a question after which the process ends.
    """

    def __init__(self, module: str, idle_s: float = 120.0) -> None:
        self.module, self.idle_s = module, idle_s
        self._turn = threading.Lock()
        self._process: AnsweringProcess | None = None
        self._timer: threading.Timer | None = None

    def prepare(self, first: Mapping[str, Any], key: object) -> None:
        """Start the process for a subject, for example a search, in advance. Return without waiting for it.

        Do nothing if the process runs for this subject already, or if a question is being answered.

        Args:
            first: JSON object that the process reads first.
            key: value that identifies the subject.
        """
        if self._turn.acquire(blocking=False):
            try:
                self._started(first, key)
                self._end_when_idle()
            finally:
                self._turn.release()

    def ask(self, first: Mapping[str, Any], key: object, request: Mapping[str, Any],
            limit_s: float) -> tuple[list[dict[str, Any]], str]:
        """Send a request to the process that serves a subject (for example, one search), and wait for its answers.

        If no process serves this subject, start one. If a request from another thread is being answered, wait until that is
        finished. `prepare` describes `first` and `key`; `AnsweringProcess.ask` describes `request`, `limit_s` and the result.
        """
        with self._turn:
            answers = self._started(first, key).ask(request, limit_s)
            self._end_when_idle()
        return answers

    def close(self) -> None:
        """End the process, if there is one."""
        with self._turn:
            self._end()

    def _started(self, first: Mapping[str, Any], key: object) -> AnsweringProcess:
        if self._process is not None and (self._process.key != key or not self._process.is_alive):
            self._end()
        if self._process is None:
            self._process = AnsweringProcess(self.module, first, key)
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            self._process.close()
        self._process = None

    def _end_when_idle(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(self.idle_s, self.close)
        self._timer.daemon = True
        self._timer.start()
