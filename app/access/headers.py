"""Headers of every answer. They keep browsers from loading files of other sites, and other sites from framing the dashboard."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache, lru_cache
from pathlib import Path

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Send

_INLINE = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def content_security_policy(host: str) -> str:
    """Return the Content-Security-Policy: files come only from the dashboard's own origin, and no page may frame the dashboard.

    Streamlit sets styles on elements, which needs 'unsafe-inline' for styles, and imports the scripts of components as blobs. Its
    page holds one inline script, which is allowed by its hash. Scripts in texts and attributes do not run.

    Args:
        host: host and port of the dashboard's origin. They are added for browsers in which 'self' does not include sockets; "" to
            add nothing.
    """
    parts = {
        "default-src": ["'self'"],
        "script-src": ["'self'", "blob:", *_inline_scripts()],
        "style-src": ["'self'", "'unsafe-inline'"],
        "img-src": ["'self'", "data:", "blob:"],
        "font-src": ["'self'", "data:"],
        "connect-src": ["'self'", *([f"ws://{host}", f"wss://{host}"] if host else [])],
        "worker-src": ["'self'"],
        "object-src": ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    }
    return "; ".join(" ".join([name, *sources]) for name, sources in parts.items())


@cache
def _inline_scripts() -> list[str]:
    """Return the hashes of the inline scripts of Streamlit's page."""
    import streamlit  # slow, and only the server needs it

    index = Path(streamlit.__file__).parent / "static" / "index.html"
    return [_hash_of(script) for script in _INLINE.findall(index.read_text(encoding="utf-8"))]


def _hash_of(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


@lru_cache(maxsize=64)
def headers(host: str = "") -> dict[str, str]:
    """Return {name of a header: value}. `host` is the argument of `content_security_policy`."""
    return {
        "Content-Security-Policy": content_security_policy(host),
        "X-Frame-Options": "DENY",
        "X-Content-Type-Options": "nosniff",
        # Not "no-referrer": with it, browsers hide the origin of a form, by which a foreign form is recognised.
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }


def with_headers(send: Send, host: str) -> Send:
    """Wrap the function `send` of an ASGI application so that it adds the headers for `host` to every answer."""
    async def sending(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            MutableHeaders(scope=message).update(headers(host))
        await send(message)

    return sending
