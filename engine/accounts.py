"""The users of a dashboard with a login: names, roles and passwords, in `control/users.json` of the runs folder.

Passwords are kept as argon2id hashes, in a file that only its owner may read.
"""

from __future__ import annotations

import os
import re
import time
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.acts import ROLES, act, named
from engine.errors import ConfigError, RunError
from engine.files import atomic_write_json, keep_private, make_folder
from engine.registry import unknown_name
from engine.run.folder import read_json

if TYPE_CHECKING:
    from argon2 import PasswordHasher

SHORTEST, LONGEST = 10, 200  # characters of a password
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


@dataclass(frozen=True)
class Account:
    """A user.

    Attributes:
        name: name of the user.
        role: one of `engine.acts.ROLES`.
        password: argon2id hash of the password, with its parameters and salt.
        changed: Unix time of the last change of the password.
    """

    name: str
    role: str
    password: str
    changed: float


def path_of(runs: Path) -> Path:
    """Return the path of the file that holds the users of a runs folder."""
    return runs / "control" / "users.json"


def accounts(runs: Path) -> dict[str, Account]:
    """Return {name: user} of all users of a runs folder, read from its file.

    Raises:
        RunError: the file cannot be read, is damaged, or may be read by users other than its owner.
    """
    path = path_of(runs)
    try:
        if path.stat().st_mode & 0o077:
            raise RunError(f"The file {path} holds passwords, so only its owner may read it; `chmod 600 {path}` changes that.")
    except FileNotFoundError:
        return {}
    except OSError as problem:
        raise RunError(f"The users could not be read from {path} ({problem.strerror}); change its permissions.") from None
    found = (read_json(path) or {}).get("users")
    try:
        return {name: _account(name, entry) for name, entry in dict(found or {}).items()}
    except (TypeError, ValueError, KeyError):
        raise RunError(f"The file {path} must hold users as `rampart user` writes them, and it does not; restore it, or "
                       "delete it and add the users again.") from None


def _account(name: str, entry: dict[str, Any]) -> Account:
    account = Account(name, str(entry["role"]), str(entry["password"]), float(entry["changed"]))
    if account.role not in ROLES:
        raise ValueError(account.role)
    return account


@act("add user", named("name"), "admin")
def add(runs: Path, name: str, role: str, password: str) -> None:
    """Add a user.

    Raises:
        ConfigError: the name, role or password is not valid, or the name is taken.
        RunError: the file cannot be read or written.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError("The name of a user has 1 to 64 letters, digits or the signs . _ @ - and begins with a letter or "
                          f"digit, got {name!r:.80}.")
    if name in accounts(runs):
        raise ConfigError(f"There is a user {name} already; `rampart user password {name}` changes the password.")
    _change(runs, lambda users: users | {name: Account(name, checked_role(role), _hashed(password), time.time())})


@act("change password", named("name"), "admin")
def set_password(runs: Path, name: str, password: str) -> None:
    """Replace the password of a user. This ends the user's logins.

    Raises:
        ConfigError: there is no such user, or the password is not valid.
        RunError: the file cannot be read or written.
    """
    old = find(runs, name)
    _change(runs, lambda users: users | {name: Account(name, old.role, _hashed(password), time.time())})


@act("change role", named("name"), "admin")
def set_role(runs: Path, name: str, role: str) -> None:
    """Replace the role of a user. The new role applies immediately, even to pages that are already open.

    Raises:
        ConfigError: there is no such user or role.
        RunError: the file cannot be read or written.
    """
    old = find(runs, name)
    _change(runs, lambda users: users | {name: Account(name, checked_role(role), old.password, old.changed)})


@act("remove user", named("name"), "admin")
def remove(runs: Path, name: str) -> None:
    """Remove a user. This ends the user's logins.

    Raises:
        ConfigError: there is no such user.
        RunError: the file cannot be read or written.
    """
    find(runs, name)
    _change(runs, lambda users: {one: account for one, account in users.items() if one != name})


def find(runs: Path, name: str) -> Account:
    """Return the user with this name.

    Raises:
        ConfigError: there is no such user.
        RunError: the file cannot be read.
    """
    users = accounts(runs)
    if name not in users:
        raise ConfigError(unknown_name("user", name, users))
    return users[name]


def checked_role(role: str) -> str:
    """Return `role` unchanged if it is one of `engine.acts.ROLES`.

    Raises:
        ConfigError: there is no such role.
    """
    if role not in ROLES:
        raise ConfigError(unknown_name("role", role, ROLES))
    return role


def fits(account: Account | None, password: str) -> bool:
    """Return True if `password` is the password of the account. Return False if it is not, or if `account` is None.

    The check takes equally long without an account, so that its duration does not reveal which names exist.
    """
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        return _hasher().verify(account.password if account else _of_nobody(), _normal(password)) and account is not None
    except (VerificationError, InvalidHashError):
        return False


@cache
def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher  # only a login and `rampart user` need it

    return PasswordHasher()


@cache
def _of_nobody() -> str:
    return _hasher().hash(os.urandom(16).hex())


def _hashed(password: str) -> str:
    if not SHORTEST <= len(password) <= LONGEST:
        raise ConfigError(f"A password has {SHORTEST} to {LONGEST} characters, got {len(password)}; take for example four "
                          "words.")
    return _hasher().hash(_normal(password))


def _normal(password: str) -> str:
    """Return a password in the Unicode form NFKC, because keyboards encode the same accented letter in different ways."""
    return unicodedata.normalize("NFKC", password[:LONGEST])


def _change(runs: Path, change: Callable[[dict[str, Account]], dict[str, Account]]) -> None:
    users = change(accounts(runs))
    entries = {one.name: {"role": one.role, "password": one.password, "changed": one.changed} for one in users.values()}
    try:
        root = runs.resolve()
        if not path_of(root).exists():
            keep_private(root)
        make_folder(path_of(root).parent, root)
        atomic_write_json(path_of(root), {"schema": 1, "users": entries}, inside=root, mode=0o600)
    except OSError as problem:
        raise RunError(f"The users could not be written to {path_of(runs)} ({problem.strerror}); free some space or make the "
                       "folder writable.") from None
