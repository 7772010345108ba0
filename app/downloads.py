"""Files that a reader downloads. A page registers the function that makes a file, and the server calls it after a click.

Streamlit's own button says only that a file could not be made. Here the server answers with the sentence of the error, and the
page shows it beside the link (`components/downloads.py`). A file is made in a thread, so no page waits for it.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

import streamlit as st
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from engine.errors import RampartError

MOST = 1000  # files of all open pages that are remembered; the oldest are forgotten first
FORGOTTEN = "This page has been open for long, or the dashboard was started again meanwhile. Reload the page and download again."


@dataclass(frozen=True)
class File:
    """A file that can be downloaded.

    Attributes:
        title: text of its link, for example "CSV".
        name: name of the file, with its ending.
        mime: media type.
        make: function that returns the content. It runs in another thread, so it must not use the session of the page.
        help: tooltip of the link.
    """

    title: str
    name: str
    mime: str
    make: Callable[[], bytes]
    help: str = ""


_known: OrderedDict[str, File] = OrderedDict()
_lock = threading.Lock()


def address_of(file: File, key: str) -> str:
    """Register a file and return its address, relative to the page. The address stays the same when the page is redrawn.

    Args:
        file: the file. It replaces an earlier file of this page with the same key and name.
        key: name of the link, unique on the page.
    """
    secret = st.session_state.setdefault("downloads.secret", secrets.token_urlsafe(16))
    token = hashlib.blake2b(f"{secret}/{key}/{file.name}".encode(), digest_size=15).hexdigest()
    with _lock:
        _known[token] = file
        _known.move_to_end(token)
        while len(_known) > MOST:
            _known.popitem(last=False)
    return f"files/{token}/{quote(file.name)}"


def file_at(address: str) -> File | None:
    """Return the file with this address, or None if no such file is registered."""
    with _lock:
        return _known.get(address.split("/")[1])


def named(*parts: str) -> str:
    """Return the stem of a file name: the id in the page's address, if there is one, and `parts`, which name the content.

    For example, "Votes on the edges" on the page of a study gives "20261120-space-digits-7f3a-votes-on-the-edges".
    """
    words = [st.query_params.get("id", ""), *parts]
    return "-".join(dict.fromkeys(filter(None, (re.sub(r"[^\w.+]+", "-", word).strip("-.").lower() for word in words))))[:150]


async def _send(request: Request) -> Response:
    """Return the requested file. If it is unknown or cannot be made, return a sentence that says why, with status 410 or 422."""
    file = file_at(request.url.path[request.url.path.rindex("files/"):])
    if file is None:
        return PlainTextResponse(FORGOTTEN, 410)
    try:
        content = await asyncio.to_thread(file.make)
    except RampartError as refusal:
        return PlainTextResponse(f"{file.name} could not be made. {refusal}", 422)
    return Response(content, media_type=file.mime, headers={
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(file.name)}", "Cache-Control": "no-store"})


ROUTES = [Route("/files/{token}/{name}", _send)]
