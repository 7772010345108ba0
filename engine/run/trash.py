"""The trash of a runs folder: runs that are out of sight, can be brought back, and take up space until they are deleted.

A run in the trash is its whole folder, moved from `runs/<id>` to `runs/trash/<id>`. So nothing lists, counts, resumes or compares
it. A run that others need (its children, for example) can be moved only together with them. Imports no torch.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.acts import act
from engine.errors import RunError
from engine.files import atomic_write_json, sync
from engine.run.bulk import Outcome, done_runs, each
from engine.run.folder import ID_PATTERN, RunFolder, check_id, read_json, run_ids
from engine.run.state import compute

TRASH = "trash"
RECORD = "trashed.json"  # in the folder of a run in the trash: when it was moved there
# Settings that name other runs. The run cannot be understood or repeated without them.
REFERRING = ("inherit_from", "transfer_from", "against")


@dataclass(frozen=True)
class Trashed:
    """A run in the trash.

    Attributes:
        id: id of the run.
        title: title of the run, or its id if run.json cannot be read.
        kind: kind of the run; "" if unknown.
        trashed: time at which the run was moved to the trash, in unix seconds; 0 if unknown.
        size: size of its files in bytes.
    """

    id: str
    title: str
    kind: str
    trashed: float
    size: int


def trash_of(runs: Path | str) -> Path:
    """Return the folder that holds the runs in the trash of a runs folder. It may not exist."""
    return Path(runs) / TRASH


def trashed_runs(runs: Path | str) -> list[Trashed]:
    """Return the runs in the trash, most recently trashed first."""
    root = trash_of(runs)
    return sorted((_trashed(RunFolder(root, run_id)) for run_id in run_ids(root)), key=lambda one: (-one.trashed, one.id))


def size_of(path: Path) -> int:
    """Return the size of all files in a folder in bytes. Files that are deleted during the call are left out."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except OSError:
                continue
    return total


def dependents(root: Path | str, ids: Iterable[str]) -> list[str]:
    """Return the ids of all other runs in the folder `root` that need one of the given runs, directly or through another run."""
    return sorted(_above(_users(root), ids))


def needed_by_others(root: Path | str, ids: Iterable[str]) -> list[str]:
    """Return the ids of those given runs that a run outside `ids` needs, directly or through another given run."""
    users, inside, needed = _users(root), set(ids), set[str]()
    while found := {one for one in inside if users.get(one, set()) - inside}:
        needed |= found
        inside -= found
    return sorted(needed)


@act("trash", done_runs)
def put(runs: Path | str, ids: Iterable[str], *, with_dependents: bool = False, kept: Mapping[str, str] | None = None
        ) -> list[Outcome]:
    """Move runs to the trash, and return one outcome for each.

    Args:
        runs: folder of all runs.
        ids: ids of the runs.
        with_dependents: True to also move all runs that need the given ones. If False, a run that others need is not moved.
        kept: {run id: reason} of runs that must stay, for example because a study uses them.
    """
    asked = list(dict.fromkeys(ids))
    if with_dependents:
        asked += [one for one in dependents(runs, asked) if one not in asked]
    return _take(Path(runs), asked, lambda run_id: _why_not_trash(runs, run_id) or (kept or {}).get(run_id, ""),
                 "take them along (--with-dependents), or archive this run instead.", lambda run_id: _put(runs, run_id))


@act("restore", done_runs)
def restore(runs: Path | str, ids: Iterable[str]) -> list[Outcome]:
    """Bring runs back from the trash, with the runs in the trash that they need. Return one outcome for each run brought back."""
    root = trash_of(runs)
    users = _users(root)
    wanted, waiting = [], list(dict.fromkeys(ids))
    while waiting:
        wanted.append(one := waiting.pop(0))
        waiting += [needed for needed, by in users.items() if one in by and needed not in (*wanted, *waiting)
                    and (root / needed).is_dir()]
    return each(reversed(wanted), lambda run_id: _restore(runs, run_id))


@act("delete", done_runs, "admin")
def delete(runs: Path | str, ids: Iterable[str]) -> list[Outcome]:
    """Delete runs in the trash for good, and return one outcome for each."""
    root = trash_of(runs)

    def why_not(run_id: str) -> str:
        return "" if _is_in(root, run_id) else f"Only runs in the trash can be deleted, {run_id} is not there; trash it first."

    return _take(root, list(dict.fromkeys(ids)), why_not, "delete them as well, or restore them first.",
                 lambda run_id: _delete(root, run_id))


def _why_not_trash(runs: Path | str, run_id: str) -> str:
    """Return the reason why the state of a run keeps it out of the trash, or ""."""
    folder = RunFolder(runs, run_id)
    if not folder.path.is_dir():
        return f"There is no run {run_id!r} in {folder.runs}; `rampart runs` lists the ids."
    if folder.exists() and not (state := compute(folder, with_parent=False)).is_over:
        return f"A run can go to the trash when it is over, {run_id} is {state.status}; stop it first."
    return ""


def _take(root: Path, asked: list[str], why_not: Callable[[str], str], advice: str, move: Callable[[str], str]) -> list[Outcome]:
    """Move or delete runs, each after all runs that need it, and return one outcome for each.

    Args:
        root: folder in which the runs are.
        asked: ids of the runs.
        why_not: function that takes a run id and returns the reason why that run itself must stay, or "".
        advice: end of the sentence about a run that others need, after "N runs need it; ".
        move: function that takes a run id, moves or deletes the run, and returns a few words about it.
    """
    users = _users(root)
    refusals = _refusals(users, asked, why_not, advice)

    def action(run_id: str) -> str:
        if run_id in refusals:
            raise RunError(refusals[run_id])
        return move(run_id)

    return each(sorted(asked, key=lambda run_id: (len(_above(users, [run_id])), run_id)), action)


def _refusals(users: Mapping[str, set[str]], asked: list[str], why_not: Callable[[str], str], advice: str) -> dict[str, str]:
    """Return {run id: reason} for each run in `asked` that must not go to the trash.

    `users` is {run id: ids of the runs that need this run}. `_take` describes the other arguments.
    """
    reasons = {run_id: reason for run_id in asked if (reason := _invalid(run_id) or why_not(run_id))}
    while True:  # a run that stays keeps the runs that it needs
        going = set(asked) - set(reasons)
        needed = {run_id: left for run_id in going if (left := sorted(users.get(run_id, set()) - going))}
        if not needed:
            return reasons
        reasons |= {run_id: f"{len(left)} other run{'s need' if len(left) > 1 else ' needs'} {run_id}, for example {left[0]}; "
                            f"{advice}" for run_id, left in needed.items()}


def _above(users: Mapping[str, set[str]], ids: Iterable[str]) -> set[str]:
    """Return the ids of all other runs that need one of the given runs, directly or through another run."""
    given = set(ids)
    found, waiting = set(given), list(given)
    while waiting:
        new = users.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found - given


def _invalid(run_id: str) -> str:
    try:
        check_id(run_id)
    except RunError as refusal:
        return str(refusal)
    return ""


def _users(root: Path | str) -> dict[str, set[str]]:
    """Return {run id: ids of the runs in the folder `root` that need this run}."""
    users: dict[str, set[str]] = {}
    for run_id in run_ids(root):
        for needed in _needs(_document(RunFolder(root, run_id))):
            users.setdefault(needed, set()).add(run_id)
    return users


def _needs(document: Mapping[str, Any]) -> set[str]:
    """Return the ids of the runs that a run needs, given the content of its run.json."""
    config = document.get("config")
    settings = config if isinstance(config, dict) else {}
    named = [document.get("parent")]
    for value in map(settings.get, REFERRING):
        named += value if isinstance(value, list) else [value]
    return {one for one in named if isinstance(one, str) and ID_PATTERN.fullmatch(one) and one != document.get("id")}


def _document(folder: RunFolder) -> dict[str, Any]:
    """Return the content of a run.json, or {} if it cannot be read."""
    try:
        return read_json(folder.run_json) or {}
    except RunError:
        return {}


def _is_in(root: Path, run_id: str) -> bool:
    return (root / check_id(run_id)).is_dir()


def _put(runs: Path | str, run_id: str) -> str:
    here, there = RunFolder(runs, run_id).path, trash_of(runs) / run_id
    size = size_of(here)
    try:
        there.parent.mkdir(exist_ok=True)
        atomic_write_json(here / RECORD, {"at": time.time()}, inside=here)
        here.rename(there)
        sync(there.parent)
    except OSError as problem:
        raise RunError(f"Run {run_id} could not be moved to {there.parent} ({problem.strerror}); make both folders writable, and "
                       "try again.") from None
    return f"moved to the trash, {size_text(size)}"


def _restore(runs: Path | str, run_id: str) -> str:
    there, here = trash_of(runs) / check_id(run_id), RunFolder(runs, run_id).path
    if not there.is_dir():
        raise RunError(f"Only runs in the trash can be restored, {run_id} is not there; `rampart trash` lists them.")
    try:
        there.rename(here)
        (here / RECORD).unlink(missing_ok=True)
        sync(here.parent)
    except OSError as problem:
        raise RunError(f"Run {run_id} could not be moved to {here.parent} ({problem.strerror}); make both folders writable and "
                       "move a folder of that name away, and try again.") from None
    return "restored"


def _delete(root: Path, run_id: str) -> str:
    size = size_of(root / run_id)
    try:
        shutil.rmtree(root / run_id)
    except OSError as problem:
        raise RunError(f"Run {run_id} could not be deleted completely ({problem.strerror}); make {root} writable, and delete it "
                       "again.") from None
    return f"deleted, {size_text(size)} freed"


def _trashed(folder: RunFolder) -> Trashed:
    document = _document(folder)
    try:
        at = (read_json(folder.path / RECORD) or {}).get("at")
    except RunError:
        at = None
    trashed = float(at) if isinstance(at, (int, float)) else 0.0
    return Trashed(folder.id, str(document.get("title") or folder.id), str(document.get("kind") or ""), trashed,
                   size_of(folder.path))


def size_text(size: int) -> str:
    """Return a size in bytes as text: 812 as "812 bytes", 1200000 as "1.2 MB"."""
    if size < 1000:
        return f"{size} bytes"
    for limit, unit, factor in ((1e6, "kB", 1e3), (1e9, "MB", 1e6)):
        if size < limit:
            return f"{size / factor:.1f} {unit}"
    return f"{size / 1e9:.1f} GB"
