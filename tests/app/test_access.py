"""Who may use the dashboard: foreign host names, pages of other origins and strangers get nothing from a real server."""

from __future__ import annotations

import http.client
import os
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from starlette.requests import HTTPConnection
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from app.access.headers import headers as protective
from app.access.hosts import allowed_hosts, is_host_allowed, name_in
from app.access.pages import local
from app.access.settings import MODE, door, is_loopback, mode
from app.access.token import VARIABLE, token_of
from engine.errors import ConfigError, RunError
from tests.browser.conftest import Dashboard, start_dashboard

HEALTH, STREAM = "/_stcore/health", "/_stcore/stream"
ADDRESSES = ("/", "/run?id=1", "/index.html", "/_stcore/host-config", "/_stcore/agent/openapi.json", "/app/static/plotly.min.js",
             "/media/x.csv", "/files/0/x.csv", "/_stcore/upload_file/1/2", "/static/js/x.js")
SOCKETS = (STREAM, "/live/abc")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """A dashboard with a token over an empty folder."""
    dashboard = start_dashboard(tmp_path_factory.mktemp("access") / "runs", access="token")
    yield dashboard
    dashboard.process.terminate()
    dashboard.process.wait(timeout=20)


@pytest.fixture(scope="module")
def token(server: Dashboard) -> str:
    return (server.runs / "control" / "token").read_text().strip()


@pytest.fixture(scope="module")
def cookie(server: Dashboard, token: str) -> dict[str, str]:
    """The header of a browser that has opened the link."""
    return {"Cookie": ask(server, f"/?token={token}").getheader("Set-Cookie", "").split(";")[0]}


def ask(server: Dashboard, address: str, headers: Mapping[str, str] = {}, form: str | None = None) -> http.client.HTTPResponse:
    """Send a request, with a form if one is given, and return the answer."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=20)
    kind = {} if form is None else {"Content-Type": "application/x-www-form-urlencoded"}
    connection.request("GET" if form is None else "POST", address, form, dict(headers) | kind)
    return connection.getresponse()


def socket_status(server: Dashboard, address: str, headers: Mapping[str, str] = {}) -> int:
    """Open a socket and return 101 if it was accepted, else the status of the refusal."""
    own = urlsplit(server.url)
    others = {name: value for name, value in headers.items() if name != "Host"}
    plug = socket.create_connection((own.hostname, own.port), timeout=20)
    try:  # the client makes the header Host from the address
        with connect(f"ws://{headers.get('Host', own.netloc)}{address}", sock=plug, additional_headers=others, proxy=None):
            return 101
    except InvalidStatus as refusal:
        return refusal.response.status_code


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_stranger_gets_only_the_form(server: Dashboard, address: str) -> None:
    answer = ask(server, address)
    text = answer.read().decode()
    assert answer.status == 403 and 'name="token"' in text and "control/token" in text
    assert answer.getheader("Cache-Control") == "no-store"


@pytest.mark.parametrize("address", SOCKETS)
def test_a_stranger_opens_no_socket(server: Dashboard, address: str, cookie: dict[str, str]) -> None:
    assert socket_status(server, address) == 403
    assert socket_status(server, address, {"Cookie": cookie["Cookie"][:-1] + "!"}) == 403
    assert socket_status(server, address, cookie) == 101


def test_the_link_sets_a_cookie_and_removes_the_token_from_the_address(server: Dashboard, token: str,
                                                                       cookie: dict[str, str]) -> None:
    answer = ask(server, f"/run?id=a%26b&token={token}&tab=log")
    assert (answer.status, answer.getheader("Location")) == (303, "/run?id=a%26b&tab=log")
    words = answer.getheader("Set-Cookie", "").lower()
    assert "httponly" in words and "samesite=strict" in words and "path=/" in words and token.lower() not in words
    assert ask(server, "/run?id=1", cookie).status == 200
    assert ask(server, f"/runs?token={token}", cookie).getheader("Location") == "/runs"


def test_the_cookie_needs_tls_if_a_proxy_on_this_machine_speaks_it(server: Dashboard, token: str) -> None:
    cookies = [ask(server, f"/?token={token}", {"X-Forwarded-Proto": scheme}).getheader("Set-Cookie", "")
               for scheme in ("http", "https")]
    assert ["secure" in one.lower() for one in cookies] == [False, True]


def test_the_form_takes_the_token(server: Dashboard, token: str) -> None:
    answer = ask(server, "/login", form=f"token={token}&next={quote('/runs?view=1')}")
    assert (answer.status, answer.getheader("Location")) == (303, "/runs?view=1") and answer.getheader("Set-Cookie")
    assert ask(server, "/login", form=f"token={token}&next=//evil.example").getheader("Location") == "/"


@pytest.mark.parametrize("shown", ["", "x", "\N{SNOWMAN}", "a" * 9000])
def test_a_wrong_token_opens_nothing(server: Dashboard, shown: str) -> None:
    for answer in (ask(server, f"/?token={quote(shown)}"), ask(server, "/login", form=f"token={quote(shown)}")):
        assert answer.status == 403 and answer.getheader("Set-Cookie") is None
        assert "not the token" in answer.read().decode()


@pytest.mark.parametrize("name", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "127.0.0.1@evil.example", ""])
def test_a_foreign_name_gets_nothing_even_with_the_cookie(server: Dashboard, cookie: dict[str, str], name: str) -> None:
    port = urlsplit(server.url).port
    for address in (*ADDRESSES, HEALTH):
        answer = ask(server, address, cookie | {"Host": f"{name}:{port}"})
        assert answer.status == 403 and "--allowed-host" in answer.read().decode()
    if name and "@" not in name:
        assert [socket_status(server, one, cookie | {"Host": f"{name}:{port}"}) for one in SOCKETS] == [403, 403]


def test_the_names_of_the_loopback_interface_are_allowed_on_any_port(server: Dashboard, cookie: dict[str, str]) -> None:
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1:9", "[::1]:8501"):
        assert ask(server, "/", cookie | {"Host": host}).status == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1"])
def test_a_page_of_another_origin_reaches_nothing(server: Dashboard, cookie: dict[str, str], token: str, origin: str) -> None:
    assert ask(server, "/", cookie | {"Origin": origin}).status == 403
    assert ask(server, "/login", {"Origin": origin}, form=f"token={token}").status == 403
    assert [socket_status(server, one, cookie | {"Origin": origin}) for one in SOCKETS] == [403, 403]


def test_every_answer_carries_the_headers(server: Dashboard, cookie: dict[str, str]) -> None:
    for address in (*ADDRESSES, HEALTH):
        for own, answer in ((urlsplit(server.url).netloc, ask(server, address)), ("localhost:9", ask(server, address, cookie | {
                "Host": "localhost:9"})), ("", ask(server, address, {"Host": "evil.example"}))):
            assert {name: answer.getheader(name) for name in protective()} == protective(own)
    policy = protective()["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in policy and "unsafe-eval" not in policy and "http" not in policy
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]


def test_the_health_of_the_server_needs_no_token(server: Dashboard) -> None:
    assert (ask(server, HEALTH).status, ask(server, HEALTH).read()) == (200, b"ok")


def test_only_the_owner_may_enter_the_folder_and_read_the_token(server: Dashboard) -> None:
    assert stat.S_IMODE(server.runs.stat().st_mode) == 0o700
    assert stat.S_IMODE((server.runs / "control" / "token").stat().st_mode) == 0o600


def stranger_reads(path: Path) -> bool:
    """Return True if another user of this machine can read a file."""
    command = ["cat", str(path)]
    return subprocess.run(command, user=65534, group=65534, extra_groups=[], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_another_user_of_the_machine_reads_neither_runs_nor_token() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        runs = Path(folder) / "runs"
        runs.mkdir(mode=0o755)
        (runs / "run.json").write_text("{}")
        before = stranger_reads(runs / "run.json")
        token_of(runs)
        after = [stranger_reads(runs / name) for name in ("run.json", "control/token")]
        runs.chmod(0o755)
        shared = [stranger_reads(runs / name) for name in ("run.json", "control/token")]
    assert (before, after, shared) == (True, [False, False], [True, False])


def test_the_token_stays_and_permissions_changed_later_are_left_alone(tmp_path: Path) -> None:
    first = token_of(tmp_path)
    tmp_path.chmod(0o750)
    assert token_of(tmp_path) == first and stat.S_IMODE(tmp_path.stat().st_mode) == 0o750


@pytest.mark.parametrize(("content", "mode", "words"), [("a" * 40, 0o644, "other users"), ("a b", 0o600, "something else"),
                                                        ("", 0o600, "something else")])
def test_an_unsafe_token_file_is_refused(tmp_path: Path, content: str, mode: int, words: str) -> None:
    path = tmp_path / "control" / "token"
    path.parent.mkdir()
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(RunError, match=words):
        token_of(tmp_path)


def test_a_token_behind_a_link_or_pipe_is_refused(tmp_path: Path) -> None:
    (tmp_path / "control").mkdir()
    os.mkfifo(tmp_path / "control" / "token")
    with pytest.raises(RunError, match="plain file"):
        token_of(tmp_path)


def test_the_environment_gives_the_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "a" * 20)
    assert token_of(tmp_path / "runs") == "a" * 20 and not (tmp_path / "runs").exists()
    for bad in ("", "short", "a" * 20 + "\n", "a b" * 9):
        monkeypatch.setenv(VARIABLE, bad)
        with pytest.raises(ConfigError, match="16 to 128"):
            token_of(tmp_path)


def test_names_in_a_host_header() -> None:
    assert [name_in(host) for host in ("A.example:80", "[::1]:80", "10.0.0.1")] == ["a.example", "::1", "10.0.0.1"]
    assert not any(map(name_in, ("", ":80", "a b", "a/b", "a:b", "a:80:80", "x@y", "[::1", "a\n", "-a", "a,b")))


@pytest.mark.parametrize(("host", "server", "allowed"), [
    ("10.0.0.5:8501", ("10.0.0.5", 8501), True), ("[fd00::5]:8501", ("fd00::5", 8501), True),
    ("10.0.0.6", ("10.0.0.5", 8501), False),
    ("", ("", 8501), False), ("a.example", None, False)])
def test_the_address_that_a_request_came_in_at_is_allowed(host: str, server: tuple[str, int] | None, allowed: bool) -> None:
    connection = HTTPConnection({"type": "http", "headers": [(b"host", host.encode())], "server": server})
    assert is_host_allowed(connection, allowed_hosts("0.0.0.0")) is allowed


def test_further_names_are_allowed_by_a_setting() -> None:
    assert allowed_hosts("10.1.2.3", ["Studio.example.org"]) - allowed_hosts(None) == {"10.1.2.3", "studio.example.org"}
    assert allowed_hosts("0.0.0.0") == allowed_hosts(None) == {"localhost", "127.0.0.1", "::1"}
    for bad in ("http://a", "a:80", "*.example.org", "a/b", "a b"):
        with pytest.raises(ConfigError, match="without scheme"):
            allowed_hosts(None, [bad])


@pytest.mark.parametrize(("chosen", "address", "expected"), [
    ("", "127.0.0.1", "token"), ("open", "localhost", "open"), ("login", "::1", "login"), ("", "0.0.0.0", "login"),
    ("token", "10.0.0.1", "login"), ("", None, "login"), ("open", "0.0.0.0", "must be at a loopback address"),
    ("open", None, "must be at a loopback address"), ("closed", "127.0.0.1", "closed")])
def test_an_address_that_others_reach_always_has_a_login(monkeypatch: pytest.MonkeyPatch, chosen: str, address: str | None,
                                                         expected: str) -> None:
    monkeypatch.setenv(MODE, chosen)
    try:
        found = mode(address)
    except ConfigError as refusal:
        found = str(refusal)
    assert expected in found


def test_a_login_without_users_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="rampart user add NAME --role admin"):
        door(tmp_path, "0.0.0.0", 8501)


def test_addresses_of_this_machine() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost", "[::1]")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.org", "")))


def test_only_addresses_of_the_dashboard_are_opened_after_the_form() -> None:
    assert local("/runs?a=1") == "/runs?a=1"
    assert {local(bad) for bad in ("//evil", "/\\evil", "http://evil", "", "evil", "/a\r\nb")} == {"/"}
