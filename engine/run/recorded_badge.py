"""The badge of an attack run (how reliable its accuracies are), from the reliability checks in its events. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from engine.attack.badge import Badge, Finding, badge


def recorded_badge(findings: Iterable[Mapping[str, str]]) -> Badge:
    """Return the badge of an attack run: green, amber or red, with reasons.

    Args:
        findings: one mapping per reliability check, with the fields check_name, title, finding and measured of the event
            `AttackCheck`.
    """
    return badge(Finding(one["check_name"], one["title"], one["finding"], one["measured"])  # type: ignore[arg-type]
                 for one in findings)
