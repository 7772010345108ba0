"""The benchmark of the pages measures a real server; the times themselves are not checked."""

from __future__ import annotations

import pytest

from benchmarks import large_folder, pages


def test_it_measures_pages_a_refresh_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_folder, "LONG_STEPS", 20)
    for name, value in {"PAGES": ("runs", "run"), "TABS": ("alphas",), "REPEATS": 1, "SETTLE_S": 0.0, "LOOK_S": 0.2,
                        "QUIET_S": 2.0}.items():
        monkeypatch.setattr(pages, name, value)
    times, memory = pages.main(["--runs", "4", "--points", "5000"])
    assert {"runs: first visit", "run: again", "run, tab alphas: first visit", "live refresh: all charts and texts"} <= set(times)
    assert all(clock > 0 for clock, _ in times.values())
    assert all(50 < size < 5000 for size in memory.values())
