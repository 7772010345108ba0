"""The verbs that launch, list and control runs and studies.

Each function gets the name of its verb and the words after it, and returns the exit code.
"""

from __future__ import annotations

import argparse
import dataclasses
import json

from engine import api
from engine.cli import flags
from engine.cli.listing import table_text
from engine.cli.parser import verb_parser
from engine.grid import launches_of, runs_in


def launch(verb: str, arguments: list[str]) -> int:
    """Launch a run with its followers, or one such chain for every combination of a grid."""
    request = flags.parse(verb, arguments)
    root = api.runs_root(request.runs)
    launches = launches_of(request, request.grid, request.parent)
    chains = api.launch_all(launches, runs=root)
    ids = runs_in(chains)
    if request.wait:
        from engine.cli.waiting import wait

        return wait(ids, root, request.json)
    named = list(zip([one.name for one in launches], chains)) if request.grid.axes else []
    if request.json:
        told = [{"combination": name, "ids": chain} for name, chain in named]
        print(json.dumps({"ids": ids} | ({"chains": told} if named else {})))
    else:
        print(table_text([[name, *chain] for name, chain in named]) if named else "\n".join(ids))
    return 0


def estimate(verb: str, arguments: list[str]) -> int:
    """Print a forecast of the time, memory and disk space of a launch."""
    from engine.cli import estimates  # imports pandas, which most verbs do not need

    return estimates.estimate(verb, arguments)


def stop(verb: str, arguments: list[str]) -> int:
    """Request that a run stops, and print the state of the run."""
    parser = verb_parser(verb)
    parser.add_argument("id", help="id of the run")
    parser.add_argument("--force", action="store_true", help="kill the process group; steps since the last checkpoint are lost")
    options = parser.parse_args(arguments)
    (api.force_stop if options.force else api.stop)(api.runs_root(options.runs), options.id)
    return _say_state(options)


def resume(verb: str, arguments: list[str]) -> int:
    """Put a run back into the queue, to continue from its last checkpoint, and print the state of the run."""
    parser = verb_parser(verb)
    parser.add_argument("id", help="id of the run")
    parser.add_argument("--processes", type=int, metavar="N", help="processes of a retraining from now on, if not those of its "
                                                                   "settings; results are equal up to rounding")
    parser.add_argument("--wait", action="store_true", help="stay and show progress until it is over")
    options = parser.parse_args(arguments)
    api.resume(api.runs_root(options.runs), options.id, options.processes)
    if options.wait:
        from engine.cli.waiting import wait

        return wait([options.id], api.runs_root(options.runs), options.json)
    return _say_state(options)


def _say_state(options: argparse.Namespace) -> int:
    state = api.status(api.runs_root(options.runs), options.id)
    print(json.dumps({"id": options.id, **dataclasses.asdict(state)}) if options.json else f"{options.id}  {state.status}")
    return 0


def queue(verb: str, arguments: list[str]) -> int:
    """Print the queue, or change it."""
    from engine.cli import queue as waiting  # imports pandas, which most verbs do not need

    return waiting.queue(verb, arguments)


def runs(verb: str, arguments: list[str]) -> int:
    """Print the list of runs."""
    from engine.cli import run_list  # imports pandas, which most verbs do not need

    return run_list.runs(verb, arguments)


def sweep(verb: str, arguments: list[str]) -> int:
    """Launch an attack run that measures the accuracy of a network at several radii and numbers of steps."""
    from engine.cli import robustness

    parser = verb_parser(verb)
    parser.add_argument("run", help="id of a retraining, or of an attack whose norm, epsilon and images are taken")
    parser.add_argument("--radii", type=int, default=16, help="number of radii at which the curve is shown (default 16)")
    parser.add_argument("--wait", action="store_true", help="show progress, and print the curves at the end")
    options = parser.parse_args(arguments)
    return robustness.sweep(options.run, options.radii, api.runs_root(options.runs), options.wait, options.json)


def transfer(verb: str, arguments: list[str]) -> int:
    """Attack each network with images made on each network, and print the matrix of accuracies."""
    from engine.cli import robustness

    parser = verb_parser(verb)
    parser.add_argument("run", nargs="+", help="ids of two or more retrainings on one dataset")
    parser.add_argument("--attack", choices=robustness.MAKERS, default=robustness.MAKERS[0],
                        help="attack that makes the images (default %(default)s)")
    options = parser.parse_args(arguments)
    return robustness.transfer(options.run, options.attack, api.runs_root(options.runs), options.json)


def study(verb: str, arguments: list[str]) -> int:
    """Run one action on studies, for example launch a study or print its answer."""
    from engine.cli import studies  # imports pandas and scipy, which most verbs do not need

    return studies.study(verb, arguments)
