"""A client of the dashboard without a browser. It shows pages as a browser tab does, and measures the server alone.

It speaks Streamlit's own protocol: a request to run the script of a page, and the elements that the script sends until it ends.
"""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import psutil
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

PATIENCE_S = 120.0
LARGEST_BYTES = 64 << 20  # of one message


@dataclass
class Drawn:
    """What one run of the script of a page, or of one of its panels, cost and sent.

    Attributes:
        clock_s: time from the request to the end of the script, in seconds.
        cpu_s: CPU time that the server used meanwhile, all threads together, in seconds.
        sent: bytes that the server sent.
        panels: {topic: ids of the panels that show it}.
        values: {name: revision} of the charts and texts that the server keeps up to date without running a panel again.
        news: path of the connection over which the server tells that data have changed; "" if the page has no live panel.
        problems: texts of error boxes and tracebacks.
    """

    clock_s: float = 0.0
    cpu_s: float = 0.0
    sent: int = 0
    panels: dict[str, list[str]] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    news: str = ""
    problems: list[str] = field(default_factory=list)


class Tab:
    """A browser tab without a browser: one session of a dashboard."""

    def __init__(self, url: str, server: psutil.Process) -> None:
        """Open a session.

        Args:
            url: address of the dashboard, for example "http://127.0.0.1:8501".
            server: process of the dashboard.
        """
        self.url = url.replace("http", "ws", 1)
        self.server = server
        self._page = ("", "")
        self._open = ExitStack()
        self._connection: ClientConnection = self._open.enter_context(connect(
            f"{self.url}/_stcore/stream", subprotocols=[Subprotocol("streamlit")], origin=Origin(url), max_size=LARGEST_BYTES))

    def __enter__(self) -> Self:
        """Return the tab itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the session."""
        self._open.close()

    def visit(self, page: str, query: str = "") -> Drawn:
        """Show a page, and return what that cost.

        Args:
            page: name of the page in the address, for example "runs".
            query: the rest of the address, for example "id=20261118-0906-arnas-digits-7f3a".
        """
        self._page = (page, query)
        return self._run("")

    def redraw(self, panel: str) -> Drawn:
        """Run one panel of the page again, and return what that cost. `panel` is one of the ids in `Drawn.panels`."""
        return self._run(panel)

    def _run(self, panel: str) -> Drawn:
        request = BackMsg()
        request.rerun_script.page_name, request.rerun_script.query_string = self._page
        request.rerun_script.fragment_id = panel
        request.rerun_script.context_info.url = f"{self.url.replace('ws', 'http', 1)}/{self._page[0]}?{self._page[1]}"
        drawn, started, cpu = Drawn(), time.perf_counter(), cpu_s(self.server)
        self._connection.send(request.SerializeToString())
        while True:
            answer = self._connection.recv(timeout=PATIENCE_S)
            message = ForwardMsg.FromString(answer if isinstance(answer, bytes) else answer.encode())
            drawn.sent += len(answer)
            _note(drawn, message)
            if message.WhichOneof("type") == "script_finished" and message.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN:
                break
        drawn.clock_s, drawn.cpu_s = time.perf_counter() - started, cpu_s(self.server) - cpu
        return drawn


def cpu_s(process: psutil.Process) -> float:
    """Return the CPU time that a process has used so far, in seconds."""
    times = process.cpu_times()
    return float(times.user + times.system)


def _note(drawn: Drawn, message: ForwardMsg) -> None:
    """Add what a message tells about panels and problems."""
    if message.WhichOneof("type") != "delta" or message.delta.WhichOneof("type") != "new_element":
        return
    element = message.delta.new_element
    kind = element.WhichOneof("type")
    if kind == "exception":
        drawn.problems.append(element.exception.message)
    if kind != "bidi_component":
        return
    data: dict[str, Any] = json.loads(element.bidi_component.json or "{}")
    if element.bidi_component.component_name.endswith("rampart_ticker"):
        drawn.news = data["url"]
        drawn.panels.setdefault(data["topic"], []).append(message.delta.fragment_id)
    elif data.get("feed"):
        drawn.values[data["feed"]] = data["revision"]
