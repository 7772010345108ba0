"""The benchmark of telemetry runs, and telemetry costs less than 1 % of a core."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import telemetry


def test_telemetry_costs_less_than_one_per_cent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.main(["--rounds", "2", "--json", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())
    assert 0 < found["share"] < 0.01 and found["images_s"]["median"] < found["step_s"]["median"]
    assert "a search step, CPU time" in capsys.readouterr().out
