"""The verdict of a comparison of two networks, and its text for users. This module imports neither torch nor numpy."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """The answer so far to the question of which of two networks is more robust."""

    FIRST = "first better"
    SECOND = "second better"
    EQUAL = "equal"
    OPEN = "still open"


def in_words(state: Mapping[str, Any], first: str, second: str) -> str:
    """Return the state of a comparison as a sentence without a full stop.

    Args:
        state: fields of an `EarlyVerdict` event, or a row of `RunLog.verdicts`.
        first, second: names of the networks.
    """
    if first == second:
        first, second = f"{first} (this run)", f"{second} (the other run)"
    seen, images, verdict = int(state["images"]), int(state["total"]), Verdict(state["verdict"])
    if verdict is Verdict.EQUAL:
        return f"equal after all {images:,} images: {first} and {second} withstand the attacks on equally many of them"
    if verdict is Verdict.OPEN:
        return (f"open after {seen:,} of {images:,} images: {first} minus {second} is between {100 * state['low']:.1f} and "
                f"{100 * state['high']:.1f} points on these test images")
    better, worse = (first, second) if verdict is Verdict.FIRST else (second, first)
    certainty = f" ({100 * state['level']:g} % time-uniform)" if seen < images else ""
    return f"decided after {seen:,} of {images:,} images: {better} is more robust than {worse} on these test images{certainty}"
