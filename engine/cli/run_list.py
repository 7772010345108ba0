"""The verb `runs`, which lists runs: all of them, or those for which an expression is true."""

from __future__ import annotations

import json
from typing import Any

from engine import api
from engine.cli.listing import accuracy_text, json_value, share_text, table_text
from engine.cli.parser import Parser

TEXT = "List all runs, newest first, or those for which --where is true."
HEAD = ["id", "kind", "title", "preset", "status", "done", "natural", "adversarial", "badge", "tags"]


def runs(verb: str, arguments: list[str]) -> int:
    """Print the list of runs, and return the exit code.

    Raises:
        ConfigError: the expression after --where is not valid.
    """
    from engine.log.filtering import EXAMPLES, NAMES, matching  # imports pandas

    names = "; ".join(f"{name}: {about}" for name, (_, about) in NAMES.items())
    parser = Parser(verb, TEXT, epilog=f"Names for --where: {names}.")
    parser.add_argument("--runs", metavar="DIR", default=None, help="folder of all runs (default: $RAMPART_RUNS, else ./runs)")
    parser.add_argument("--where", metavar="EXPRESSION", default="", help=f"list only these runs, for example '{EXAMPLES[0]}'")
    parser.add_argument("--archived", action="store_true", help="list the runs in the archive as well")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--csv", action="store_true", help="print CSV with every column at full precision")
    options = parser.parse_args(arguments)
    listed = api.runs_table(runs=options.runs)
    if not options.archived:
        listed = listed[~listed["archived"]]
    listed = listed[matching(listed, options.where)]
    if options.csv:
        print(listed.to_csv(index=False), end="")
    elif options.json:
        print(json.dumps([{name: json_value(value) for name, value in row.items()} for row in listed.to_dict("records")]))
    else:
        none = "No run matches." if options.where else "No runs yet; `rampart search --then retrain,attack` starts the first."
        rows = [_line(row) for row in listed.to_dict("records")]
        print(table_text([HEAD, *rows]) if rows else none)
    return 0


def _line(row: dict[str, Any]) -> list[str]:
    return [row["id"], row["kind"], row["title"], row["preset"], row["status"], share_text(row["progress"]),
            accuracy_text(row, "natural"), f"{accuracy_text(row, 'adversarial')} {row['adversarial_attack']}".strip(),
            row["badge"], row["tags"]]
