"""Peaks belong to the measured process, and the share is of the memory that a step adds."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.search_step import PUBLISHED, SETTINGS
from benchmarks.search_step_memory import Peak, StepMemory, measure, peak_bytes, table
from tests.benchmarks.test_search_step import TINY

MIB = 2 ** 20


def test_peak_grows_by_what_is_held_and_stays() -> None:
    code = ("from benchmarks.search_step_memory import peak_bytes\n"
            "before = peak_bytes(); held = bytearray(b'x' * (300 << 20)); del held\n"
            "print(before, peak_bytes())")
    before, after = map(int, subprocess.run([sys.executable, "-c", code], check=True, capture_output=True,
                                            text=True).stdout.split())
    assert 300 * MIB <= after - before < 700 * MIB  # the expression holds one or two copies


def test_a_large_parent_does_not_count() -> None:
    held = bytearray(b"x" * (600 * MIB))
    code = "from benchmarks.search_step_memory import peak_bytes; print(peak_bytes())"
    child = int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
    assert len(held) < peak_bytes() and child < 600 * MIB


@pytest.mark.slow
def test_measures_each_side_in_its_own_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SETTINGS, "digits", TINY)
    memory = measure("digits", choices=["plain"])
    assert list(memory.peaks) == [PUBLISHED, "plain"]
    assert all(peak.net_bytes > 0 for peak in memory.peaks.values())


def test_reports_the_share_of_the_difference() -> None:
    memory = StepMemory("tiny", TINY, {PUBLISHED: Peak(200 * MIB, 1200 * MIB), "plain": Peak(300 * MIB, 550 * MIB)})
    assert memory.percent("plain") == pytest.approx(25)
    assert table([memory]).rows[1][2:] == ("550", "300", "250", "25 %")
    assert memory.record()["peaks"]["plain"]["net_bytes"] == 250 * MIB
