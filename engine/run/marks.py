"""The marks of a run: tags, a note, and whether it is archived. The file `marks.json` in the run's folder holds them.

Marks are for the people who look at the runs. They never change what a run does, so they are not in run.json. A run without the
file has no marks. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from engine.acts import act, named
from engine.errors import RunError
from engine.run.folder import RunFolder, read_json

MARKS = "marks.json"
TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,39}")
MOST_TAGS = 20
LONGEST_NOTE = 2000


@dataclass(frozen=True)
class Marks:
    """The marks of one run.

    Attributes:
        tags: tags in alphabetical order.
        note: text of the user; may be empty.
        archived: True if lists of runs leave the run out unless the user asks for archived runs.
    """

    tags: tuple[str, ...] = ()
    note: str = ""
    archived: bool = False


def read_marks(folder: RunFolder) -> Marks:
    """Return the marks (tags, note, archived) of a run.

    Raises:
        RunError: marks.json cannot be read or is not valid.
    """
    record = read_json(folder.path / MARKS) or {}
    tags, note, archived = record.get("tags", []), record.get("note", ""), record.get("archived", False)
    if not isinstance(note, str) or not isinstance(archived, bool) or not isinstance(tags, list) or not all(map(_is_tag, tags)):
        raise RunError(f"{MARKS} of run {folder.id} must hold tags, a note and archived, got {str(record)!r:.80}; delete the "
                       "file to start without marks.")
    return Marks(tuple(sorted(set(tags))), note, archived)


def readable_marks(folder: RunFolder) -> Marks:
    """Return the marks (tags, note, archived) of a run.

    If marks.json cannot be read, return empty marks, so that lists can still show the run.
    """
    try:
        return read_marks(folder)
    except RunError:
        return Marks()


@act("tag", named("run_id"))
def change_tags(runs: Path | str, run_id: str, add: Sequence[str] = (), remove: Sequence[str] = ()) -> Marks:
    """Add tags to a run and remove others, and return its marks.

    Adding a tag that is present or removing a tag that is absent changes nothing.

    Raises:
        RunError: there is no such run, a tag is not valid, there would be too many, or the file cannot be written.
    """
    for tag in (*add, *remove):
        if not _is_tag(tag):
            raise RunError(f"A tag has 1 to 40 letters, digits or the signs _ . : / - and begins with a letter or digit, got "
                           f"{tag!r:.60}; write for example `baseline`.")
    folder, marks = _marked(runs, run_id)
    tags = tuple(sorted({*marks.tags, *add} - set(remove)))
    if len(tags) > MOST_TAGS:
        raise RunError(f"A run has at most {MOST_TAGS} tags, {run_id} would have {len(tags)}; remove some first.")
    return _write(folder, replace(marks, tags=tags))


@act("note", named("run_id"))
def set_note(runs: Path | str, run_id: str, note: str) -> Marks:
    """Replace the note of a run, and return all marks (tags, note, archived) of the run. An empty text removes the note.

    Raises:
        RunError: there is no such run, the note is too long, or the file cannot be written.
    """
    if len(note) > LONGEST_NOTE:
        raise RunError(f"A note has at most {LONGEST_NOTE:,} characters, got {len(note):,}; shorten it.")
    folder, marks = _marked(runs, run_id)
    return _write(folder, replace(marks, note=note.strip()))


@act("archive", named("run_id"))
def set_archived(runs: Path | str, run_id: str, archived: bool) -> Marks:
    """Mark a run as archived or as not archived, and return all marks of the run. Its folder is not moved.

    Raises:
        RunError: there is no such run, or the file cannot be written.
    """
    folder, marks = _marked(runs, run_id)
    return _write(folder, replace(marks, archived=archived))


def _is_tag(tag: object) -> bool:
    return isinstance(tag, str) and TAG.fullmatch(tag) is not None


def _marked(runs: Path | str, run_id: str) -> tuple[RunFolder, Marks]:
    folder = RunFolder(runs, run_id)
    if not folder.exists():
        raise RunError(f"There is no run {run_id!r} in {folder.runs}; `rampart runs` lists the ids.")
    return folder, read_marks(folder)


def _write(folder: RunFolder, marks: Marks) -> Marks:
    try:
        folder.write_json(folder.path / MARKS, asdict(marks))
    except OSError as problem:
        raise RunError(f"{MARKS} of run {folder.id} could not be written ({problem.strerror}); free some space or make the "
                       "folder writable, and try again.") from None
    return marks
