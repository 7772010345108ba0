"""Actions on many runs. Each run gets its own outcome, and a refusal by one run does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from engine.errors import RampartError


@dataclass(frozen=True)
class Outcome:
    """The outcome of an action on one run.

    Attributes:
        run: id of the run.
        done: what happened, in a few words, for example "tagged baseline"; "" if the action was refused.
        refusal: the reason why the action was refused, as a sentence; "" if it was done.
    """

    run: str
    done: str = ""
    refusal: str = ""


def done_runs(_: Mapping[str, Any], outcomes: Iterable[Outcome]) -> list[str] | None:
    """Return the ids of the runs for which an action was not refused; None if it was refused for all.

    This function is the argument `about` of `engine.acts.act`, so that the audit names these runs.
    """
    return [one.run for one in outcomes if not one.refusal] or None


def each(run_ids: Iterable[str], action: Callable[[str], str]) -> list[Outcome]:
    """Call an action for each run, and return the outcomes in the same order.

    Args:
        run_ids: ids of the runs. An id that occurs twice is acted on once.
        action: function that takes a run id, acts, and returns a few words about it. It raises RampartError to refuse.
    """
    return [_one(run_id, action) for run_id in dict.fromkeys(run_ids)]


def _one(run_id: str, action: Callable[[str], str]) -> Outcome:
    try:
        return Outcome(run_id, done=action(run_id))
    except RampartError as refusal:
        return Outcome(run_id, refusal=str(refusal))
