"""The verb `alerts`, which prints warnings and errors about runs and about the machine."""

from __future__ import annotations

import dataclasses
import json

from engine.cli.listing import table_text
from engine.cli.parser import verb_parser
from engine.requests import runs_root


def alerts(verb: str, arguments: list[str]) -> int:
    """Print the alerts of the given runs, or of all runs that are active or have ended within a day.

    Return the exit code: 1 if one of the alerts is an error, otherwise 0.
    """
    from engine.insight.alerts import alerts_of  # imports pandas and DuckDB
    from engine.log import snapshot

    parser = verb_parser(verb)
    parser.add_argument("ids", nargs="*", metavar="RUN", help="run ids (default: runs that are active or ended within a day)")
    parser.add_argument("--all", action="store_true", help="alerts of all runs")
    options = parser.parse_args(arguments)
    if options.all and options.ids:
        parser.error("--all and run ids exclude each other")
    with snapshot(runs_root(options.runs)) as log:
        for run in options.ids:
            log.run(run)  # refuses an unknown run
        found = alerts_of(log, log.ids() if options.all else options.ids or None)
    if options.json:
        print(json.dumps([dataclasses.asdict(one) for one in found]))
    else:
        print(table_text([[one.level, one.kind, one.run or "this machine", one.sentence] for one in found]) or "No alerts.")
    return 1 if any(one.level == "error" for one in found) else 0
