"""How the dashboard is protected: the settings that `rampart ui` hands to its server, as environment variables."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

from app.access.gate import Door, OpenDoor
from app.access.hosts import allowed_hosts
from app.access.login import LoginDoor
from app.access.token import TokenDoor, token_of
from engine.accounts import accounts
from engine.errors import ConfigError, RunError
from engine.registry import unknown_name

MODE = "RAMPART_ACCESS"
HOSTS = "RAMPART_ALLOWED_HOSTS"  # names separated by commas
MODES = ("token", "login", "open")


def mode(address: str | None) -> str:
    """Return how unknown visitors are kept out of a dashboard: by a "token", by a "login", or not at all ("open").

    The environment variable RAMPART_ACCESS chooses. If other machines can reach the address, the result is always "login".

    Raises:
        ConfigError: $RAMPART_ACCESS has another value, or is "open" although other machines can reach the address.
    """
    chosen = os.environ.get(MODE) or "token"
    if chosen not in MODES:
        raise ConfigError(unknown_name(f"value of {MODE}", chosen, MODES))
    if is_loopback(address or ""):
        return chosen
    if chosen == "open":
        raise ConfigError(f"Without token and login, the dashboard must be at a loopback address, got {address}; leave out "
                          "--no-token or --address.")
    return "login"


def hosts(address: str | None) -> frozenset[str]:
    """Return the host names under which a dashboard at this address may be opened.

    Raises:
        ConfigError: $RAMPART_ALLOWED_HOSTS contains something that is not a host name.
    """
    return allowed_hosts(address, filter(None, map(str.strip, os.environ.get(HOSTS, "").split(","))))


def is_loopback(address: str) -> bool:
    """Return True if only this machine can reach an address."""
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return address.lower() == "localhost"


def door(runs: Path, address: str | None, port: int) -> Door:
    """Return the door of a dashboard: the check that asks for a token, for a login or for nothing, depending on `mode`.

    Raises:
        ConfigError: a setting is not valid.
        RunError: there is no usable token, or there are no users.
    """
    chosen = mode(address)
    if chosen == "login":
        check_users(runs)
        return LoginDoor(runs, port)
    return OpenDoor() if chosen == "open" else TokenDoor(token_of(runs), port)


def check_users(runs: Path) -> None:
    """Check that the runs folder has users, because nobody could log in otherwise.

    Raises:
        RunError: there are no users, or they cannot be read.
    """
    if not accounts(runs):
        raise RunError(f"A dashboard that other machines can reach needs a login, and {runs} has no users; add one with "
                       "`rampart user add NAME --role admin`.")
