"""The verb `rampart estimate`, which forecasts time, memory and disk space of a launch without launching it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from engine import api
from engine.cli import flags
from engine.cli.listing import table_text
from engine.config.run import KINDS
from engine.errors import ConfigError
from engine.grid import variants_of
from engine.preflight.forecast import Forecast, Total, forecast, size_text
from engine.preflight.measurement import Cost
from engine.registry import unknown_name
from engine.report.words import about_text, rounded_text
from engine.run import device

USAGE = """usage: rampart estimate search|retrain|attack [options] [--remembered]

Forecasts a launch without launching it. The options are those of `rampart search`, `retrain` or `attack`, also --seeds and
--grid. Steps that were not measured yet are measured on random images, a minute each at most; the dataset need not be here. With
--remembered, nothing is measured. Exit code 1: the launch does not fit into the memory or on the disk of this machine."""


def estimate(verb: str, arguments: Sequence[str]) -> int:
    """Print a forecast of the time, memory and disk space of a launch, and return the exit code.

    Args:
        verb: name of the verb.
        arguments: kind of run, followed by the options of the launch.

    Returns:
        Exit code: 1 if the forecast has warnings, for example too little disk space; 2 without arguments; otherwise 0.

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
    variants = variants_of(runs, request, request.grid, request.parent)
    each = [forecast(runs, one.steps, method=one.launch.method, preset=one.launch.preset, parent=request.parent,
                     counts=one.counts, measure=not remembered) for one in variants]
    total = Total(tuple(each))
    warnings = total.warnings(runs)
    counts = {kind: sum(one.counts[kind] for one in each) for kind in each[0].costs}
    if request.json:
        print(json.dumps({"chains": request.grid.chains, "runs": counts, "seconds": total.seconds, "warnings": warnings,
                          "memory": total.memory, "disk": total.disk, "variants": [one.launch.name for one in variants],
                          "costs": [{name: asdict(cost) for name, cost in one.costs.items()} for one in each]}))
    else:
        print(_text([one.launch.name for one in variants], each, counts, total.seconds))
        print("\n".join(warnings), end="\n" if warnings else "")
    return 1 if warnings else 0


def _text(names: Sequence[str], each: Sequence[Forecast], counts: Mapping[str, int], seconds: float | None) -> str:
    """Format the forecast as a table with one row for each kind of run of each chain, and a line for the whole launch."""
    rows = [["chain", "run", "number", "time of one", "memory", "disk", "from"]]
    for name, one in zip(names, each, strict=True):
        rows += [[name, kind, str(one.counts[kind]), *_cost_texts(cost)] for kind, cost in one.costs.items()]
    if not any(names):
        rows = [row[1:] for row in rows]
    whole = "unknown" if seconds is None else f"{about_text(seconds)} on {device.cores()} cores"
    return f"{table_text(rows)}\n{sum(counts.values())} runs: {whole}"


def _cost_texts(cost: Cost) -> list[str]:
    """Return four texts for the cost of a run: time, memory, disk space, and the source of these numbers."""
    certainty = ", at most" if cost.upper else ", rough" if cost.rough else ""
    return ["unknown" if cost.seconds is None else rounded_text(cost.seconds),
            size_text(cost.memory) if cost.memory else "unknown", size_text(cost.disk) if cost.disk else "unknown",
            f"{cost.source or 'nothing yet'}{certainty}"]
