"""HTML pages that `Gate` and the doors send in place of the dashboard, for example the form that asks for the login.

They load no other file, because visitors who are not let in get none.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from string import Template
from urllib.parse import parse_qs, quote, urlencode

from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, RedirectResponse

from app.assets import asset

LOGIN, LOGOUT = "/login", "/logout"
LONGEST_FORM = 4096  # bytes
_NO_STORE = {"Cache-Control": "no-store"}


def page(title: str, body: str, status: int = 403, headers: dict[str, str] | None = None) -> HTMLResponse:
    """Return a page with a title (plain text) and a body (HTML)."""
    text = Template(asset("access.html")).substitute(title=escape(title), body=body)
    return HTMLResponse(text, status, headers=_NO_STORE | (headers or {}))


def paragraph(text: str, kind: str = "") -> str:
    """Return plain text as an HTML paragraph of the CSS class `kind`; "" for an empty text."""
    said = ' role="alert"' if kind == "problem" else ""
    return f'<p class="{kind}"{said}>{escape(text)}</p>' if text else ""


def form(fields: Sequence[tuple[str, str, str]], button: str, to: str, action: str = LOGIN) -> str:
    """Return a form as HTML.

    Args:
        fields: (name, label, autocomplete) of each field. A field named "user" shows what is typed; the others are passwords.
        button: text of the button.
        to: address of the page that is opened afterwards.
        action: path to which the form is sent.
    """
    inputs = [f'<label>{escape(label)}<input name="{name}" type="{"text" if name == "user" else "password"}" '
              f'autocomplete="{complete}" required{" autofocus" if place == 0 else ""}></label>'
              for place, (name, label, complete) in enumerate(fields)]
    return (f'<form method="post" action="{action}"><input type="hidden" name="next" value="{escape(to)}">'
            f'{"".join(inputs)}<button>{escape(button)}</button></form>')


def asked(request: HTTPConnection) -> str:
    """Return the path and the query of a request, but without the query parameter `token`.

    For the paths `LOGIN` and `LOGOUT`, return "/".
    """
    path = "/" + request.scope["path"].lstrip("/\\")
    query = urlencode([(name, value) for name, value in request.query_params.multi_items() if name != "token"])
    return "/" if path in (LOGIN, LOGOUT) else quote(path) + (f"?{query}" if query else "")


def local(address: str) -> str:
    """Return an address unchanged if it leads to this dashboard, or "/" if it could lead to another site."""
    return address if address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable() else "/"


def moved(to: str) -> RedirectResponse:
    """Return a redirect to the page `to` of the dashboard, or to "/" if `to` could lead to another site."""
    return RedirectResponse(local(to), 303, headers=_NO_STORE)


def again(request: Request) -> HTMLResponse | None:
    """If a request comes from a link on another site, return a page that opens the same address again; otherwise return None.

    With such a request, browsers withhold the cookie. When this page opens the address, they send it.
    """
    if request.method != "GET" or request.headers.get("sec-fetch-site") != "cross-site":
        return None
    to = escape(asked(request))
    return page("One moment", f'<meta http-equiv="refresh" content="0; url={to}"><p><a href="{to}">Open the page</a></p>')


async def form_fields(request: Request) -> dict[str, str]:
    """Return the fields of a form that was sent, or {} if it is too long."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LONGEST_FORM:
            return {}
    return {name: values[0] for name, values in parse_qs(body.decode(errors="replace"), max_num_fields=8).items()}
