"""Objects that all pages and browser tabs of this server share: the runs folder, its run log, and the static files."""

from __future__ import annotations

import atexit
import threading
import uuid
from collections.abc import Callable
from functools import cache, lru_cache
from importlib.metadata import distribution
from pathlib import Path

from app.hub import Hub
from engine import requests
from engine.log import RunLog

STATIC = Path(__file__).parent / "static"
PATIENCE_S = 0.4  # a page waits this long for the first reading of the runs before it shows how far that has come
_guard = threading.Lock()
_hubs: dict[Path, Hub] = {}


def runs_root() -> Path:
    """Return the runs folder of this server: $RAMPART_RUNS, or `runs` in the working folder if that variable is unset."""
    return _resolved(requests.runs_root())


@lru_cache(maxsize=64)
def _resolved(path: Path) -> Path:
    return path.resolve()  # looks at every folder above, and a page asks for the runs folder hundreds of times


def run_log() -> RunLog:
    """Return the run log. Its content is at most about two seconds old. All browser sessions may query it.

    Shortly after the start of the server, the run log contains only the runs that have been read so far.
    """
    shared = hub()
    if shared.wait(PATIENCE_S):
        shared.keep_fresh()
    return shared.log


def hub(prepare: Callable[[], None] = lambda: None) -> Hub:
    """Return the shared hub of this server's runs folder. The first call starts to read the runs.

    Args:
        prepare: what the first call hands to the hub (`Hub`): computes in advance what pages show first.
    """
    root = runs_root()
    with _guard:
        if root not in _hubs:
            _hubs[root] = Hub(root, prepare)
            atexit.register(_hubs[root].close)
        return _hubs[root]


def hub_named(name: str) -> Hub | None:
    """Return the hub with this random name, or None if there is none, for example after a restart of the server."""
    return next((one for one in list(_hubs.values()) if one.name == name), None)


def close() -> None:
    """End the threads of all hubs and close their run logs."""
    with _guard:
        for one in _hubs.values():
            one.close()
            one.log.close()
            atexit.unregister(one.close)
        _hubs.clear()


@cache
def prepare_static() -> None:
    """Copy `plotly.min.js` from the plotly package to the static folder, unless it is there already."""
    source = Path(str(distribution("plotly").locate_file("plotly/package_data/plotly.min.js")))  # without an import of plotly
    STATIC.mkdir(exist_ok=True)
    target = STATIC / "plotly.min.js"
    if not target.exists() or target.stat().st_size != source.stat().st_size:
        part = target.with_suffix(f".{uuid.uuid4().hex[:8]}.part")
        part.write_bytes(source.read_bytes())
        part.replace(target)
