"""The benchmark of the run log runs and measures every query; the times themselves are not checked."""

from __future__ import annotations

import pytest

from benchmarks import large_folder, run_log


def test_it_runs_on_a_few_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_folder, "LONG_STEPS", 40)
    found = run_log.main(["--runs", "6", "--points", "20000", "--queries"])
    assert {"runs", "alpha_lines", "evaluations", "search_times"} <= found.keys()
    assert all(clock > 0 for clock, _ in found.values())
