"""The verbs `user`, which changes the users of a dashboard with a login, and `audit`, which prints the acts of users."""

from __future__ import annotations

import getpass
import json
import sys
import time
from pathlib import Path

from engine import accounts
from engine.acts import ROLES, ROLES_IN_WORDS, audit
from engine.cli.listing import table_text
from engine.cli.parser import verb_parser
from engine.errors import ConfigError
from engine.requests import runs_root

ACTIONS = ("add", "list", "role", "password", "remove")


def user(verb: str, arguments: list[str]) -> int:
    """List or change the users of the dashboard."""
    parser = verb_parser(verb)
    parser.epilog = "Roles: " + "; ".join(f"{role} {words}" for role, words in ROLES_IN_WORDS.items()) + "."
    parser.add_argument("action", choices=ACTIONS, help="what to do; add and password ask for a password, or read it from a pipe")
    parser.add_argument("name", nargs="?", help="name of the user")
    parser.add_argument("new_role", nargs="?", metavar="ROLE", help="the new role, for the action role")
    parser.add_argument("--role", choices=ROLES, default="viewer", help="role of a new user (default: viewer)")
    options = parser.parse_args(arguments)
    if (options.action == "list") != (options.name is None) or (options.action == "role") != (options.new_role is not None):
        parser.error("The action list takes no name, role takes a name and a role, and the others take one name")
    runs = runs_root(options.runs)
    if options.action == "list":
        return _listed(list(accounts.accounts(runs).values()), options.json)
    _change(runs, options.action, options.name, options.new_role or options.role)
    return _listed([one for one in accounts.accounts(runs).values() if one.name == options.name], options.json)


def _change(runs: Path, action: str, name: str, role: str) -> None:
    if action == "add":
        runs.mkdir(parents=True, exist_ok=True)
        accounts.add(runs, name, role, _password())
    elif action == "password":
        accounts.find(runs, name)  # asks for no password of an unknown user
        accounts.set_password(runs, name, _password())
    elif action == "role":
        accounts.set_role(runs, name, role)
    else:
        accounts.remove(runs, name)


def _listed(users: list[accounts.Account], as_json: bool) -> int:
    if as_json:
        print(json.dumps([{"name": one.name, "role": one.role, "changed": one.changed} for one in users]))
    else:
        print(table_text([[one.name, one.role, ROLES_IN_WORDS[one.role]] for one in users]) or "No users.")
    return 0


def _password() -> str:
    """Read a new password: typed twice by the user, or read from a pipe.

    Raises:
        ConfigError: the user has typed two different passwords.
    """
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    first = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != first:
        raise ConfigError("The two passwords differ; run the command again.")
    return first


def audit_lines(verb: str, arguments: list[str]) -> int:
    """Print the audit of a runs folder: which user did what, and when."""
    parser = verb_parser(verb)
    parser.add_argument("--by", metavar="NAME", help="only acts of this user")
    parser.add_argument("--about", metavar="ID", help="only acts on this run, study or user")
    parser.add_argument("--last", type=int, default=50, metavar="N", help="at most this many, the newest (default: 50)")
    options = parser.parse_args(arguments)
    if options.last < 1:
        parser.error(f"argument --last: must be 1 or more, got {options.last}")
    lines = [line for line in audit(runs_root(options.runs)) if options.by in (None, line["by"])
             and (options.about is None or options.about in line["about"])][-options.last:]
    if options.json:
        print(json.dumps(lines))
    else:
        print(table_text([[_plain(word) for word in _words(line)] for line in lines]) or "Nothing was done yet.")
    return 0


def _words(line: dict[str, object]) -> list[str]:
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(str(line["at"]))))
    act = ("refused: " if line.get("refused") else "") + str(line["act"])
    return [at, str(line["by"]), str(line.get("via", "")), act, _few(line)]


def _plain(text: str) -> str:
    """Return a text with question marks for control characters, because anybody may have typed it as a name at the login."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def _few(line: dict[str, object]) -> str:
    about = line["about"] if isinstance(line["about"], list) else []
    more = len(about) - 3 + int(str(line.get("more", 0)))
    return " ".join(map(str, about[:3])) + (f" and {more} more" if more > 0 else "")
