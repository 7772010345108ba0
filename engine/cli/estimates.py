"""The verb `rampart estimate`, which forecasts time, memory and disk space of a launch without launching it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from engine import api
from engine.cli import flags
from engine.cli.flags import RunRequest
from engine.cli.listing import table_text
from engine.config.run import KINDS
from engine.configuring import build
from engine.errors import ConfigError
from engine.grid import Grid, launches_of
from engine.preflight.forecast import Forecast, forecast, size_text
from engine.registry import unknown_name
from engine.requests import Launch
from engine.run import device
from engine.run.chain import followers, inherited
from engine.run.folder import RunFolder

USAGE = """usage: rampart estimate search|retrain|attack [options] [--remembered]

Forecasts a launch without launching it. The options are those of `rampart search`, `retrain` or `attack`, also --seeds and
--grid. Steps that were not measured yet are measured on random images, a minute each at most; the dataset need not be here. With
--remembered, nothing is measured. Exit code 1: the launch does not fit into the memory or on the disk of this machine."""


def estimate(verb: str, arguments: Sequence[str]) -> int:
    """Forecast a launch, print the forecast, and return the exit code.

    Args:
        verb: name of the verb.
        arguments: kind of run, followed by the options of the launch.

    Raises:
        ConfigError, RunError: the launch is not possible, or a batch cannot be measured.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        if arguments:
            raise SystemExit(0)
        return 2
    kind, *options = arguments
    if kind not in KINDS:
        raise ConfigError(unknown_name("run kind", kind, KINDS))
    remembered = "--remembered" in options
    request = flags.parse(kind, [one for one in options if one != "--remembered"])
    runs = api.runs_root(request.runs)
    each = [_forecast(request, launch, measure=not remembered) for launch in _methods(request)]
    warnings = list(dict.fromkeys(sentence for one in each for sentence in one.warnings(runs)))
    seconds = None if any(one.seconds is None for one in each) else sum(one.seconds or 0.0 for one in each)
    counts = {kind: sum(one.counts[kind] for one in each) for kind in each[0].costs}
    if request.json:
        print(json.dumps({"chains": request.grid.chains, "runs": counts, "seconds": seconds, "warnings": warnings,
                          "memory": max(one.memory for one in each), "disk": sum(one.disk for one in each),
                          "costs": [{name: asdict(cost) for name, cost in one.costs.items()} for one in each]}))
    else:
        print(_text(each, counts, seconds))
        print("\n".join(warnings), end="\n" if warnings else "")
    return 1 if warnings else 0


def _methods(request: RunRequest) -> list[Launch]:
    """Return one launch for each search method of the request. The other axes of its grid are assumed not to change the cost."""
    axes = {"method": request.grid.axes["method"]} if "method" in request.grid.axes else {}
    return launches_of(request, Grid(axes), request.parent)


def _forecast(request: RunRequest, launch: Launch, measure: bool) -> Forecast:
    runs, changes = api.runs_root(request.runs), dict(launch.config)
    config = build(launch.kind, launch.method, str(changes["dataset"]), launch.preset, changes)
    if launch.parent:
        config = inherited(RunFolder(runs, launch.parent).read_run(), config, set(changes))
    steps = [(launch.kind, config), *followers(launch.kind, config, launch.method, launch.preset, launch.then,
                                               launch.then_changes)]
    rest = Grid({name: values for name, values in request.grid.axes.items() if name != "method"})
    return forecast(runs, steps, method=launch.method, preset=launch.preset, parent=launch.parent, measure=measure,
                    counts=rest.runs_of([kind for kind, _ in steps]))


def _text(each: Sequence[Forecast], counts: dict[str, int], seconds: float | None) -> str:
    """Return the forecast as a table with one row for each kind of run, and a line for the whole launch."""
    rows = [["run", "number", "time of one", "memory", "disk", "from"]]
    for one in each:
        rows += [[kind, str(one.counts[kind]), "unknown" if cost.seconds is None else minutes(cost.seconds),
                  size_text(cost.memory) if cost.memory else "unknown", size_text(cost.disk) if cost.disk else "unknown",
                  f"{cost.source or 'nothing yet'}{', rough' if cost.rough else ''}"] for kind, cost in one.costs.items()]
    whole = "unknown" if seconds is None else f"about {minutes(seconds)} on {device.cores()} cores"
    return f"{table_text(rows)}\n{sum(counts.values())} runs: {whole}"


def minutes(seconds: float) -> str:
    """Return a duration as text with a suitable unit, for example "7 min"."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}".replace(".0 ", " ")
    return f"{seconds:.0f} s"
