"""The verb `study`, which launches studies, follows them and reports their answers."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from engine import requests
from engine.cli.listing import table_text
from engine.cli.parser import Parser
from engine.errors import ConfigError
from engine.files import atomic_write_bytes
from engine.report.words import about_text, plural_text
from engine.requests import runs_root
from engine.run.folder import run_ids
from engine.search.methods.registry import METHODS
from engine.study import actions, archive
from engine.study.declaration import Study
from engine.study.deletion import delete
from engine.study.estimate import Durations, estimate
from engine.study.folder import StudyFolder, study_ids, study_named
from engine.study.outlook import power_words, unknown_words
from engine.study.overview import cells_of, read_overview, status_of
from engine.study.parsing import exported, from_text
from engine.study.power import power_of, spread_of
from engine.study.questions import SIZES, recipes, sources_for
from engine.study.report import FORMATS, as_json, export, headers, margin_text, rows, seconds_text, table_intervals

ACTIONS = ("list", "new", "show", "run", "stop", "extend", "report", "delete", "questions", "pack", "unpack", "example")
# {flag: actions that it belongs to}. With any other action it would have no effect and is refused.
FLAGS = {"size": ("new",), "dataset": ("new",), "source": ("new",), "preset": ("new",), "print": ("new",),
         "seeds": ("new", "extend"), "form": ("report",), "out": ("report", "pack"), "with_runs": ("delete",),
         "wait": ("new", "run", "extend")}
FOR_QUESTIONS = ("size", "dataset", "source", "preset", "seeds")  # flags of `new` that a file takes the place of
NAMELESS = ("list", "questions", "example")
EXTENSION = 5  # search seeds that `extend` adds if the user names no number
WAIT_S = 1.0  # seconds between two looks at a study
TEXT = "Compare arms over seeds: launch a study, follow it, and read its answer."


def study(verb: str, arguments: list[str]) -> int:
    """Run one action of the verb `study`.

    Args:
        verb: "study".
        arguments: words after the verb. The first is the action, one of `ACTIONS`.

    Returns:
        Exit code: 0 if the action succeeded, 1 if the command waited for the study and a run did not finish, 130 if the user
        interrupted the wait.

    Raises:
        ConfigError, DataError, RunError: the action is not possible. The message is a sentence for the user.
    """
    parser = Parser(verb, TEXT, epilog="`rampart study questions` lists the questions that ship with Rampart.")
    parser.add_argument("action", choices=ACTIONS, help="list: all studies; new: launch a question or a file; show: state, "
                        "answer and table of the arms; run: continue a stopped study and try failed runs again; stop: stop its "
                        "runs and launch no more; extend: repeat every arm for more search seeds; report: write the report; "
                        "delete: delete a study; questions: the questions that ship; pack, unpack: write a study and its runs to "
                        "one file, and read them from it; example: add the example study")
    parser.add_argument("name", nargs="?", help="id of the study or its end; for new, a question or a file (JSON or YAML); "
                        "for unpack, a packed file")
    parser.add_argument("--size", choices=SIZES, help="new: size of a question's study (default demo)")
    parser.add_argument("--dataset", help="new: dataset of a question's study (default digits)")
    parser.add_argument("--source", metavar="DATASET", help="new: dataset on which the cells of a transfer are found")
    parser.add_argument("--preset", help="new: preset of a question's study (default quick for datasets without download, else "
                        "paper)")
    parser.add_argument("--print", action="store_true", help="new: print the study as a file instead of launching it")
    parser.add_argument("--seeds", type=int, metavar="N", help="new: number of search seeds of a question's study (default by "
                        f"its size); extend: number of search seeds to add (default {EXTENSION})")
    parser.add_argument("--form", choices=FORMATS, help="report: file format (default markdown)")
    parser.add_argument("--out", metavar="FILE", help="report, pack: file to write (default: the terminal, ID.tar.xz)")
    parser.add_argument("--with-runs", action="store_true", help="delete: also delete the runs that were launched for the study "
                        "and that no other study uses (a terminal asks, if this is left out)")
    parser.add_argument("--wait", action="store_true", help="new, run, extend: stay until every cell has its result")
    parser.add_argument("--runs", metavar="DIR", default=None, help="folder of all runs (default: $RAMPART_RUNS, else ./runs)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_intermixed_args(arguments)
    _check_flags(options)
    if options.action not in NAMELESS and not options.name:
        raise ConfigError(f"study {options.action} needs {'a question or a file' if options.action == 'new' else 'an id'}; "
                          f"`rampart study {'questions' if options.action == 'new' else 'list'}` lists them.")
    calls: dict[str, Callable[[argparse.Namespace, Path], int]] = {
        "list": _list, "new": _new, "show": _show, "run": _run, "stop": _stop, "extend": _extend, "report": _report,
        "delete": _delete, "questions": _questions, "pack": _pack, "unpack": _unpack, "example": _example}
    return calls[options.action](options, runs_root(options.runs))


def _check_flags(options: argparse.Namespace) -> None:
    """Check that the action (the word after `study`) uses each flag and the study name that the user has given.

    Raises:
        ConfigError: the action does not use a flag or the name. The message says which.
    """
    for flag in _given(options, FLAGS):
        if options.action not in FLAGS[flag]:
            raise ConfigError(f"{_spelled(flag)} belongs to {' and '.join(f'study {one}' for one in FLAGS[flag])}, got it with "
                              f"study {options.action}, on which it has no effect; leave it out.")
    if options.action in NAMELESS and options.name:
        raise ConfigError(f"study {options.action} takes no name, got {options.name!r}; leave it out.")


def _given(options: argparse.Namespace, flags: Iterable[str]) -> list[str]:
    return [flag for flag in flags if getattr(options, flag) not in (None, False)]


def _spelled(flag: str) -> str:
    return f"--{flag.replace('_', '-')}"


def _questions(options: argparse.Namespace, root: Path) -> int:
    known = recipes().items()
    if options.json:
        print(json.dumps([{"name": name, "question": one.question, "compares": one.compares, "remark": one.remark}
                          for name, one in known]))
    else:
        print(table_text([[name, one.question] for name, one in known]))
    return 0


def _list(options: argparse.Namespace, root: Path) -> int:
    lines: list[dict[str, Any]] = []
    for study_id in study_ids(root):
        folder, cells = StudyFolder(root, study_id), cells_of(root, study_id)
        lines.append({"id": study_id, "question": folder.read().question, "status": status_of(folder, cells),
                      "done": sum(cell.status == "finished" for cell in cells), "cells": len(cells)})
    if options.json:
        print(json.dumps(lines))
    else:
        print(table_text([[line["id"], line["status"], f"{line['done']} of {line['cells']} cells", line["question"]]
                          for line in lines]) or "No studies yet; `rampart study new space` launches the first.")
    return 0


def _new(options: argparse.Namespace, root: Path) -> int:
    declared = _declared(options)
    if options.print:
        actions.admitted(declared)
        print(json.dumps(exported(declared), indent=2))
        return 0
    study_id = actions.launch(root, declared)
    if options.wait:
        return _wait(root, study_id, options.json)
    print(json.dumps({"id": study_id}) if options.json else f"{study_id}\n{_outlook(declared, root, study_id)}")
    return 0


def _outlook(declared: Study, root: Path, study_id: str) -> str:
    """Return a line about a newly launched study: its expected duration, and the smallest difference that it can detect.

    Results that the study takes from existing runs do not count towards the duration.
    """
    time_needed = estimate(declared, Durations(root), cells_of(root, study_id), root)
    power = power_of(declared, spread_of(declared, ()))
    detects = power_words(power) if power is None else f"detects {power_words(power)}"
    if not time_needed.runs:
        return f"every run exists already; {detects}"
    duration = unknown_words(time_needed, declared.preset, lambda method: METHODS[method].title) if time_needed.seconds is None \
        else about_text(time_needed.seconds)
    return f"{plural_text(time_needed.runs, 'run')}, {duration}; {detects}"


def _declared(options: argparse.Namespace) -> Study:
    """Return the declaration that the user has named: a question that ships with Rampart, or a file.

    Raises:
        ConfigError: there is neither a question nor a file of this name, the file is not a study, or a flag does not fit.
    """
    if options.name in recipes():
        return _of_question(options)
    path = Path(options.name)
    if not path.is_file():
        raise ConfigError(f"study new needs one of {', '.join(recipes())} or a file, got {options.name!r}, which is neither.")
    if flags := _given(options, FOR_QUESTIONS):
        entry = {"seeds": "search_seeds", "source": "dataset in the search of an arm"}.get(flags[0], flags[0])
        raise ConfigError(f"{_spelled(flags[0])} belongs to the questions that ship, got it with the file {path}; "
                          + ("leave it out." if flags[0] == "size" else f"leave it out and write {entry} in the file."))
    return from_text(path.read_bytes())


def _of_question(options: argparse.Namespace) -> Study:
    recipe, dataset = recipes()[options.name], options.dataset or "digits"
    if options.source is not None and not recipe.needs_source:
        takers = [one.name for _, one in recipes().items() if one.needs_source]
        raise ConfigError(f"--source belongs to a question that transfers cells between datasets ({', '.join(takers)}), got it "
                          f"with {recipe.name}; leave it out.")
    source = options.source if options.source is not None else sources_for(dataset)[0]
    return recipe.study(options.size or "demo", dataset, preset=options.preset, source=source, seeds=options.seeds)


def _show(options: argparse.Namespace, root: Path) -> int:
    folder = study_named(root, options.name)
    _print_state(root, folder, options.json)
    return 0


def _run(options: argparse.Namespace, root: Path) -> int:
    folder = study_named(root, options.name)
    is_finished = status_of(folder, cells_of(root, folder.id)) == "finished"
    actions.resume(root, folder.id)
    return _followed(options, root, folder, "was finished already; nothing changed" if is_finished else "continues")


def _stop(options: argparse.Namespace, root: Path) -> int:
    folder = study_named(root, options.name)
    changed = actions.stop(root, folder.id)
    return _told(options, folder, "stopped" if changed else "was stopped already; nothing changed")


def _extend(options: argparse.Namespace, root: Path) -> int:
    folder = study_named(root, options.name)
    seeds = actions.extend(root, folder.id, EXTENSION if options.seeds is None else options.seeds)
    words = f"extended by {plural_text(len(seeds), 'search seed')}"
    if folder.is_stopped:
        return _told(options, folder, f"{words}, stopped as before; `rampart study run {folder.id}` continues it")
    return _followed(options, root, folder, words)


def _followed(options: argparse.Namespace, root: Path, folder: StudyFolder, words: str) -> int:
    if options.wait:
        return _wait(root, folder.id, options.json)
    return _told(options, folder, words)


def _told(options: argparse.Namespace, folder: StudyFolder, words: str) -> int:
    """Print the id of a study followed by `words`, or with --json the id alone, and return exit code 0."""
    print(json.dumps({"id": folder.id}) if options.json else f"{folder.id}  {words}")
    return 0


def _report(options: argparse.Namespace, root: Path) -> int:
    folder = study_named(root, options.name)
    if options.json and options.form not in (None, "json"):
        raise ConfigError(f"--json prints the report as JSON, got --form {options.form} too; leave one out.")
    overview = read_overview(root, folder.id)
    content = export(overview.results, overview.answer, options.form or ("json" if options.json else "markdown"))
    if options.out:
        with _writing(Path(options.out)) as out:
            atomic_write_bytes(out, content)
    else:
        sys.stdout.write(content.decode())
    return 0


@contextmanager
def _writing(out: Path) -> Iterator[Path]:
    """Yield the file to write. Turn an OSError of the `with` block into a ConfigError that names this file."""
    try:
        yield out
    except OSError as problem:
        raise ConfigError(f"The file could not be written to {out} ({problem.strerror or problem}); choose another --out."
                          ) from None


def _delete(options: argparse.Namespace, root: Path) -> int:
    folder = study_named(root, options.name)
    deletion = delete(root, folder.id, with_runs=options.with_runs or _wants_runs_deleted(options))
    numbers = {"runs": deletion.runs, "shared": len(deletion.shared), "users": deletion.users, "foreign": len(deletion.foreign),
               "needed": len(deletion.needed)}
    print(json.dumps({"id": folder.id} | numbers) if options.json else f"{folder.id}  deleted{deletion.words}")
    return 0


def _wants_runs_deleted(options: argparse.Namespace) -> bool:
    """Ask the user whether to delete the runs of a study as well. Without a terminal or with --json, return False."""
    if options.json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    return input("Delete the runs that were launched for this study too? [y/N] ").strip().lower() in ("y", "yes")


def _pack(options: argparse.Namespace, root: Path) -> int:
    folder = study_named(root, options.name)
    target = Path(options.out or f"{folder.id}.tar.xz")
    with _writing(target):
        count = archive.write_archive(root, [folder.id], target)
    print(json.dumps({"file": str(target), "runs": count}) if options.json else
          f"{target}  {plural_text(count, 'run')} without checkpoints")
    return 0


def _unpack(options: argparse.Namespace, root: Path) -> int:
    return _say_added(options, root, lambda: archive.read_archive(root, Path(options.name)))


def _example(options: argparse.Namespace, root: Path) -> int:
    return _say_added(options, root, lambda: archive.open_example(root))


def _say_added(options: argparse.Namespace, root: Path, add: Callable[[], list[str]]) -> int:
    """Call `add`, which adds studies and returns their ids, and print the ids.

    The output also says which studies existed before, and how many runs were added for them.
    """
    studies, runs = set(study_ids(root)), set(run_ids(root)) if root.exists() else set()
    ids = add()
    if options.json:
        print(json.dumps({"ids": ids, "added": [one for one in ids if one not in studies]}))
        return 0
    count = len(set(run_ids(root)) - runs)
    words = f"{plural_text(count, 'run')} added" if count else "nothing changed"
    print("\n".join(f"{one}  was there already; {words}" if one in studies else one for one in ids))
    return 0


def _print_state(root: Path, folder: StudyFolder, as_json_text: bool) -> None:
    requests.ensure_supervisor(root)  # in case it was killed while runs wait
    overview = read_overview(root, folder.id)
    results, answer, seconds = overview.results, overview.answer, overview.left.seconds
    if as_json_text:
        print(json.dumps(as_json(results, answer) | {"status": overview.status, "seconds_left": seconds}))
        return
    more = f", about {seconds_text(seconds)} left" if seconds and overview.status in ("running", "waiting") else ""
    print(f"{folder.id}  {overview.status}, {results.done} of {len(results.cells)} cells{more}")
    print(results.study.question)
    print(f"{'Provisional: ' if answer.provisional else ''}{answer.headline}")
    print(table_text([headers(results), *rows(results)]))
    print(f"Accuracies in per cent, means over search seeds with 95 % intervals ({table_intervals(results)})."
          f"{margin_text(results.study)}")
    print("\n".join((*(answer.sentences if len(answer.sentences) > 1 else ()), *answer.notes)))


def _wait(root: Path, study_id: str, quiet: bool) -> int:
    """Show a progress bar until every cell (repetition of an arm) has ended or the study is stopped, then print the answer.

    Returns:
        Exit code: 0 if every cell has its result, 1 if not, 130 if the user interrupted the wait.
    """
    folder = StudyFolder(root, study_id)
    slow: dict[str, Any] = {} if sys.stderr.isatty() else {"mininterval": 10.0, "maxinterval": 60.0}
    cells = cells_of(root, study_id)
    with tqdm(total=len(cells), desc=study_id, unit="cell", disable=quiet, dynamic_ncols=True, **slow) as bar:
        try:
            while True:
                requests.ensure_supervisor(root)
                cells = cells_of(root, study_id)
                bar.n = sum(cell.status == "finished" for cell in cells)
                bar.refresh()
                if folder.is_stopped or all(cell.status in ("finished", "failed", "stopped") for cell in cells):
                    break
                time.sleep(WAIT_S)
        except KeyboardInterrupt:
            print(f"The study continues without this terminal; stop it with `rampart study stop {study_id}`.", file=sys.stderr)
            return 130
    _print_state(root, folder, quiet)
    return 0 if all(cell.status == "finished" for cell in cells) else 1
