"""One line of events.jsonl -> rows of the run log's tables, with every field checked.

What a line must hold is the contract between worker and run log. A line that does not keep it is answered with a
RunLogError whose sentence ends up in the table `faults`; it never stops the lines after it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, get_args

import numpy as np

from engine.architecture.genotype import EDGES, Genotype
from engine.attack.statistics import wilson
from engine.errors import GenotypeError, RunLogError, shortened
from engine.registry import unknown_name
from engine.run.events import SCHEMA
from engine.search.candidates import Ranking

_MOST = 2**53  # largest whole number that JSON readers agree on
_ROUNDING = 1e-9
RANKINGS = get_args(Ranking)
LEVELS = ("info", "warning", "error")

Event = dict[str, Any]
Row = tuple[Any, ...]


def parse(line: bytes) -> Event:
    """The JSON object of one line.

    Raises:
        RunLogError: not JSON, not UTF-8, or not an object.
    """
    try:
        event = json.loads(line)
    except (ValueError, RecursionError) as problem:
        raise RunLogError(f"a line must be one JSON object, and this is not ({problem})") from None
    if not isinstance(event, dict):
        raise RunLogError(f"a line must be one JSON object, got {type(event).__name__}")
    return event


def rows_of(event: Event) -> tuple[str, list[Row]]:
    """(table without `_raw`, rows without `number` and `seq`) of a parsed event; no rows for the header.

    Raises:
        RunLogError: unknown event, missing field or wrong type.
    """
    name = event.get("event")
    if name == "header":
        _check_header(event)
        return "header", []
    if not isinstance(name, str) or name not in _READERS:
        raise RunLogError(unknown_name("event", name, _READERS).removesuffix("."))
    common = (integer(event, "attempt", low=1, high=1_000_000), integer(event, "step"), integer(event, "epoch", high=2**31 - 1),
              real(event, "t"))
    table, rows = _READERS[name](event)
    return table, [common + row for row in rows]


def _check_header(event: Event) -> None:
    if event.get("schema") != SCHEMA:
        raise RunLogError(f"events must be of schema {SCHEMA}, got {event.get('schema')!r}: another version of Rampart wrote "
                          "this run")


def integer(event: Event, key: str, *, low: int = 0, high: int = _MOST) -> int:
    """A whole number of an event.

    Raises:
        RunLogError: missing, not a whole number, or out of low..high.
    """
    value = event.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        bounds = f"of at least {low}" if high == _MOST else f"in {low}..{high}"
        raise RunLogError(f"{key} must be a whole number {bounds}, got {shortened(value)}")
    return value


def number(value: Any, what: str) -> float | None:
    """A number; None (how the worker writes NaN) stays None.

    Raises:
        RunLogError: anything else.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RunLogError(f"{what} must be a number, got {value!r}")
    try:
        value = float(value)
    except OverflowError:
        raise RunLogError(f"{what} must be a number that fits 64 bits, got a longer one") from None
    return value if math.isfinite(value) else None


def real(event: Event, key: str) -> float:
    """A finite number of an event.

    Raises:
        RunLogError: missing or not a finite number.
    """
    value = number(event.get(key), key)
    if value is None:
        raise RunLogError(f"{key} must be a finite number, got {event.get(key)!r}")
    return value


def text(event: Event, key: str, *, optional: bool = False) -> str | None:
    """A string of an event.

    Raises:
        RunLogError: no string (missing is allowed when optional).
    """
    value = event.get(key)
    if isinstance(value, str) or (optional and value is None):
        return value
    raise RunLogError(f"{key} must be text, got {value!r}")


def numbers(event: Event, key: str, count: int) -> list[float | None]:
    """A list of `count` numbers.

    Raises:
        RunLogError: no list, or of another length.
    """
    value = event.get(key)
    if not isinstance(value, list) or len(value) != count:
        raise RunLogError(f"{key} must be a list of {count} numbers, got {shortened(value)}")
    return [number(item, key) for item in value]


def _resumed(event: Event) -> tuple[str, list[Row]]:
    return "resumed", [(integer(event, "from_step"),)]


def _progress(event: Event) -> tuple[str, list[Row]]:
    passes = 0 if event.get("passes") is None else integer(event, "passes")
    return "progress", [(text(event, "phase"), real(event, "done"), real(event, "total"), text(event, "unit", optional=True),
                         passes, text(event, "detail", optional=True))]


def _metric(event: Event) -> tuple[str, list[Row]]:
    values = event.get("values")
    if not isinstance(values, dict) or not values:
        raise RunLogError(f"values must be an object of names and numbers, got {shortened(values)}")
    split, statistics = text(event, "split"), text(event, "statistics", optional=True) or ""
    return "metric", [(split, statistics, name, number(value, name)) for name, value in values.items()]


def _alpha(event: Event) -> tuple[str, list[Row]]:
    primitives = event.get("primitives")
    if not isinstance(primitives, list) or not all(isinstance(name, str) for name in primitives) or not primitives:
        raise RunLogError(f"primitives must be a list of operation names, got {shortened(primitives)}")
    try:
        alpha = np.asarray(event.get("alpha"))
    except ValueError:
        alpha = np.empty(0)
    if alpha.ndim != 2 or alpha.shape[1] != len(primitives) or alpha.dtype.kind not in "fi" or not np.isfinite(alpha).all():
        raise RunLogError(f"alpha must be rows of {len(primitives)} finite numbers, one row per edge, "
                          f"got {shortened(event.get('alpha'))}")
    exponential = np.exp(alpha - alpha.max(axis=1, keepdims=True))
    weight = exponential / exponential.sum(axis=1, keepdims=True)
    edge_weight = np.empty(0) if event.get("beta") is None else _edge_weights(event, len(alpha))
    if edge_weight.size:
        weight = weight * edge_weight[:, None]
    return "alpha", [(text(event, "cell"), primitives, *(of.ravel().astype(np.float32) for of in (alpha, weight, edge_weight)))]


def _edge_weights(event: Event, edges: int) -> np.ndarray:
    """Softmax of the field beta, one number per edge, over the edges into each node."""
    beta = np.array([np.nan if value is None else value for value in numbers(event, "beta", edges)])
    if edges != len(EDGES) or not np.isfinite(beta).all():
        raise RunLogError(f"beta must be {len(EDGES)} finite numbers, one per edge, got {shortened(event['beta'])}")
    found = np.empty_like(beta)
    targets = np.array([target for _, target in EDGES])
    for target in np.unique(targets):
        exponential = np.exp(beta[targets == target] - beta[targets == target].max())
        found[targets == target] = exponential / exponential.sum()
    return found


def _genotype_of(event: Event) -> tuple[str, str]:
    try:
        found = Genotype.from_dict(event.get("genotype"))
    except GenotypeError as problem:
        raise RunLogError(str(problem).removesuffix(".")) from None
    return found.to_json(), found.hash


def _genotype(event: Event) -> tuple[str, list[Row]]:
    return "genotype", [_genotype_of(event)]


def _objectives(event: Event) -> tuple[str, list[Row]]:
    names = event.get("names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or not names:
        raise RunLogError(f"names must be a list of objectives, got {shortened(names)}")
    count = len(names)
    losses, weights, norms = (numbers(event, key, count) for key in ("losses", "weights", "norms"))
    matrix = event.get("cosines")
    if not isinstance(matrix, list) or len(matrix) != count:
        raise RunLogError(f"cosines must be {count} rows of {count} numbers, got {shortened(matrix)}")
    rows = [numbers({"cosines": row}, "cosines", count) for row in matrix]
    return "objective", [(names[i], i, losses[i], weights[i], norms[i],
                          min((value for j, value in enumerate(rows[i]) if j != i and value is not None), default=None))
                         for i in range(count)]


def _candidate(event: Event) -> tuple[str, list[Row]]:
    images = integer(event, "images", low=1)
    natural, adversarial = (integer(event, key, high=images) for key in ("natural_correct", "adversarial_correct"))
    if event.get("ranking") not in RANKINGS:
        raise RunLogError(unknown_name("ranking", event.get("ranking"), RANKINGS).removesuffix("."))
    return "candidate", [(integer(event, "candidate", low=1, high=2**31 - 1), *_genotype_of(event), integer(event, "parameters"),
                          integer(event, "macs"), images, natural, *wilson(natural, images), adversarial,
                          *wilson(adversarial, images), event["ranking"])]


def _network(event: Event) -> tuple[str, list[Row]]:
    sizes = integer(event, "parameters"), integer(event, "macs")
    if event.get("hand_made") is not None:  # it has no cells
        return "network", [(*sizes, None, None, None, None, text(event, "hand_made"))]
    return "network", [(*sizes, integer(event, "channels", high=2**31 - 1), integer(event, "layers", high=2**31 - 1),
                        *_genotype_of(event), None)]


def _attack(event: Event) -> tuple[str, list[Row]]:
    images = integer(event, "images", low=1)
    correct = integer(event, "correct", high=images)
    fields = event.get("fields", {})
    if not isinstance(fields, dict):
        raise RunLogError(f"fields must be an object, got {shortened(fields)}")
    accuracy, low, high = (real(event, key) for key in ("accuracy", "low", "high"))
    if not -_ROUNDING <= low <= accuracy + _ROUNDING <= high + 2 * _ROUNDING <= 1 + 3 * _ROUNDING:
        raise RunLogError(f"low <= accuracy <= high must be fractions in 0..1, got {low}, {accuracy}, {high}")
    return "attack", [(text(event, "attack"), text(event, "title"), text(event, "part_of", optional=True), real(event, "epsilon"),
                       images, correct, accuracy, low, high, text(event, "fingerprint"), json.dumps(fields, sort_keys=True),
                       number(event.get("duration_s"), "duration_s"), event.get("complete", True) is True)]


def _opened(event: Event) -> tuple[str, list[Row]]:
    return "opened", [(text(event, "split"), integer(event, "images"), text(event, "purpose"))]


def _alert(event: Event) -> tuple[str, list[Row]]:
    if event.get("level") not in LEVELS:
        raise RunLogError(unknown_name("alert level", event.get("level"), LEVELS).removesuffix("."))
    return "alert", [(event["level"], text(event, "text"))]


def _checkpoint(event: Event) -> tuple[str, list[Row]]:
    return "mark", [("checkpoint", text(event, "path", optional=True))]


def _finished(event: Event) -> tuple[str, list[Row]]:
    return "mark", [("finished", None)]


_READERS: dict[str, Callable[[Event], tuple[str, list[Row]]]] = {
    "resumed": _resumed, "progress": _progress, "metric": _metric, "alpha": _alpha, "genotype": _genotype,
    "objectives": _objectives, "candidate": _candidate, "network": _network, "attack": _attack, "opened": _opened,
    "alert": _alert, "checkpoint": _checkpoint, "finished": _finished,
}
