"""The login of users by name and password, for a dashboard that other machines can reach."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from app.access.pages import LOGIN, LOGOUT, again, asked, form, form_fields, moved, page, paragraph
from app.access.sessions import LASTS_S, Attempts, Sessions
from engine import accounts
from engine.acts import Actor, record

FIELDS = (("user", "Name", "username"), ("password", "Password", "current-password"))


class LoginDoor:
    """The door that asks for a login. It admits users who send name and password, or the cookie that it has set in return."""

    def __init__(self, runs: Path, port: int) -> None:
        """Create the door (the check of logins) of a dashboard.

        Args:
            runs: folder of all runs, which holds the users and their logins.
            port: port of the dashboard, which is part of the cookie's name.
        """
        self._runs, self._sessions, self._cookie = runs, Sessions(runs), f"rampart-{port}"
        self._attempts = Attempts()
        self._one_at_a_time = asyncio.Semaphore(1)  # checking a password takes 64 MB

    def knows(self, connection: HTTPConnection) -> bool:
        """Return True if a request carries the cookie of a user."""
        return self.visitor(connection) is not None

    def visitor(self, connection: HTTPConnection) -> Actor | None:
        """Return the user whose cookie a request carries, or None."""
        return self.visitor_with(connection.cookies.get(self._cookie, ""))

    def visitor_with(self, cookie: str) -> Actor | None:
        """Return the user who is logged in with this cookie, or None."""
        account = self._sessions.user_of(cookie)
        return Actor(account.name, account.role, "dashboard") if account else None

    @property
    def cookie(self) -> str:
        """Name of the cookie."""
        return self._cookie

    async def answer(self, request: Request) -> Response | None:
        """Return the answer to a request, or None to let the request pass to the dashboard.

        A request gets an answer if it logs in or out, if it opens the login page, or if its sender is not logged in.
        """
        path, who = request.scope["path"], self.visitor(request)
        if path == LOGIN and request.method == "POST":
            given = await form_fields(request)
            name, password = given.get("user", "").strip()[:64], given.get("password", "")
            return await self._enter(request, name, password, given.get("next", "/"))
        if path == LOGOUT:
            return self._leave(request, who)
        if who:
            return moved("/") if path == LOGIN else None
        return again(request) or self._ask(request)

    async def _enter(self, request: Request, name: str, password: str, to: str) -> Response:
        address = request.client.host if request.client else ""
        async with self._one_at_a_time:
            if wait := self._attempts.wait_s(name, address):
                return self._ask(request, f"Too many attempts failed. Try again in {math.ceil(wait / 60)} min.", 429, to)
            account = self._sessions.account(name)
            if not await asyncio.to_thread(accounts.fits, account, password) or account is None:
                self._attempts.fail(name, address)
                record(self._runs, "log in", (), refused=True, who=Actor(name, "", address))
                return self._ask(request, "Name and password do not fit together.", to=to)
        record(self._runs, "log in", (), who=Actor(name, account.role, address))
        answer = moved(to)
        answer.set_cookie(self._cookie, self._sessions.begin(name), max_age=int(LASTS_S), httponly=True, samesite="strict",
                          secure=request.url.scheme == "https")
        return answer

    def _leave(self, request: Request, who: Actor | None) -> Response:
        if who is None:
            return moved(LOGIN)
        if request.method != "POST":
            return page("Log out", paragraph(f"You are logged in as {who.name}. Pages that are open in this browser lose their "
                                             "connection.") + form((), "Log out", "/", LOGOUT), 200)
        self._sessions.end(request.cookies.get(self._cookie, ""))
        record(self._runs, "log out", (), who=who)
        answer = moved(LOGIN)
        answer.delete_cookie(self._cookie)
        return answer

    def _ask(self, request: Request, problem: str = "", status: int = 403, to: str = "") -> Response:
        body = paragraph(problem, "problem") + form(FIELDS, "Log in", to or asked(request))
        return page("Log in to Rampart", body, status)
