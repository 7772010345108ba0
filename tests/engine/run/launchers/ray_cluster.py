"""A Ray cluster on this machine, in a network namespace of its own: a head that computes nothing, and nodes with one CPU each.

Ray listens on all interfaces. The namespace has none but its own loopback, and `Relay` is the only way in.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

NEEDED = ("ray", "unshare", "nsenter", "ip")
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin:/sbin"
HEAD = "10.255.254.1"
PORT = 8265  # of the dashboard in the namespace
CLONE_NEWNET = 0x40000000
# The addresses of the nodes. Of a namespace that has only 127.0.0.1, getaddrinfo finds no address.
START = """
ip link set lo up || exit 1
for number in $(seq 1 50); do ip addr add 10.255.254.$number/32 dev lo || exit 1; done
exec sleep infinity
"""


def missing() -> str:
    """Return why no cluster can be started here; "" if one can."""
    lacking = [one for one in NEEDED if shutil.which(one, path=PATH) is None]
    if "ray" in lacking:
        return "A Ray cluster needs the extra ray: .venv/bin/pip install -r requirements-ray.txt"
    if lacking:
        return f"A Ray cluster of its own needs {', '.join(lacking)} (Debian: iproute2 util-linux)."
    if os.geteuid() or subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode:
        return "A Ray cluster of its own needs root and network namespaces."
    return ""


class Relay:
    """A port of this machine's loopback that leads to a port of a network namespace.

    Attributes:
        address: its address, such as "http://127.0.0.1:40123".
    """

    def __init__(self, namespace: int, port: int) -> None:
        """Start to relay to `port` on the loopback of the namespace of the process with the id `namespace`."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._namespace, self._port = namespace, port
        threading.Thread(target=self._enter, daemon=True).start()

    def _enter(self) -> None:
        """Enter the namespace, in which new sockets of this thread then are. The listener stays outside."""
        with Path(f"/proc/{self._namespace}/ns/net").open("rb") as place:
            if ctypes.CDLL(None, use_errno=True).setns(place.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        async with await asyncio.start_server(self._connect, sock=self._listener) as server:
            await server.serve_forever()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            there, back = await asyncio.open_connection("127.0.0.1", self._port)
            await asyncio.gather(_copy(reader, back), _copy(there, writer))
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


class RayCluster:
    """A running cluster.

    Attributes:
        address: address of its dashboard, on this machine.
        token: the token that the cluster asks for; "" if it asks for none.
        nodes: {IP address: the first process of the node}, without the head.
    """

    def __init__(self, folder: Path, token: str = "") -> None:
        """Start a cluster with two nodes. Its files are in `folder`.

        Raises:
            RuntimeError: it does not start within three minutes.
        """
        self.folder, self.token = folder, token
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}
        self._first = subprocess.Popen(["unshare", "--net", "sh", "-c", START], env=os.environ | {"PATH": PATH},
                                       start_new_session=True)
        self._started = [self._first]
        try:
            self._wait(lambda: "10.255.254.50" in subprocess.run(
                ["nsenter", f"--net=/proc/{self._first.pid}/ns/net", "ip", "addr"], capture_output=True, text=True,
                env=os.environ | {"PATH": PATH}, check=False).stdout)
            self.address = Relay(self._first.pid, PORT).address
            # Sockets have long names below the folder, and the kernel takes 107 characters.
            self._start(HEAD, "--head", "--port=6379", "--dashboard-host=127.0.0.1", f"--dashboard-port={PORT}", "--num-cpus=0",
                        f"--temp-dir=/tmp/ray-{self._first.pid}")
            self._wait(lambda: len(self.alive()) == 1)
            self.add_node()
            self.add_node()
        except BaseException:
            self.end()
            raise

    def add_node(self, tries: int = 4) -> str:
        """Start a node with one CPU, and return its IP address once the cluster knows it.

        Ray gives a node 30 s to start, which it may need more than once on a busy machine.
        """
        ip = f"10.255.254.{len(self._started) + 1}"
        self.nodes[ip] = self._start(ip, f"--address={HEAD}:6379", "--num-cpus=1")
        try:
            self._wait(lambda: ip in self.alive())
            return ip
        except RuntimeError:
            self.kill_node(ip)
            if tries == 1:
                raise
            return self.add_node(tries - 1)

    def kill_node(self, ip: str) -> None:
        """Kill all processes of a node at once, as if it had lost its power."""
        _kill_tree(self.nodes.pop(ip))

    def node_of(self, process: psutil.Process) -> str:
        """Return the IP address of the node on which a process runs."""
        above = {one.pid for one in process.parents()}
        return next(ip for ip, first in self.nodes.items() if first.pid in above)

    def alive(self) -> list[str]:
        """Return the IP addresses of the living nodes, with the head's."""
        with contextlib.suppress(OSError, ValueError):
            found = [one.get("raylet") or {} for one in self.ask("/nodes?view=summary")["data"]["summary"]]
            return [one["nodeManagerAddress"] for one in found if one.get("state") == "ALIVE"]
        return []

    def ask(self, path: str) -> Any:
        """Return an answer of the dashboard."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        with urllib.request.urlopen(urllib.request.Request(self.address + path, headers=headers), timeout=20) as answer:
            return json.loads(answer.read())

    def end(self) -> None:
        """End the cluster: all processes in its namespace, among which are those that lost their parents."""
        namespace = os.readlink(f"/proc/{self._first.pid}/ns/net")
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if os.readlink(f"/proc/{process.pid}/ns/net") == namespace != os.readlink("/proc/self/ns/net"):
                    process.kill()
        for started in self._started:
            started.kill()
            started.wait(20)
        shutil.rmtree(f"/tmp/ray-{self._first.pid}", ignore_errors=True)

    def _start(self, ip: str, *options: str) -> subprocess.Popen[bytes]:
        """Start a node in the namespace, and return its first process."""
        words = ["nsenter", f"--net=/proc/{self._first.pid}/ns/net", "ray", "start", f"--node-ip-address={ip}", *options,
                 "--num-gpus=0", "--object-store-memory=80000000", "--disable-usage-stats", "--block"]
        authentication = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token} if self.token else {}
        with (self.folder / f"{ip}.log").open("wb") as log:
            process = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                       start_new_session=True, env=os.environ | {"PATH": PATH} | authentication)
        self._started.append(process)
        return process

    def _wait(self, is_done: Callable[[], bool], patience_s: float = 180.0) -> None:
        deadline = time.monotonic() + patience_s
        while not is_done():
            if self._started[-1].poll() is not None:
                raise RuntimeError(f"A process of the cluster has ended: {self._started[-1].args}; see {self.folder}.")
            if time.monotonic() > deadline:
                raise RuntimeError(f"The cluster must start within {patience_s:.0f} s; see {self.folder}.")
            time.sleep(0.5)


def _kill_tree(first: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(first.pid)
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                process.kill()
    first.wait(20)


@contextlib.contextmanager
def running(folder: Path, token: str = "") -> Iterator[RayCluster]:
    """Yield a cluster with two nodes, and end it."""
    cluster = RayCluster(folder, token)
    try:
        yield cluster
    finally:
        cluster.end()
