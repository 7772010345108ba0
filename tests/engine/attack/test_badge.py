"""The badge of an evaluation: a failure outweighs warnings, a warning outweighs passes, and no check is no proof."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from itertools import product

import pytest

from engine.attack.badge import ESSENTIAL, Badge, Finding, badge
from engine.run.attack_events import AttackCheck

VERDICTS = ("passed", "warning", "failed", "skipped")


def finding(verdict: str, number: int = 0) -> Finding:
    return Finding(f"check-{number}", f"Check {number}", verdict, f"{number} of 64 images.")


def essential(**others: str) -> list[Finding]:
    """The findings of the checks that a green badge needs, all passed except for the given ones."""
    return [Finding(name, title, others.get(name, "passed"), "Reason.") for name, title in ESSENTIAL.items()]


@pytest.mark.parametrize("verdicts", [*product(VERDICTS, repeat=3), ()])
def test_the_worst_finding_decides_the_colour(verdicts: tuple[str, ...]) -> None:
    given = [finding(verdict, number) for number, verdict in enumerate(verdicts)]
    shown = badge([*given, *essential()])
    expected = "red" if "failed" in verdicts else "amber" if "warning" in verdicts else "green"
    assert shown.colour == expected and shown.reasons
    raised = [f"{one.title}: {one.measured}" for one in given if one.raised]
    if raised:
        assert sorted(shown.reasons) == sorted(raised)
        severity = [given[int(reason.split()[1][0])].finding for reason in shown.reasons]
        assert severity == sorted(severity), "failures come first"


def test_a_green_badge_counts_the_checks_that_were_made() -> None:
    assert badge([finding("passed"), *essential(), finding("skipped", 2)]) == Badge("green", ("5 checks passed.",))


@pytest.mark.parametrize("name", ESSENTIAL)
def test_no_badge_is_green_without_the_essential_checks(name: str) -> None:
    """A check that was skipped or never made is no evidence, and the badge says which."""
    skipped = badge(essential(**{name: "skipped"}))
    assert skipped == Badge("amber", (f"{ESSENTIAL[name]} was skipped: Reason.",))
    absent = badge([one for one in essential() if one.check_name != name])
    assert absent == Badge("amber", (f"Without a finding: {ESSENTIAL[name]}.",))
    assert badge([]) == Badge("amber", ("No check was made.",))
    assert badge([*essential(**{name: "skipped"}), finding("failed")]).colour == "red"


def test_a_finding_has_the_fields_of_its_event() -> None:
    assert [field.name for field in fields(Finding)] == [field.name for field in fields(AttackCheck)]


def test_the_badge_imports_no_torch() -> None:
    """The dashboard computes it."""
    code = "import sys, engine.attack.badge; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
