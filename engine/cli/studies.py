"""The verb `study`, which launches studies, follows them and reports their answers."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from engine import requests
from engine.cli.listing import table_text
from engine.cli.parser import Parser
from engine.errors import ConfigError
from engine.report.words import plural_text
from engine.requests import runs_root
from engine.study import actions, archive
from engine.study.declaration import Study
from engine.study.deletion import delete
from engine.study.estimate import Durations, estimate
from engine.study.folder import StudyFolder, study_ids, study_named
from engine.study.overview import cells_of, read_overview, status_of
from engine.study.parsing import exported, from_text
from engine.study.power import power_of, spread_of
from engine.study.questions import SIZES, recipes, sources_for
from engine.study.report import FORMATS, as_json, export, headers, rows, seconds_text

ACTIONS = ("list", "new", "show", "run", "stop", "extend", "report", "delete", "questions", "pack", "unpack", "example")
WAIT_S = 1.0  # seconds between two looks at a study
TEXT = "Compare arms over seeds: launch a study, follow it, and read its answer."


def study(verb: str, arguments: list[str]) -> int:
    """Run one action of the verb `study`.

    Args:
        verb: "study".
        arguments: words after the verb. The first is the action, one of `ACTIONS`.

    Returns:
        Exit code: 0 if the action succeeded, 1 if the command waited for the study and a run failed, 130 if the user interrupted
        the wait.

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
    parser.add_argument("--size", choices=SIZES, default="demo", help="new: size of a question's study (default %(default)s)")
    parser.add_argument("--dataset", default="digits", help="new: dataset of a question's study (default %(default)s)")
    parser.add_argument("--source", default="", metavar="DATASET", help="new: dataset on which the cells of a transfer are found")
    parser.add_argument("--preset", help="new: preset of a question's study (default quick for datasets without download, else "
                        "paper)")
    parser.add_argument("--print", action="store_true", help="new: print the study as a file instead of launching it")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="extend: number of search seeds (default %(default)s)")
    parser.add_argument("--form", choices=FORMATS, default="markdown", help="report: file format (default %(default)s)")
    parser.add_argument("--out", metavar="FILE", help="report, pack: file to write (default: the terminal, ID.tar.xz)")
    parser.add_argument("--with-runs", action="store_true", help="delete: also delete the runs that were launched for the study "
                        "and that no other study uses (a terminal asks, if this is left out)")
    parser.add_argument("--wait", action="store_true", help="new, run, extend: stay until every cell has its result")
    parser.add_argument("--runs", metavar="DIR", default=None, help="folder of all runs (default: $RAMPART_RUNS, else ./runs)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_intermixed_args(arguments)
    if options.action not in ("list", "questions", "example") and not options.name:
        raise ConfigError(f"study {options.action} needs {'a question or a file' if options.action == 'new' else 'an id'}; "
                          f"`rampart study {'questions' if options.action == 'new' else 'list'}` lists them.")
    calls: dict[str, Callable[[argparse.Namespace, Path], int]] = {
        "list": _list, "new": _new, "show": _show, "run": _run, "stop": _stop, "extend": _extend, "report": _report,
        "delete": _delete, "questions": _questions, "pack": _pack, "unpack": _unpack, "example": _example}
    return calls[options.action](options, runs_root(options.runs))


def _questions(options: argparse.Namespace, root: Path) -> int:
    known = recipes().items()
    if options.json:
        print(json.dumps([{"name": name, "question": one.question, "compares": one.compares} for name, one in known]))
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
        print(json.dumps(exported(declared), indent=2))
        return 0
    study_id = actions.launch(root, declared)
    if options.wait:
        return _wait(root, study_id, options.json)
    print(json.dumps({"id": study_id}) if options.json else f"{study_id}\n{_outlook(declared, root, study_id)}")
    return 0


def _outlook(declared: Study, root: Path, study_id: str) -> str:
    """Return how long a study that was just launched takes and how small a difference it detects, in one line.

    Runs that exist already take no time.
    """
    time_needed = estimate(declared, Durations(root), cells_of(root, study_id), root)
    duration = "of unknown duration" if time_needed.seconds is None else f"about {seconds_text(time_needed.seconds)}"
    power = power_of(declared, spread_of(declared, ()))
    if power is None:
        detects = "ranks networks and tests no contrast of arms"
    elif power.difference is None:
        detects = "at this size, no contrast can become significant"
    else:
        detects = (f"detects differences from {100 * power.difference:.1f} points at 80 % power, if search seeds spread by "
                   f"{100 * power.spread.value:.1f} points")
    if not time_needed.runs:
        return f"every run exists already; {detects}"
    return f"{plural_text(time_needed.runs, 'run')}, {duration}; {detects}"


def _declared(options: argparse.Namespace) -> Study:
    """Return the study that the user has named, either by a question that ships with Rampart or by a file."""
    if options.name in recipes():
        return recipes()[options.name].study(options.size, options.dataset, preset=options.preset,
                                             source=options.source or sources_for(options.dataset)[0])
    path = Path(options.name)
    if not path.is_file():
        raise ConfigError(f"study new needs one of {', '.join(recipes())} or a file, got {options.name!r}, which is neither.")
    return from_text(path.read_bytes())


def _show(options: argparse.Namespace, root: Path) -> int:
    folder = study_named(root, options.name)
    _print_state(root, folder, options.json)
    return 0


def _run(options: argparse.Namespace, root: Path) -> int:
    folder = study_named(root, options.name)
    actions.resume(root, folder.id)
    return _followed(options, root, folder)


def _stop(options: argparse.Namespace, root: Path) -> int:
    folder = study_named(root, options.name)
    actions.stop(root, folder.id)
    return _told(options, folder, "stopped")


def _extend(options: argparse.Namespace, root: Path) -> int:
    folder = study_named(root, options.name)
    seeds = actions.extend(root, folder.id, options.seeds)
    if folder.is_stopped:
        return _told(options, folder, f"extended by {plural_text(len(seeds), 'search seed')}, stopped as before; "
                                      f"`rampart study run {folder.id}` continues it")
    return _followed(options, root, folder)


def _followed(options: argparse.Namespace, root: Path, folder: StudyFolder) -> int:
    if options.wait:
        return _wait(root, folder.id, options.json)
    return _told(options, folder, "continues")


def _told(options: argparse.Namespace, folder: StudyFolder, words: str) -> int:
    """Print what has become of a study, or its id as JSON, and return exit code 0."""
    print(json.dumps({"id": folder.id}) if options.json else f"{folder.id}  {words}")
    return 0


def _report(options: argparse.Namespace, root: Path) -> int:
    folder = study_named(root, options.name)
    overview = read_overview(root, folder.id)
    content = export(overview.results, overview.answer, "json" if options.json else options.form)
    if options.out:
        Path(options.out).write_bytes(content)
    else:
        sys.stdout.write(content.decode())
    return 0


def _delete(options: argparse.Namespace, root: Path) -> int:
    folder = study_named(root, options.name)
    deletion = delete(root, folder.id, with_runs=options.with_runs or _wants_runs_deleted(options))
    print(json.dumps({"id": folder.id, "runs": deletion.runs, "shared": len(deletion.shared), "users": deletion.users,
                      "foreign": len(deletion.foreign)}) if options.json else f"{folder.id}  deleted{deletion.words}")
    return 0


def _wants_runs_deleted(options: argparse.Namespace) -> bool:
    """Ask the user whether the runs of a study are deleted with it. Without a terminal, and with --json, they are kept."""
    if options.json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    return input("Delete the runs that were launched for this study too? [y/N] ").strip().lower() in ("y", "yes")


def _pack(options: argparse.Namespace, root: Path) -> int:
    folder = study_named(root, options.name)
    target = Path(options.out or f"{folder.id}.tar.xz")
    count = archive.write_archive(root, [folder.id], target)
    print(json.dumps({"file": str(target), "runs": count}) if options.json else
          f"{target}  {plural_text(count, 'run')} without checkpoints")
    return 0


def _unpack(options: argparse.Namespace, root: Path) -> int:
    return _say_added(options, archive.read_archive(root, Path(options.name)))


def _example(options: argparse.Namespace, root: Path) -> int:
    return _say_added(options, archive.open_example(root))


def _say_added(options: argparse.Namespace, ids: list[str]) -> int:
    print(json.dumps({"ids": ids}) if options.json else "\n".join(ids))
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
    print("Accuracies in per cent, means over search seeds with 95 % intervals.")
    print("\n".join((*(answer.sentences if len(answer.sentences) > 1 else ()), *answer.notes)))


def _wait(root: Path, study_id: str, quiet: bool) -> int:
    """Wait until every cell (repetition of an arm) has ended, show a progress bar meanwhile, and print the answer.

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
