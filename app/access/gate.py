"""The gate through which every request to the dashboard comes: pages, static files, downloads, uploads and sockets."""

from __future__ import annotations

from typing import Protocol

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.access.headers import with_headers
from app.access.hosts import is_from_elsewhere, is_host_allowed
from app.access.pages import page, paragraph

HEALTH = "/_stcore/health"  # says only that the server runs, and needs no token
REFUSED = 4403  # code with which a socket is closed


class Door(Protocol):
    """The interface of doors. A door asks visitors for a token or a login, and decides whose requests pass the gate (`Gate`)."""

    def knows(self, connection: HTTPConnection) -> bool:
        """Return True if the sender of a request may use the dashboard. Except with `OpenDoor`, a cookie must prove this."""

    async def answer(self, request: Request) -> Response | None:
        """Return the answer to a request, for example the page that asks for the login, or None to let the request pass."""


class OpenDoor:
    """A door that lets every request pass without a token or a login."""

    def knows(self, connection: HTTPConnection) -> bool:
        """Return True."""
        return True

    async def answer(self, request: Request) -> Response | None:
        """Return None."""
        return None


class Gate:
    """ASGI middleware in front of the whole dashboard. It refuses some requests, and adds the protective headers to every answer.

    It refuses requests to host names that are not allowed, requests from pages of other origins, and requests of visitors whom
    the door (the check of token or login) does not know.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str], door: Door) -> None:
        """Create a gate in front of an application.

        Args:
            app: the application.
            hosts: host names under which the application may be opened.
            door: the check of token or login, which decides whose requests may pass.
        """
        self._app, self._hosts, self._door = app, hosts, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request or pass it on to the application. The arguments are those of every ASGI application."""
        if scope["type"] == "http":
            request = Request(scope, receive)
            send = with_headers(send, request.headers["host"] if is_host_allowed(request, self._hosts) else "")
            answer = _refusal(request, self._hosts)
            if answer is None and request.scope["path"] != HEALTH:
                answer = await self._door.answer(request)
            await (answer or self._app)(scope, receive, send)
        elif scope["type"] == "websocket":
            connection = HTTPConnection(scope)
            if self._lets_in(connection):
                await self._app(scope, *self._guarded(connection, receive, send))
            else:
                await send({"type": "websocket.close", "code": REFUSED})  # before it is accepted, this is an answer 403
        else:
            await self._app(scope, receive, send)

    def _guarded(self, connection: HTTPConnection, receive: Receive, send: Send) -> tuple[Receive, Send]:
        """Wrap the functions `receive` and `send` of a socket so that they close the socket once its user has logged out."""
        closed = False

        async def receiving() -> Message:
            message = await receive()
            return message if self._door.knows(connection) else {"type": "websocket.disconnect", "code": REFUSED}

        async def sending(message: Message) -> None:
            nonlocal closed
            if not closed and not self._door.knows(connection):
                closed = True
                await send({"type": "websocket.close", "code": REFUSED})
            if not closed:
                await send(message)

        return receiving, sending

    def _lets_in(self, connection: HTTPConnection) -> bool:
        return (is_host_allowed(connection, self._hosts) and not is_from_elsewhere(connection) and self._door.knows(connection))


def _refusal(request: Request, hosts: frozenset[str]) -> Response | None:
    """If a request has a host name outside `hosts` or comes from a page of another origin, return an error page, else None."""
    if not is_host_allowed(request, hosts):
        return page("This name is not allowed", paragraph(
            "The dashboard does not answer under the name in the address, because a foreign site may have made it lead here. "
            "Open it as localhost. If the name is yours, start the dashboard with --allowed-host and the name."))
    if is_from_elsewhere(request):
        return page("This came from another site", paragraph("A page of another site sent this request, so it was not answered. "
                                                              "Open the dashboard in a tab of its own."))
    return None
