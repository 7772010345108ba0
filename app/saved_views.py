"""Views of the list of runs that users have saved by name, in the file `views.json` of the runs folder."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl

from app.run_list import PARAMETERS
from engine.acts import act, named
from engine.errors import RunError
from engine.files import atomic_write_json
from engine.run.folder import read_json

FILE = "views.json"
LONGEST_NAME = 60
MOST_VIEWS = 50


def saved_views(runs: Path) -> dict[str, str]:
    """Return {name: query string} of the saved views, in alphabetical order. Entries that are not texts are left out.

    Raises:
        RunError: views.json cannot be read.
    """
    record = read_json(runs / FILE) or {}
    return {name: query for name, query in sorted(record.items()) if isinstance(query, str)}


@act("save view", named("name"))
def save_view(runs: Path, name: str, query: str) -> None:
    """Save a view under a name. A view of that name is replaced.

    Raises:
        RunError: the name is empty or too long, there are too many views, or the file cannot be written.
    """
    name = name.strip()
    if not 0 < len(name) <= LONGEST_NAME:
        raise RunError(f"The name of a view has 1 to {LONGEST_NAME} characters, got {len(name)}; choose another name.")
    views = saved_views(runs) | {name: query}
    if len(views) > MOST_VIEWS:
        raise RunError(f"There are at most {MOST_VIEWS} saved views; delete one first.")
    _write(runs, views)


@act("delete view", named("name"))
def delete_view(runs: Path, name: str) -> None:
    """Delete a saved view, if it exists.

    Raises:
        RunError: the file cannot be read or written.
    """
    _write(runs, {one: query for one, query in saved_views(runs).items() if one != name})


def parameters_of(query: str) -> dict[str, str]:
    """Return the query parameters of a saved view. Those that do not belong to a view are left out."""
    return {name: value for name, value in parse_qsl(query) if name in PARAMETERS}


def _write(runs: Path, views: dict[str, str]) -> None:
    try:
        atomic_write_json(runs / FILE, views)
    except OSError as problem:
        raise RunError(f"{FILE} could not be written to {runs} ({problem.strerror}); free some space or make the folder "
                       "writable, and try again.") from None
