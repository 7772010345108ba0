"""The verb `store`, which copies runs to an object store and from it."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from engine.cli.parser import verb_parser
from engine.errors import RunError
from engine.requests import runs_root
from engine.run.folder import run_ids

SHORTEST_S = 1.0
INTERRUPTED = 130


def store(verb: str, arguments: list[str]) -> int:
    """Push runs to a store, or pull them from it, once or again and again."""
    parser = verb_parser(verb)
    parser.add_argument("action", choices=("push", "pull"), help="push from the machine that computes the runs, "
                        "or pull to another")
    parser.add_argument("url", help="the store, for example s3://bucket/runs or file:///mnt/runs")
    parser.add_argument("ids", nargs="*", metavar="RUN", help="ids of runs (default: all)")
    parser.add_argument("--every", type=float, metavar="SECONDS", help="copy again and again until Ctrl-C, with this pause")
    options = parser.parse_args(arguments)
    if options.every is not None and not SHORTEST_S <= options.every < 86_400:
        parser.error(f"argument --every: must be from {SHORTEST_S:g} to 86400 seconds, got {options.every:g}")
    from engine.store.objects import Store  # fsspec takes a tenth of a second
    from engine.store.pulling import pull
    from engine.store.pushing import push

    runs, place = runs_root(options.runs), Store(options.url)
    copy: Callable[[Path, str, Store], bool] = push if options.action == "push" else pull

    def copy_all() -> tuple[list[str], dict[str, str]]:
        """Copy the runs. Return the ids of those that have changed, and {run id: why it could not be copied}."""
        changed, failed = [], {}
        for run_id in options.ids or (run_ids(runs) if copy is push else place.run_ids()):
            try:
                if copy(runs, run_id, place):
                    changed.append(run_id)
            except RunError as problem:
                failed[run_id] = str(problem)
        return changed, failed

    if options.every is None:
        return _report(*copy_all(), options.json)
    return _repeat(copy_all, options.every, options.json)


def _repeat(copy_all: Callable[[], tuple[list[str], dict[str, str]]], every_s: float, as_json: bool) -> int:
    """Copy again and again, until the user interrupts it. A store that cannot be reached is tried again."""
    said: dict[str, str] = {}
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            try:
                changed, failed = copy_all()
            except RunError as problem:
                changed, failed = [], {"": str(problem)}
            _report(changed, {run_id: text for run_id, text in failed.items() if said.get(run_id) != text}, as_json)
            said = failed
            time.sleep(every_s)
    return INTERRUPTED


def _report(changed: list[str], failed: dict[str, str], as_json: bool) -> int:
    if as_json:
        print(json.dumps({"changed": changed, "failed": failed}), flush=True)
    elif changed:
        print("\n".join(changed), flush=True)
    for text in failed.values():
        print(text, file=sys.stderr, flush=True)
    return 2 if failed else 0
