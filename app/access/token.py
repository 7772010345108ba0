"""The token of a runs folder: a secret with which the folder's owner opens the dashboard, as in Jupyter.

The token is in the file `control/token` of the runs folder, which only the owner may read. A browser sends the token once, with
the link that `rampart ui` prints. From then on it sends a cookie that is computed from the token and does not reveal the token.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from app.access.pages import LOGIN, again, asked, form, form_fields, moved, page, paragraph
from engine.errors import ConfigError, RunError
from engine.files import atomic_write_bytes, keep_private, make_folder, open_to_read

VARIABLE = "RAMPART_TOKEN"
KEPT_S = 30 * 24 * 3600  # a browser keeps the cookie so long
LONGEST = 1000  # bytes that are read of the file
_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,128}")


def token_of(runs: Path) -> str:
    """Return the token of a runs folder: $RAMPART_TOKEN if it is set, else the content of `control/token`.

    If there is no such file, create it, and let only the owner of the runs folder enter the folder. Other users of the machine
    then cannot bypass the dashboard and read the files. Permissions that the owner changes later are left alone.

    Raises:
        ConfigError: $RAMPART_TOKEN is not a token.
        RunError: the file cannot be read or created, does not hold a token, or other users can read it.
    """
    if (given := os.environ.get(VARIABLE)) is not None:
        if not _TOKEN.fullmatch(given):
            raise ConfigError(f"{VARIABLE} must hold 16 to 128 letters, digits, - or _, got {len(given)} characters; for example "
                              "`openssl rand -hex 24`.")
        return given
    runs = runs.resolve()
    path = runs / "control" / "token"
    try:
        return _read(path) if path.exists() else _create(path, runs)
    except OSError as problem:
        raise RunError(f"The token must be in a file that can be read and written, and {path} is not ({problem.strerror}); "
                       f"change the permissions of the folder, or set {VARIABLE}.") from None


def _read(path: Path) -> str:
    with open_to_read(path) as file:
        mode, text = os.fstat(file.fileno()).st_mode, file.read(LONGEST).decode(errors="replace").strip()
    if mode & 0o077 or not _TOKEN.fullmatch(text):
        why = "other users can read it" if mode & 0o077 else "it holds something else"
        raise RunError(f"The file {path} must hold a token that only you can read, and {why}; delete it, and the next start "
                       "makes a new one.")
    return text


def _create(path: Path, runs: Path) -> str:
    runs.mkdir(parents=True, exist_ok=True)
    keep_private(runs)
    make_folder(path.parent, runs)
    token = secrets.token_urlsafe(32)
    atomic_write_bytes(path, f"{token}\n".encode(), inside=runs, mode=0o600)
    return token


class TokenDoor:
    """The door that asks for the token. It admits browsers that send the token, or the cookie that it has set in return."""

    def __init__(self, token: str, port: int) -> None:
        """Create the door (the check of the token) of the dashboard at `port`.

        The cookie's name contains the port, because a browser sends the cookies of a host to all its ports.
        """
        self._token = token.encode()
        self._cookie = f"rampart-{port}"
        self._proof = hmac.new(self._token, b"rampart cookie", hashlib.sha256).hexdigest()

    def knows(self, connection: HTTPConnection) -> bool:
        """Return True if a request carries the cookie that this door sets."""
        return hmac.compare_digest(connection.cookies.get(self._cookie, "").encode(), self._proof.encode())

    async def answer(self, request: Request) -> Response | None:
        """Return the answer to a request, or None to let the request pass to the dashboard.

        A request with the cookie passes, unless it opens the login page or a link with the token: then it is redirected. If a
        request without the cookie carries the right token, it is redirected and gets the cookie. Any other request gets the page
        that asks for the token.
        """
        if request.scope["path"] == LOGIN and request.method == "POST":
            fields = await form_fields(request)
            return self._enter(request, fields.get("token", "").strip(), fields.get("next", "/"))
        if (shown := request.query_params.get("token")) is not None:
            return moved(asked(request)) if self.knows(request) else self._enter(request, shown, asked(request))
        if self.knows(request):
            return moved("/") if request.scope["path"] == LOGIN else None
        return again(request) or self._ask(request)

    def _enter(self, request: Request, shown: str, to: str) -> Response:
        if not hmac.compare_digest(shown.encode(), self._token):
            return self._ask(request, "This is not the token of this dashboard.")
        answer = moved(to)
        answer.set_cookie(self._cookie, self._proof, max_age=KEPT_S, httponly=True, samesite="strict",
                          secure=request.url.scheme == "https")
        return answer

    def _ask(self, request: Request, problem: str = "") -> Response:
        steps = ("<p>Open the link that <code>rampart ui</code> has printed, or paste the token here. It is the text after "
                 "<code>token=</code>, and the content of the file <code>control/token</code> in the runs folder.</p>")
        return page("Rampart asks for its token", steps + paragraph(problem, "problem") +
                    form([("token", "Token", "current-password")], "Open", asked(request)))
