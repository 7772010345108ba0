"""The reliability badge of an evaluation: one colour from the findings of its checks, with the reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Colour = Literal["green", "amber", "red"]


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        name, title: name of the check, and its display name.
        finding: "passed", "warning", "failed" or "skipped".
        measured: a sentence with the numbers.
        advice: a sentence with what to do; empty if the check passed.
    """

    name: str
    title: str
    finding: str
    measured: str
    advice: str = ""


@dataclass(frozen=True)
class Badge:
    """The reliability of the figures of one evaluation.

    Attributes:
        colour: "red" if a check failed, "amber" if one warned or none was made, otherwise "green".
        reasons: sentences that explain a colour other than green, worst first.
    """

    colour: Colour
    reasons: tuple[str, ...]


def badge(findings: Sequence[Finding]) -> Badge:
    """Return the badge of an evaluation from the findings of its checks."""
    failed, warned = ([one for one in findings if one.finding == kind] for kind in ("failed", "warning"))
    reasons = tuple(f"{one.title}: {one.measured} {one.advice}".strip() for one in (*failed, *warned))
    if failed:
        return Badge("red", reasons)
    if warned:
        return Badge("amber", reasons)
    if not any(one.finding == "passed" for one in findings):
        return Badge("amber", ("The reliability of these figures was not checked.",))
    return Badge("green", ())
