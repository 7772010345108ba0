"""The verb `queue`: waiting runs, their order, the pause, how many runs share a device, and the launcher that starts them."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine import queueing
from engine.cli.listing import table_text
from engine.cli.parser import Parser
from engine.errors import ConfigError
from engine.queueing import devices_text, settings_of
from engine.report.words import plural_text
from engine.requests import runs_root
from engine.study.report import seconds_text

ACTIONS = ("list", "pause", "continue", "move", "slots", "launcher")
MEASURED = " where their measured memory fits"
PLACES = ("first", "last", "up", "down")
TEXT = "List waiting runs in the order in which they start; pause, continue, move, slots, launcher change it."


def queue(verb: str, arguments: list[str]) -> int:
    """Run one action of the verb `queue`, and return the exit code 0.

    Args:
        verb: "queue".
        arguments: words after the verb. The first is the action, one of `ACTIONS`. Without arguments, the queue is listed.

    Raises:
        ConfigError, RunError: the action is not possible. The message is a sentence for the user.
    """
    options = _options(verb, arguments)
    calls: dict[str, Callable[[argparse.Namespace, Path], None]] = {
        "list": _list, "pause": _pause, "continue": _continue, "move": _move, "slots": _slots,
        "launcher": _launcher}
    calls[options.action](options, runs_root(options.runs))
    return 0


def _options(verb: str, arguments: list[str]) -> argparse.Namespace:
    """Parse the words after the verb, and reject options that belong to another action."""
    parser = Parser(verb, TEXT)
    parser.add_argument("action", nargs="?", choices=ACTIONS, default="list", help="list (default): waiting runs and why they "
                        "wait; pause: running runs go on, nothing new starts; continue; move: change the place of a run; slots: "
                        "how many runs may use a device at the same time; launcher: list what can start runs, or choose one")
    parser.add_argument("run", nargs="?", metavar="RUN or LAUNCHER", help="move: id of a waiting run; launcher: its name")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="NAME=VALUE",
                        help="launcher: a setting of the launcher; may be given several times")
    parser.add_argument("--after-chains", action="store_true", help="pause: runs that follow the running ones still start")
    where = parser.add_mutually_exclusive_group()
    for place in PLACES:
        where.add_argument(f"--{place}", dest="place", action="store_const", const=place, help=f"move: {place}")
    where.add_argument("--before", metavar="RUN", help="move: before another waiting run")
    parser.add_argument("--cpu", metavar="N", help="slots: runs on the CPU, or auto")
    parser.add_argument("--per-gpu", metavar="N", help="slots: runs on each GPU, or auto")
    parser.add_argument("--share", choices=("on", "off"),
                        help="slots: whether runs share a GPU where the measured memory of all of them fits")
    parser.add_argument("--runs", metavar="DIR", default=None, help="folder of all runs (default: $RAMPART_RUNS, else ./runs)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    belongs = {"settings": "launcher", "place": "move", "before": "move", "after_chains": "pause", "cpu": "slots",
               "per_gpu": "slots", "share": "slots"}
    for name, action in belongs.items():
        if getattr(options, name) and options.action != action:
            parser.error(f"{name.replace('_', '-')} belongs to `queue {action}`, got `queue {options.action}`")
    if options.run and options.action not in ("move", "launcher"):
        parser.error(f"{options.run} belongs to `queue move` or `queue launcher`, got `queue {options.action}`")
    if options.settings and not options.run:
        parser.error("--set needs the name of a launcher: queue launcher NAME --set NAME=VALUE")
    if options.action == "move" and not (options.run and (options.place or options.before)):
        parser.error("move needs the id of a waiting run and one of --first, --last, --up, --down or --before RUN")
    return options


def _list(options: argparse.Namespace, root: Path) -> None:
    shown = queueing.view(root)
    if options.json:
        print(json.dumps(_record(shown)))
        return
    rows = [[str(place), one.id, one.kind, one.title, one.cause, starts_text(one.starts_in_s)]
            for place, one in enumerate(shown.waiting, start=1)]
    print(table_text(rows) or "No run is waiting.")
    print(_state_text(shown))


def _state_text(shown: queueing.View) -> str:
    """Return one line: numbers of running and waiting runs, how many may share a device, and whether the queue is paused."""
    paused = f"{shown.decisions.hold('')} " if shown.decisions.is_paused else ""
    slots = f"CPU: {plural_text(shown.cpu_slots, 'slot')}"
    if shown.gpus:
        fitting = MEASURED if shown.decisions.share_gpus else ""
        slots += f", {plural_text(len(shown.gpus), 'GPU')}: {plural_text(shown.runs_per_gpu, 'run')} each{fitting}"
    return f"{paused}{plural_text(len(shown.running), 'run')} running, {len(shown.waiting)} waiting. {slots}."


def starts_text(seconds: float | None) -> str:
    """Format the seconds until a run starts, for example as "in about 12 min"; "" if they are unknown."""
    if seconds is None:
        return ""
    return "next" if seconds < 1 else f"in about {seconds_text(seconds)}"


def _record(shown: queueing.View) -> dict[str, Any]:
    """Return the queue as a dict for JSON."""
    return {"paused": shown.decisions.is_paused, "paused_at": shown.decisions.paused_at, "exempt": list(shown.decisions.exempt),
            "slots": {"cpu": shown.cpu_slots, "per_gpu": shown.runs_per_gpu, "gpus": list(shown.gpus),
                      "share": shown.decisions.share_gpus},
            "running": [dataclasses.asdict(one) for one in shown.running],
            "waiting": [dataclasses.asdict(one) for one in shown.waiting]}


def _pause(options: argparse.Namespace, root: Path) -> None:
    queueing.pause(root, after_chains=options.after_chains)
    _say(options, root)


def _continue(options: argparse.Namespace, root: Path) -> None:
    queueing.go_on(root)
    _say(options, root)


def _move(options: argparse.Namespace, root: Path) -> None:
    order = queueing.move(root, options.run, options.place, before=options.before)
    print(json.dumps({"order": order}) if options.json else f"{options.run} is number {order.index(options.run) + 1} of "
          f"{len(order)} in the queue.")


def _slots(options: argparse.Namespace, root: Path) -> None:
    chosen = queueing.decisions_of(root)
    if options.cpu or options.per_gpu or options.share:
        queueing.set_slots(root, cpu=_number("cpu", options.cpu, chosen.cpu_slots),
                           per_gpu=_number("per-gpu", options.per_gpu, chosen.runs_per_gpu),
                           share=None if options.share is None else options.share == "on")
    _say(options, root)


def _launcher(options: argparse.Namespace, root: Path) -> None:
    if options.run:
        queueing.choose_launcher(root, options.run, settings_of(options.settings))
    listed = queueing.launchers(root)
    if options.json:
        print(json.dumps([dataclasses.asdict(one) for one in listed]))
        return
    print(table_text([["chosen" if one.is_chosen else "", one.name, one.about, one.missing or devices_text(one),
                       ", ".join(f"{name}={value}" for name, value in one.settings.items() if value != "")] for one in listed]))


def _number(name: str, text: str | None, chosen: int | None) -> int | None:
    """Parse the number of runs that may use a device. "auto" gives None, which stands for the default.

    If `text` is None, return `chosen`.
    """
    if text is None:
        return chosen
    if text != "auto" and not text.isdecimal():
        raise ConfigError(f"--{name} must be a whole number or auto, got {text!r:.40}; give for example --{name} 2.")
    return None if text == "auto" else int(text)


def _say(options: argparse.Namespace, root: Path) -> None:
    """Print the state of the queue after a change."""
    shown = queueing.view(root)
    print(json.dumps(_record(shown)) if options.json else _state_text(shown))
