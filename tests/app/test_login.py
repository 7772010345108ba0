"""The login: nobody gets in without name and password, logins end, and a viewer's pages change nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from app import fetching, saved_views
from app.access import sessions
from app.access.login import LoginDoor
from app.access.sessions import Attempts, Sessions
from app.components import launch_dataset
from engine import accounts, acts
from engine.acts import Actor, RoleError, audit
from tests.app.conftest import Samples
from tests.app.pages import open_page
from tests.app.test_access import ADDRESSES, SOCKETS, STREAM, ask, socket_status
from tests.browser.conftest import Dashboard, start_dashboard

PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """A dashboard with a login and two users."""
    runs = tmp_path_factory.mktemp("login") / "runs"
    runs.mkdir()
    for name, role in (("ada", "viewer"), ("bob", "admin")):
        accounts.add(runs, name, role, PASSWORD)
    dashboard = start_dashboard(runs, access="login")
    yield dashboard
    dashboard.process.terminate()
    dashboard.process.wait(timeout=20)


def log_in(server: Dashboard, name: str = "ada", password: str = PASSWORD) -> dict[str, str]:
    """Log in, and return the header of the browser; {} if it was refused."""
    answer = ask(server, "/login", form=f"user={name}&password={quote(password)}&next=/runs")
    cookie = answer.getheader("Set-Cookie", "")
    return {"Cookie": cookie.split(";")[0]} if answer.status == 303 and "HttpOnly" in cookie else {}


def test_a_stranger_sees_only_the_login(server: Dashboard) -> None:
    for address in ADDRESSES:
        answer = ask(server, address)
        assert answer.status == 403 and 'name="password"' in answer.read().decode()
    assert [socket_status(server, one) for one in SOCKETS] == [403, 403]
    assert log_in(server, password="wrong") == log_in(server, "nobody") == {}


def is_closed(socket: ClientConnection) -> bool:
    """Return True as soon as the server closes a socket that sends something."""
    socket.send(b"")
    with pytest.raises(ConnectionClosed):
        while True:
            socket.recv(timeout=20)
    return True


def test_a_user_gets_in_and_logging_out_closes_open_sockets(server: Dashboard) -> None:
    cookie = log_in(server)
    assert ask(server, "/", cookie).status == 200 and ask(server, "/login", cookie).getheader("Location") == "/"
    assert ask(server, "/logout", cookie).status == 200  # only a form, which another site cannot send
    with connect(f"{server.url.replace('http', 'ws')}{STREAM}", additional_headers=cookie, proxy=None) as socket:
        assert ask(server, "/logout", cookie, form="").getheader("Location") == "/login"
        assert is_closed(socket)
    assert ask(server, "/", cookie).status == 403
    assert [line["act"] for line in audit(server.runs) if line["by"] == "ada" and not line.get("refused")][-2:] == [
        "log in", "log out"]


def test_a_removed_user_and_one_with_a_new_password_are_out_at_once(server: Dashboard) -> None:
    accounts.add(server.runs, "cy", "viewer", PASSWORD)
    cookie = log_in(server, "cy")
    assert ask(server, "/", cookie).status == 200
    accounts.set_password(server.runs, "cy", "another long one")
    assert ask(server, "/", cookie).status == 403 and not log_in(server, "cy")
    cookie = log_in(server, "cy", "another long one")
    with connect(f"{server.url.replace('http', 'ws')}{STREAM}", additional_headers=cookie, proxy=None) as socket:
        accounts.remove(server.runs, "cy")
        assert is_closed(socket)
    assert ask(server, "/", cookie).status == 403


def test_a_changed_role_counts_at_once(tmp_path: Path) -> None:
    accounts.add(tmp_path, "ada", "viewer", PASSWORD)
    cookie = Sessions(tmp_path).begin("ada")
    door = LoginDoor(tmp_path, 8501)
    assert door.visitor_with(cookie) == Actor("ada", "viewer", "dashboard")
    accounts.set_role(tmp_path, "ada", "admin")
    assert door.visitor_with(cookie) == Actor("ada", "admin", "dashboard")


def test_many_wrong_passwords_lock_a_user_for_that_address(server: Dashboard) -> None:
    accounts.add(server.runs, "dan", "viewer", PASSWORD)
    for _ in range(Attempts.PER_PAIR):
        assert ask(server, "/login", form="user=dan&password=wrong").status == 403
    answer = ask(server, "/login", form=f"user=dan&password={quote(PASSWORD)}")
    assert answer.status == 429 and "Try again in 15 min" in answer.read().decode()
    assert log_in(server)


def test_many_failures_lock_an_address_and_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = Attempts()
    for number in range(Attempts.PER_ADDRESS):
        attempts.fail(f"user{number}", "10.0.0.1")
    assert attempts.wait_s("ada", "10.0.0.1") > 800 and not attempts.wait_s("ada", "10.0.0.2")
    for number in range(Attempts.PER_USER):
        attempts.fail("ada", f"10.1.0.{number}")
    assert attempts.wait_s("ada", "10.0.0.3") > 800 and not attempts.wait_s("bob", "10.0.0.3")
    later = time.monotonic() + Attempts.WHILE_S
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert not attempts.wait_s("ada", "10.0.0.1")


def test_logins_outlive_the_server_and_end_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accounts.add(tmp_path, "ada", "viewer", PASSWORD)
    cookie = Sessions(tmp_path).begin("ada")
    kept = tmp_path / "control" / "logins.json"
    assert cookie not in kept.read_text() and kept.stat().st_mode & 0o077 == 0
    again = Sessions(tmp_path)
    assert again.user_of(cookie) and not again.user_of(cookie + "x") and not again.user_of("")
    monkeypatch.setattr(sessions, "LASTS_S", 0.0)
    assert not again.user_of(cookie)
    kept.write_text("{")
    assert not Sessions(tmp_path).user_of(cookie)


def test_the_buttons_of_a_viewer_are_disabled_and_say_why(samples: Samples) -> None:
    acts.identify(lambda: Actor("ada", "viewer", "dashboard"))
    try:
        launch, run = open_page("launch"), open_page("run", id=samples.ids["running"])
        queue = open_page("queue")
    finally:
        acts.identify(acts.local_user)
    assert any("needs the role runner, and ada is viewer" in one.value for one in launch.text)
    for page, key, role in ((launch, "launch.go", ""), (run, "run_stop", "runner"), (queue, "queue.pause", "admin")):
        button = page.button(key=key)
        assert button.disabled and f"needs the role {role}" * bool(role) in str(button.help)


@pytest.mark.parametrize(("function", "arguments", "name"), [
    (saved_views.save_view, ("mine", "q=arnas"), "save view"), (saved_views.delete_view, ("mine",), "delete view"),
    (fetching.fetch, ("cifar10",), "fetch dataset"), (launch_dataset._begin, ("cifar10", "CIFAR-10"), "fetch dataset")])
def test_an_act_of_the_dashboard_refuses_a_viewer(tmp_path: Path, function: Any, arguments: tuple[str, ...], name: str) -> None:
    acts.identify(lambda: Actor("ada", "viewer", "dashboard"))
    try:
        with pytest.raises(RoleError, match="needs the role runner, and ada is viewer"):
            function(tmp_path, *arguments)
    finally:
        acts.identify(acts.local_user)
    (line,) = audit(tmp_path)
    assert (line["by"], line["act"], line["refused"]) == ("ada", name, True)
    assert [path.name for path in tmp_path.iterdir()] == ["control"]


def test_the_table_above_holds_every_act_of_the_dashboard() -> None:
    written = sum(path.read_text(encoding="utf-8").count("\n@act(") for path in Path(saved_views.__file__).parent.rglob("*.py"))
    assert written == 4
