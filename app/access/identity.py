"""The user who acts in each session of the dashboard. `engine.acts` needs this user to check roles and to write the audit log."""

from __future__ import annotations

import streamlit as st

from app.access.gate import Door
from app.access.login import LoginDoor
from engine import acts
from engine.acts import Actor

NOBODY = Actor("a session that has ended", "", "dashboard")
_logins: list[LoginDoor] = []  # the door of this server, if it has a login


def install(door: Door) -> None:
    """Tell `engine.acts` how to find the acting user.

    If `door` is a login, this is the user whose cookie the page has sent, else the user of the operating system.
    """
    _logins[:] = [door] if isinstance(door, LoginDoor) else []
    acts.identify(_actor)


def user() -> Actor | None:
    """Return the user of the page that runs in this thread, or None if the dashboard has no login.

    If the login has ended, return `NOBODY`.
    """
    return _actor() if _logins else None


def _actor() -> Actor:
    """Return the user whose page runs in this thread.

    If the dashboard has no login, this is the user of the operating system, as an admin. If it has a login and the user has been
    logged out or the thread belongs to no page, return `NOBODY`, who may do nothing.
    """
    for door in _logins:
        return door.visitor_with(st.context.cookies.get(door.cookie, "")) or NOBODY
    return Actor(acts.local_user().name, "admin", "dashboard")
