"""Logins: which browser belongs to which user. They outlive the server, in `control/logins.json` of the runs folder.

The file, which only its owner may read, holds hashes of the cookies. Nobody can log in with a hash.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from engine import accounts
from engine.accounts import Account
from engine.errors import RampartError, RunError
from engine.files import atomic_write_json
from engine.run.folder import read_json

LASTS_S = 12 * 3600.0  # a login ends after this time
MOST = 1000  # logins; the oldest end first
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Login:
    """The name of a user who has logged in, and the Unix time of the login."""

    user: str
    at: float


class Sessions:
    """The logins of a runs folder."""

    def __init__(self, runs: Path) -> None:
        """Read the logins of a runs folder."""
        self._runs, self._path, self._lock = runs, runs / "control" / "logins.json", threading.Lock()
        self._logins = self._read()
        self._accounts: tuple[tuple[int, int] | None, dict[str, Account]] = (None, {})

    def _read(self) -> dict[str, Login]:
        try:
            entries = (read_json(self._path) or {}).get("logins")
            return {str(key): Login(str(one["user"]), float(one["at"])) for key, one in dict(entries or {}).items()}
        except (RunError, TypeError, ValueError, KeyError):
            return {}  # damaged: everybody logs in again

    def begin(self, user: str) -> str:
        """Log a user in, and return the value of the new cookie. Beyond `MOST` logins, the oldest one ends."""
        cookie = secrets.token_urlsafe(32)
        with self._lock:
            now = time.time()
            living = {key: one for key, one in self._logins.items() if now - one.at < LASTS_S}
            self._logins = dict(list(living.items())[-MOST + 1:]) | {_hash(cookie): Login(user, now)}
            self._write()
        return cookie

    def end(self, cookie: str) -> None:
        """Log out the browser with this cookie."""
        with self._lock:
            if self._logins.pop(_hash(cookie), None):
                self._write()

    def user_of(self, cookie: str) -> Account | None:
        """Return the user whose browser has this cookie, or None if the cookie belongs to no login or the login has ended.

        A login ends after `LASTS_S` seconds, or earlier if the user is removed or gets a new password.
        """
        login = self._logins.get(_hash(cookie)) if cookie else None
        if login is None or not 0 <= time.time() - login.at < LASTS_S:
            return None
        account = self.account(login.user)
        return account if account and account.changed <= login.at else None

    def account(self, name: str) -> Account | None:
        """Return the user with this name, or None if there is none.

        The file of users is read again if it has changed. While it cannot be read, the answer is None for every name.
        """
        try:
            stamp = accounts.path_of(self._runs).stat()
            if self._accounts[0] != (stamp.st_mtime_ns, stamp.st_ino):
                self._accounts = (stamp.st_mtime_ns, stamp.st_ino), accounts.accounts(self._runs)
        except (OSError, RampartError) as problem:
            self._accounts = None, {}
            _LOGGER.warning("Nobody can log in: %s", problem)
        return self._accounts[1].get(name)

    def _write(self) -> None:
        """Write the logins to their file. If this fails, the logins stay only in memory, and end when the server ends."""
        try:
            atomic_write_json(self._path, {"logins": {key: asdict(one) for key, one in self._logins.items()}}, mode=0o600)
        except OSError as problem:
            _LOGGER.warning("Logins could not be kept in %s (%s)", self._path, problem)


def _hash(cookie: str) -> str:
    return hashlib.sha256(cookie.encode()).hexdigest()


class Attempts:
    """The failed attempts to log in of the last `WHILE_S` seconds, which limit further attempts.

    An attempt has to wait after `PER_USER` failures for its user, `PER_ADDRESS` from its IP address, or `PER_PAIR` for both.
    """

    WHILE_S = 15 * 60.0
    PER_PAIR, PER_USER, PER_ADDRESS = 5, 50, 30

    def __init__(self) -> None:
        """Begin without attempts."""
        self._failed: list[tuple[float, str, str]] = []

    def wait_s(self, user: str, address: str) -> float:
        """Return how many seconds an IP address has to wait before it may try to log in as `user`; 0.0 if it may try now."""
        now = time.monotonic()
        self._failed = [one for one in self._failed if now - one[0] < self.WHILE_S]
        waits = [self._wait([at for at, who, where in self._failed if (who, where) == (user, address)], self.PER_PAIR),
                 self._wait([at for at, who, _ in self._failed if who == user], self.PER_USER),
                 self._wait([at for at, _, where in self._failed if where == address], self.PER_ADDRESS)]
        return max(waits)

    def _wait(self, times: list[float], most: int) -> float:
        return 0.0 if len(times) < most else max(0.0, times[-most] + self.WHILE_S - time.monotonic())

    def fail(self, user: str, address: str) -> None:
        """Record a failed attempt."""
        self._failed.append((time.monotonic(), user, address))
