"""How the dashboard is protected: the settings that `rampart ui` hands to its server, as environment variables."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

from app.access.gate import Door, OpenDoor
from app.access.hosts import allowed_hosts
from app.access.token import TokenDoor, token_of
from engine.errors import ConfigError
from engine.registry import unknown_name

MODE = "RAMPART_ACCESS"
HOSTS = "RAMPART_ALLOWED_HOSTS"  # names separated by commas
MODES = ("token", "open")


def mode() -> str:
    """Return how strangers are kept out: by a "token", or not at all ("open").

    Raises:
        ConfigError: $RAMPART_ACCESS has no such value.
    """
    chosen = os.environ.get(MODE) or "token"
    if chosen not in MODES:
        raise ConfigError(unknown_name(f"value of {MODE}", chosen, MODES))
    return chosen


def hosts(address: str | None) -> frozenset[str]:
    """Return the names that a dashboard at this address answers to.

    Raises:
        ConfigError: $RAMPART_ALLOWED_HOSTS holds something else than names.
    """
    return allowed_hosts(address, filter(None, map(str.strip, os.environ.get(HOSTS, "").split(","))))


def is_loopback(address: str) -> bool:
    """Return True if only this machine can reach an address."""
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return address.lower() == "localhost"


def door(runs: Path, port: int) -> Door:
    """Return the door of a dashboard.

    Raises:
        ConfigError: a setting is not valid.
        RunError: there is no usable token.
    """
    return OpenDoor() if mode() == "open" else TokenDoor(token_of(runs), port)
