"""Findings of the reliability checks on an evaluation, and the badge that summarises the findings. Does not import torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["passed", "warning", "failed", "skipped"]
Colour = Literal["green", "amber", "red"]


# {name of a check: its title} for the checks without which no badge is green. They would notice masked gradients and attacks that
# are too weak for the network.
ESSENTIAL = {"gradients": "Gradients", "huge-epsilon": "Huge epsilon breaks nearly all",
             "more-steps": "More steps are not weaker", "planted": "Planted adversarial examples"}


@dataclass(frozen=True)
class Finding:
    """The finding of one check, with the fields of the event `AttackCheck`.

    Attributes:
        check_name: name of the check, for example "black-box".
        title: name shown to users.
        finding: "passed", "warning", "failed" or "skipped". A check is skipped if it does not apply, or if an earlier check that
            it depends on has warned or failed.
        measured: a sentence with the measured numbers, or the reason for skipping.
        advice: a sentence on what to do; empty unless the finding is "warning" or "failed".
    """

    check_name: str
    title: str
    finding: Verdict
    measured: str
    advice: str = ""

    @property
    def raised(self) -> bool:
        """True if the finding is "warning" or "failed"."""
        return self.finding in ("warning", "failed")


@dataclass(frozen=True)
class Badge:
    """A colour that says how reliable the result of an evaluation is, with the reasons.

    Attributes:
        colour: "green", "amber" or "red".
        reasons: at least one sentence, most serious first.
    """

    colour: Colour
    reasons: tuple[str, ...]


def badge(findings: Iterable[Finding]) -> Badge:
    """Return a badge: red if a check failed; amber if a check warned or an essential check was not made; and green otherwise.

    `ESSENTIAL` names the essential checks. A skipped check counts as not made.
    """
    findings = list(findings)
    made = [finding for finding in findings if finding.finding != "skipped"]
    failed, warned = ([f"{finding.title}: {finding.measured}" for finding in made if finding.finding == verdict]
                      for verdict in ("failed", "warning"))
    if failed:
        return Badge("red", (*failed, *warned))
    if missing := [*warned, *_not_made(findings)]:
        return Badge("amber", tuple(missing) if findings else ("No check was made.",))
    return Badge("green", (f"{len(made)} {'checks' if len(made) > 1 else 'check'} passed.",))


def _not_made(findings: Iterable[Finding]) -> list[str]:
    """Return a sentence per skipped essential check, and a sentence that lists the essential checks without a finding."""
    skipped = {one.check_name: one for one in findings if one.finding == "skipped" and one.check_name in ESSENTIAL}
    absent = [title for name, title in ESSENTIAL.items() if name not in {one.check_name for one in findings}]
    return ([f"{one.title} was skipped: {one.measured}" for one in skipped.values()]
            + ([f"Without a finding: {', '.join(absent)}."] if absent else []))
