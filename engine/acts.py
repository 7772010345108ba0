"""Acts: functions that change something for a user. Each call is checked against the user's role and recorded in the audit.

The dashboard finds the acting user of each of its sessions (`identify`). On the command line, the user of the operating system
acts, and may do everything, because this user owns the files. The audit is the file `control/audit.jsonl` in the runs folder.
It has one line of JSON for each act.
"""

from __future__ import annotations

import functools
import getpass
import inspect
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from engine.errors import RampartError
from engine.files import make_folder, open_to_append, open_to_read

ROLES = ("viewer", "runner", "admin")  # each may do what those before it may do
ROLES_IN_WORDS = {"viewer": "looks at everything", "runner": "also launches, stops, marks and imports runs",
                  "admin": "also deletes for good, and changes the queue's slots and pauses"}
VARIABLE = "RAMPART_ACTOR"  # names the user for whom the dashboard has started a process
MOST_NAMED = 100  # ids in one audit line
P = ParamSpec("P")
R = TypeVar("R")
About = Callable[[Mapping[str, Any], Any], Iterable[str] | None]
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Actor:
    """A user who acts.

    Attributes:
        name: name of the user.
        role: one of `ROLES`, or "" for a visitor who is not logged in and may do nothing.
        via: where the user acts: "dashboard", "command line", or the network address from which somebody logs in.
    """

    name: str
    role: str
    via: str


class RoleError(RampartError):
    """The refusal of an act that the user's role does not permit."""


def local_user() -> Actor:
    """Return the user of the operating system or, in a process that the dashboard has started, the dashboard's user.

    The dashboard names its user in the environment variable RAMPART_ACTOR. The role is "admin" in both cases.
    """
    try:
        own = getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user without a name
        own = str(os.geteuid())
    given = os.environ.get(VARIABLE)
    return Actor(given, "admin", "dashboard") if given else Actor(own, "admin", "command line")


_identify: Callable[[], Actor] = local_user
_nested: ContextVar[bool] = ContextVar("nested", default=False)  # True within an act


def identify(who: Callable[[], Actor]) -> None:
    """Set the function that returns the acting user in this process."""
    global _identify
    _identify = who


def actor() -> Actor:
    """Return the acting user."""
    return _identify()


def why_not(role: str) -> str:
    """Return a sentence that says why the acting user does not have the rights of `role`; "" if the user has them."""
    who = actor()
    if who.role and ROLES.index(who.role) >= ROLES.index(role):
        return ""
    if not who.role:
        return "This session has ended; reload the page and log in again."
    return f"This needs the role {role}, and {who.name} is {who.role}; an administrator can change that (rampart user role)."


def require(role: str) -> None:
    """Check that the acting user has the rights of a role.

    Raises:
        RoleError: the user has a lower role.
    """
    if reason := why_not(role):
        raise RoleError(reason)


def named(parameter: str) -> About:
    """Return a function for the argument `about` of `act`.

    The function returns the ids in the act's argument named `parameter`.
    """
    return lambda arguments, _: _texts(arguments[parameter])


def returned(_: Mapping[str, Any], result: Any) -> Iterable[str]:
    """Return the ids in the result of an act. This function can be the argument `about` of `act`."""
    return _texts(result)


def unrecorded(function: Callable[P, R]) -> Callable[P, R]:
    """Wrap a function so that the acts that it calls are neither checked nor recorded.

    The supervisor uses this when it carries out an earlier act of a user, for example when it launches the runs of a study. The
    audit already contains the earlier act.
    """
    @functools.wraps(function)
    def quiet(*args: P.args, **kwargs: P.kwargs) -> R:
        token = _nested.set(True)
        try:
            return function(*args, **kwargs)
        finally:
            _nested.reset(token)

    return quiet


def act(name: str, about: About, role: str = "runner") -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that makes a function an act. The function must have an argument `runs`, the folder of all runs.

    If the acting user has a lower role than `role`, the decorated function writes a line about the refusal to the audit and
    raises RoleError. Otherwise it does its work and, if it succeeds, writes one line. If an act calls another act, only the outer
    one is checked and recorded.

    Args:
        name: name of the act in the audit, for example "stop".
        about: function that takes {argument of the act: value} and the result of the act. It returns the ids that the act
            concerns, or None if nothing was done, so that no line is written.
        role: lowest role that may call the function.
    """
    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature, work = inspect.signature(function), unrecorded(function)

        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            if _nested.get():
                return function(*args, **kwargs)
            arguments = signature.bind(*args, **kwargs)
            arguments.apply_defaults()
            runs = Path(arguments.arguments["runs"])
            if reason := why_not(role):
                record(runs, name, (), refused=True)
                raise RoleError(reason)
            result = work(*args, **kwargs)
            if (ids := about(arguments.arguments, result)) is not None:
                record(runs, name, ids)
            return result

        return checked

    return decorate


def audit_file(runs: Path) -> Path:
    """Return the path of the audit file of a runs folder."""
    return runs / "control" / "audit.jsonl"


def record(runs: Path, name: str, about: Iterable[str], *, refused: bool = False, who: Actor | None = None) -> None:
    """Append a line to the audit. If it cannot be written, for example on a full disk, only log a warning.

    Args:
        runs: folder of all runs. If it does not exist, nothing is written.
        name: name of the act, for example "stop".
        about: ids of the runs, studies or users concerned.
        refused: True if the act was refused, for example because the user's role did not permit it.
        who: the user whose act this was; None for the acting user.
    """
    who, ids = who or actor(), list(about)
    line = {"at": round(time.time(), 3), "by": who.name, "role": who.role, "via": who.via, "act": name, "about": ids[:MOST_NAMED]}
    line |= {"more": len(ids) - MOST_NAMED} if len(ids) > MOST_NAMED else {}
    line |= {"refused": True} if refused else {}
    if not runs.is_dir():
        return
    runs = runs.resolve()
    try:
        make_folder(audit_file(runs).parent, runs)
        descriptor = open_to_append(audit_file(runs), runs, mode=0o600)
        try:
            os.write(descriptor, (json.dumps(line) + "\n").encode())
        finally:
            os.close(descriptor)
    except OSError as problem:
        _LOGGER.warning("The audit line %s could not be written (%s).", line, problem)


def audit(runs: Path) -> list[dict[str, Any]]:
    """Return the lines of the audit, oldest first. Lines that are damaged are left out.

    Raises:
        OSError: the file cannot be read.
    """
    if not audit_file(runs).exists():
        return []
    with open_to_read(audit_file(runs)) as file:
        found = [_parsed(line) for line in file]
    return [line for line in found if line]


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) and {"at", "by", "act", "about"} <= set(value) else {}


def _texts(value: Any) -> list[str]:
    """Return the texts in `value` (a text, or a list that may contain further lists) as a flat list without repetitions."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, Iterable):
        return []
    return list(dict.fromkeys(text for one in value for text in _texts(one)))
