"""Names under which the dashboard may be opened.

A foreign site can make its own name resolve to 127.0.0.1 (DNS rebinding). The browser then takes the dashboard for a part of that
site, but it still sends the site's name in the header Host.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from contextlib import suppress
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from engine.errors import ConfigError

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
WILDCARDS = ("", "0.0.0.0", "::")  # addresses that stand for all interfaces
_HOST = re.compile(r"(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<name>[a-z0-9]([a-z0-9._-]*[a-z0-9])?))(?::\d{1,5})?")


def name_in(host: str) -> str:
    """Return the name or address in a Host header, in lower case and without port and brackets; "" if it is malformed."""
    match = _HOST.fullmatch(host.lower())
    return (match["v6"] or match["name"]) if match else ""


def checked_name(name: str) -> str:
    """Check a host name that the user allows, and return it in lower case.

    Raises:
        ConfigError: it is neither a name nor an address, or it has a scheme or a port.
    """
    plain = name.strip().lower()
    with suppress(ValueError):
        return str(ipaddress.ip_address(plain.strip("[]")))
    if not plain or name_in(plain) != plain:
        raise ConfigError(f"An allowed host must be a name or an address without scheme and port, got {name!r}; for example "
                          "studio.example.org.")
    return plain


def allowed_hosts(address: str | None, further: Iterable[str] = ()) -> frozenset[str]:
    """Return the names under which a dashboard may be opened: the loopback names, `address` itself, and further names.

    Raises:
        ConfigError: one of the further names is not valid.
    """
    bound = {address.lower()} if address and address not in WILDCARDS else set()
    return LOOPBACK | bound | {checked_name(name) for name in further}


def is_host_allowed(connection: HTTPConnection, allowed: frozenset[str]) -> bool:
    """Return True if the Host header of a request holds an allowed name, or the address at which the request was received."""
    name = name_in(connection.headers.get("host", ""))
    server = connection.scope.get("server")
    return name in allowed or bool(name and server and name == server[0])


def is_from_elsewhere(connection: HTTPConnection) -> bool:
    """Return True if a page of another origin sent a request, by its Origin header. Without this header, return False."""
    origin = connection.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != connection.headers.get("host", "")
