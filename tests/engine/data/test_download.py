"""Downloads from a real server on this machine: whole, resumed, broken, wrong, refused, unreachable, onto a full disk."""

from __future__ import annotations

import hashlib
import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from engine.data.dataset import Source
from engine.data.download import CHUNK, download, sha256_of
from engine.errors import DataError

CONTENT = np.random.default_rng(0).bytes(3 * CHUNK + 17)


class Server(ThreadingHTTPServer):
    """A server of CONTENT.

    Attributes:
        ranges: True if it answers a Range request with that part, False if it sends everything.
        breaks_after: number of bytes after which each connection breaks; None for never.
        status: error status sent in place of the content; None for none.
        shift: number of bytes by which a part starts too late.
        asked: the Range header of each request.
    """

    daemon_threads = True
    ranges, breaks_after, status, shift = True, None, None, 0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/archive.bin"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        first = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.server.ranges else 0
        if self.server.status or first >= len(CONTENT):
            self.send_error(self.server.status or 416)
            return
        body = CONTENT[first:]
        self.send_response(206 if asked and self.server.ranges else 200)
        if asked and self.server.ranges:
            self.send_header("Content-Range", f"bytes {first + self.server.shift}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:self.server.breaks_after])


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as one:
        thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield one
        one.shutdown()
        thread.join()


def source_of(server: Server, content: bytes = CONTENT) -> Source:
    return Source("archive.bin", server.url, hashlib.sha256(content).hexdigest(), len(content))


def test_a_file_comes_whole_with_progress_and_only_once(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    path = download(source_of(server), tmp_path / "new", lambda *told: seen.append(told))
    assert path.read_bytes() == CONTENT and [file.name for file in path.parent.iterdir()] == ["archive.bin"]
    assert seen[-1] == ("archive.bin", len(CONTENT), len(CONTENT)) and seen == sorted(seen)
    assert download(source_of(server), tmp_path / "new") == path and len(server.asked) == 1


@pytest.mark.parametrize("ranges", [True, False])
def test_what_came_before_is_gone_on_with(server: Server, tmp_path: Path, ranges: bool) -> None:
    server.ranges = ranges
    (tmp_path / "archive.bin.part").write_bytes(CONTENT[:1000])
    assert download(source_of(server), tmp_path).read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-"]


def test_a_connection_that_breaks_is_taken_up_again(server: Server, tmp_path: Path) -> None:
    server.breaks_after = CHUNK + 5
    assert download(source_of(server), tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, *(f"bytes={count * (CHUNK + 5)}-" for count in (1, 2, 3))]


def test_a_server_that_sends_nothing_more_is_given_up_and_what_came_is_kept(server: Server, tmp_path: Path) -> None:
    server.breaks_after = 0
    (tmp_path / "archive.bin.part").write_bytes(CONTENT[:1000])
    with pytest.raises(DataError, match="cannot be reached.*the partial download is kept"):
        download(source_of(server), tmp_path)
    assert (tmp_path / "archive.bin.part").read_bytes() == CONTENT[:1000]


@pytest.mark.parametrize("before", [b"other", CONTENT[:-1] + b"?", CONTENT + b"more"])
def test_the_beginning_of_another_file_is_thrown_away(server: Server, tmp_path: Path, before: bytes) -> None:
    (tmp_path / "archive.bin.part").write_bytes(before)
    assert download(source_of(server), tmp_path).read_bytes() == CONTENT


def test_a_wrong_checksum_is_refused_and_nothing_stays(server: Server, tmp_path: Path) -> None:
    found = hashlib.sha256(CONTENT).hexdigest()
    with pytest.raises(DataError, match=f"must have the SHA-256 checksum .* has {found}.*run .* again"):
        download(source_of(server, b"x" * len(CONTENT)), tmp_path)
    assert not list(tmp_path.iterdir())


def test_no_more_is_read_than_the_official_file_is_long(server: Server, tmp_path: Path) -> None:
    seen: list[int] = []
    with pytest.raises(DataError, match=f"must have 10 bytes, and .* has {CHUNK:,} bytes.*run .* again"):
        download(source_of(server, b"x" * 10), tmp_path, lambda name, done, total: seen.append(done))
    assert seen == [CHUNK] and not list(tmp_path.iterdir())


def test_a_file_of_the_users_with_a_wrong_checksum_is_left_alone(server: Server, tmp_path: Path) -> None:
    (tmp_path / "archive.bin").write_bytes(b"mine")
    with pytest.raises(DataError, match="delete that file"):
        download(source_of(server), tmp_path)
    assert (tmp_path / "archive.bin").read_bytes() == b"mine" and not server.asked


def test_part_of_another_place_is_refused(server: Server, tmp_path: Path) -> None:
    server.shift = 1
    (tmp_path / "archive.bin.part").write_bytes(CONTENT[:1000])
    with pytest.raises(DataError, match="another part of the file"):
        download(source_of(server), tmp_path)


@pytest.mark.parametrize(("status", "words"), [(404, "returned 404"), (503, "returned 503.*try again later")])
def test_a_refusal_is_a_sentence(server: Server, tmp_path: Path, status: int, words: str) -> None:
    server.status = status
    with pytest.raises(DataError, match=words):
        download(source_of(server), tmp_path)


def test_no_network_is_a_sentence(tmp_path: Path) -> None:
    with closing(socket.socket()) as free:  # a port at which nobody listens
        free.bind(("127.0.0.1", 0))
        source = Source("archive.bin", f"http://127.0.0.1:{free.getsockname()[1]}/archive.bin", "0" * 32, 10)
        with pytest.raises(DataError, match="cannot be reached .*connect to the network.*or put the file into") as refusal:
            download(source, tmp_path)
    assert "\n" not in str(refusal.value)


def test_a_full_disk_is_a_sentence_and_the_download_goes_on_later(server: Server, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * CHUNK, hard))
    try:
        with pytest.raises(DataError, match="could not be.*the partial download is kept: free some space"):
            download(source_of(server), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert download(source_of(server), tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] == f"bytes={2 * CHUNK}-"


def test_a_disk_that_is_too_small_is_refused_before_the_first_byte(server: Server, tmp_path: Path) -> None:
    source = Source("archive.bin", server.url, "0" * 32, 2**62)
    with pytest.raises(DataError, match="MB more on the disk of"):
        download(source, tmp_path)
    assert not server.asked


def test_checksums_are_those_of_hashlib(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(CONTENT)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(CONTENT).hexdigest()
