"""The verbs about this machine, its data, its run log and its settings.

Each function gets the name of its verb and the words after it, and returns the exit code.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys

from engine import api
from engine.cli.listing import answer_text, table_text
from engine.cli.parser import Parser, verb_parser
from engine.cli.verb_texts import TEXTS
from engine.command import ROOT
from engine.config.run import KINDS


def ui(verb: str, arguments: list[str]) -> int:
    """Replace this process by the dashboard."""
    # The dashboard is started by its path, because the working folder may contain another folder called `app`.
    os.execv(sys.executable, [sys.executable, str(ROOT / "app"), *arguments])


def doctor(verb: str, arguments: list[str]) -> int:
    """Print a report on the packages, devices, datasets and disk space of this machine. Return 1 if something is missing."""
    options = verb_parser(verb).parse_args(arguments)
    findings = api.doctor(runs=options.runs)
    if options.json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings]))
    else:
        print(table_text([["ok" if one.good else "BAD", one.subject, one.found + ("" if one.good else f"  {one.advice}")]
                      for one in findings]))
    return 0 if all(one.good for one in findings) else 1


def reindex(verb: str, arguments: list[str]) -> int:
    """Delete the index of the run log, build it again, and print the numbers of runs and events read."""
    options = verb_parser(verb).parse_args(arguments)
    report = api.reindex(runs=options.runs)
    counts = {name: value for name, value in dataclasses.asdict(report).items() if isinstance(value, int)}
    words = ", ".join(f"{name} {value}" for name, value in counts.items())
    print(json.dumps(counts) if options.json else f"The index has been rebuilt ({words}).")
    return 0


def schema(verb: str, arguments: list[str]) -> int:
    """Print the JSON schema of the settings of one kind of run."""
    parser = verb_parser(verb)
    parser.add_argument("kind", nargs="?", choices=KINDS, default="search", help="kind of run (default search)")
    parser.add_argument("--method", help="search method (default arnas)")
    options = parser.parse_args(arguments)
    method = options.method or ("arnas" if options.kind == "search" else None)
    print(json.dumps(api.schema(options.kind, method), indent=None if options.json else 2))
    return 0


def presets(verb: str, arguments: list[str]) -> int:
    """Print tables that compare the presets."""
    from engine.cli.presets import presets_text

    parser = verb_parser(verb)
    parser.add_argument("kind", nargs="?", choices=KINDS, help="kind of run (default: all)")
    parser.add_argument("--method", help="search method (default: all)")
    parser.add_argument("--dataset", default="digits", help="dataset (default digits)")
    options = parser.parse_args(arguments)
    settings = api.presets(options.kind, options.method, options.dataset)
    print(json.dumps([dataclasses.asdict(setting) for setting in settings]) if options.json else presets_text(settings))
    return 0


def sql(verb: str, arguments: list[str]) -> int:
    """Run an SQL query on the run log, and print the result."""
    parser = verb_parser(verb)
    parser.add_argument("query", help="one statement that only reads, such as \"select * from folder\"; - reads it from stdin")
    parser.add_argument("--csv", action="store_true", help="print CSV")
    options = parser.parse_args(arguments)
    if options.csv and options.json:
        parser.error("--csv and --json exclude each other")
    answer = api.sql(sys.stdin.read() if options.query == "-" else options.query, runs=options.runs)
    form = "csv" if options.csv else "json" if options.json else "text"
    print(answer_text(answer.table, form, cut=answer.cut, seconds=round(answer.seconds, 3)))
    if answer.cut:
        print(f"Only the first {answer.table.num_rows:,} rows are shown; add a condition or LIMIT.", file=sys.stderr)
    return 0


def dataset(verb: str, arguments: list[str]) -> int:
    """Print the list of datasets, or download and prepare one dataset."""
    parser = Parser(verb, TEXTS[verb], epilog="Data folder: $RAMPART_DATA, else ~/.cache/rampart/data. An image folder with "
                    "one folder per class becomes a dataset by: dataset fetch NAME --from DIR --side 32")
    parser.add_argument("action", choices=("list", "fetch"), help="list: all datasets; fetch: download and prepare one")
    parser.add_argument("name", nargs="?", help="name of the dataset to fetch")
    parser.add_argument("--from", dest="source", metavar="DIR", help="folder of the official files, or of one folder per class")
    parser.add_argument("--side", type=int, help="height and width of an image folder's images in pixels (default 32)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--progress", action="store_true", help="print progress as lines of JSON: [activity, done, total]")
    options = parser.parse_args(arguments)
    if options.action == "fetch" and options.name:
        from engine.cli.waiting import fetched

        return fetched(options.name, options.source, options.side, options.json, options.progress)
    if options.action == "fetch" or options.name or options.source or options.side:
        parser.error("The action fetch takes the name of one dataset, list takes nothing")
    listed = api.datasets()
    if options.json:
        print(json.dumps([dataclasses.asdict(one) for one in listed]))
        return 0
    print(table_text([["here" if one.present else "-", one.name, one.title, f"{one.images:,} images" if one.images else "",
                   "x".join(map(str, one.image_shape or ())), f"{one.classes} classes" if one.classes else "",
                   one.command] for one in listed]))
    return 0
