"""The verbs that act on existing runs: tag, note, archive, trash, restore, delete, and rerun.

Most take several runs. They report the outcome for each run, and continue with the next run after a refusal.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from engine.cli.listing import table_text
from engine.cli.parser import verb_parser
from engine.errors import ConfigError
from engine.requests import runs_root
from engine.rerun import rerun
from engine.run import trash
from engine.run.bulk import Outcome, each
from engine.run.folder import RunFolder
from engine.run.marks import change_tags, read_marks, set_archived, set_note

_CHANGE = re.compile(r"[+-][A-Za-z0-9].*")


def _report(outcomes: Sequence[Outcome], as_json: bool) -> int:
    """Print the outcome for each run, and return the exit code: 2 if an action was refused for a run, otherwise 0."""
    if as_json:
        print(json.dumps([dataclasses.asdict(one) for one in outcomes]))
    else:
        for one in outcomes:
            print(f"{one.run}  {one.done}" if one.done else one.refusal, file=sys.stderr if one.refusal else sys.stdout)
    return 2 if any(one.refusal for one in outcomes) else 0


def _tag(verb: str, arguments: list[str]) -> int:
    changes = [word for word in arguments if _CHANGE.fullmatch(word) and word != "-h"]
    parser = verb_parser(verb)
    parser.add_argument("run", nargs="+", help="id of a run; +TAG adds a tag, -TAG removes one")
    options = parser.parse_args([word for word in arguments if word not in changes])
    root = runs_root(options.runs)
    add, remove = ([word[1:] for word in changes if word[0] == sign] for sign in "+-")

    def action(run_id: str) -> str:
        marks = change_tags(root, run_id, add, remove) if changes else read_marks(_existing(root, run_id))
        return f"tags: {' '.join(marks.tags) or 'none'}"

    return _report(each(options.run, action), options.json)


def _existing(root: Path, run_id: str) -> RunFolder:
    folder = RunFolder(root, run_id)
    folder.read_run()
    return folder


def _note(verb: str, arguments: list[str]) -> int:
    parser = verb_parser(verb)
    parser.add_argument("run", help="id of the run")
    parser.add_argument("text", help="the note, in quotes; '' removes it")
    options = parser.parse_args(arguments)
    root = runs_root(options.runs)
    return _report(each([options.run], lambda run_id: "note written" if set_note(root, run_id, options.text).note else
                        "note removed"), options.json)


def _archive(verb: str, arguments: list[str]) -> int:
    parser = verb_parser(verb)
    parser.add_argument("run", nargs="+", help="id of a run")
    parser.add_argument("--undo", action="store_true", help="take the runs out of the archive")
    options = parser.parse_args(arguments)
    root = runs_root(options.runs)
    return _report(each(options.run, lambda run_id: "archived" if set_archived(root, run_id, not options.undo).archived else
                        "taken out of the archive"), options.json)


def _trash(verb: str, arguments: list[str]) -> int:
    parser = verb_parser(verb)
    parser.add_argument("run", nargs="*", help="id of a run that is over; none lists the trash")
    parser.add_argument("--with-dependents", action="store_true", help="take along all runs that need these, such as children")
    options = parser.parse_args(arguments)
    root = runs_root(options.runs)
    if options.run:
        from engine.study.actions import trash as trash_runs  # imports what only studies need

        return _report(trash_runs(root, options.run, with_dependents=options.with_dependents), options.json)
    listed = trash.trashed_runs(root)
    if options.json:
        print(json.dumps([dataclasses.asdict(one) for one in listed]))
    else:
        print(table_text([[one.id, one.kind, one.title, trash.size_text(one.size)] for one in listed]) or "The trash is empty.")
    return 0


def _restore(verb: str, arguments: list[str]) -> int:
    parser = verb_parser(verb)
    parser.add_argument("run", nargs="+", help="id of a run in the trash; runs there that it needs come back as well")
    options = parser.parse_args(arguments)
    return _report(trash.restore(runs_root(options.runs), options.run), options.json)


def _delete(verb: str, arguments: list[str]) -> int:
    parser = verb_parser(verb)
    parser.add_argument("run", nargs="*", help="id of a run in the trash")
    parser.add_argument("--all", action="store_true", help="all runs in the trash")
    parser.add_argument("--yes", action="store_true", help="delete; this cannot be undone")
    options = parser.parse_args(arguments)
    root = runs_root(options.runs)
    if bool(options.run) == options.all:
        raise ConfigError(f"Name the runs to delete or give --all, got {'both' if options.all else 'neither'}; `rampart trash` "
                          "lists the runs in the trash.")
    ids = [one.id for one in trash.trashed_runs(root)] if options.all else options.run
    if not options.yes:
        size = sum(trash.size_of(trash.trash_of(root) / RunFolder(root, run_id).id) for run_id in ids)
        raise ConfigError(f"Deleting {len(ids)} run{'' if len(ids) == 1 else 's'} would free {trash.size_text(size)} and cannot "
                          "be undone; repeat the command with --yes.")
    return _report(trash.delete(root, ids), options.json)


def _rerun(verb: str, arguments: list[str]) -> int:
    parser = verb_parser(verb)
    parser.add_argument("run", nargs="+", help="id of a run")
    options = parser.parse_args(arguments)
    root = runs_root(options.runs)
    return _report(each(options.run, lambda run_id: f"launched again as {rerun(root, run_id)}"), options.json)


VERBS: dict[str, Callable[[str, list[str]], int]] = {
    "tag": _tag, "note": _note, "archive": _archive, "trash": _trash, "restore": _restore, "delete": _delete, "rerun": _rerun}
