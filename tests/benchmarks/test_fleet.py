"""The simulation of a fleet starts real processes, reads their events and serves pages. The numbers are not checked."""

from __future__ import annotations

import pytest

from benchmarks import fleet, large_folder


def test_it_measures_every_part_of_a_small_fleet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(large_folder, "LONG_STEPS", 20)
    for name, value in {"ROUNDS": 1, "BURST": 2, "VISITS": 1, "SETTLE_S": 0.0}.items():
        monkeypatch.setattr(fleet, name, value)
    rows = fleet.main(["--runs", "24", "--workers", "3", "--points", "5000", "--step-s", "0.5", "--seconds", "3", "--markdown"])
    text = capsys.readouterr().out
    assert {row.part.partition(":")[0] for row in rows} == {"supervisor", "index", "workers", "disk", "dashboard"}
    assert len([row for row in rows if row.core is not None]) == 5
    assert text.startswith("24 runs and 3 workers:") and "Full first: " in text and all(row.value for row in rows)
