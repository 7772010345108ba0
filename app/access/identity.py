"""Who acts in a session of the dashboard, for the check of roles and the audit (`engine.acts`)."""

from __future__ import annotations

import streamlit as st

from app.access.gate import Door
from app.access.login import LoginDoor
from engine import acts
from engine.acts import Actor

NOBODY = Actor("a session that has ended", "", "dashboard")
_logins: list[LoginDoor] = []  # the door of this server, if it has a login


def install(door: Door) -> None:
    """Let the dashboard with this door say who acts."""
    _logins[:] = [door] if isinstance(door, LoginDoor) else []
    acts.identify(_actor)


def user() -> Actor | None:
    """Return the user who has logged in to this page, or None if the dashboard has no login."""
    return _actor() if _logins else None


def _actor() -> Actor:
    """Return the user whose page runs in this thread.

    Without a login, it is the user of the operating system. With one, threads that belong to no page may change nothing.
    """
    for door in _logins:
        return door.visitor_with(st.context.cookies.get(door.cookie, "")) or NOBODY
    return Actor(acts.local_user().name, "admin", "dashboard")
