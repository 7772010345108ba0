"""The benchmark of the tabs clicks in a real browser; the times themselves are not checked."""

from __future__ import annotations

import pytest

from benchmarks import large_folder, tab_paint


def test_a_click_is_timed_until_the_tab_has_content(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in {"LONG_STEPS": 20, "LONG_MEASUREMENTS": 3}.items():
        monkeypatch.setattr(large_folder, name, value)
    for name, value in {"TABS": ("System", "Log"), "REST_MS": 0}.items():
        monkeypatch.setattr(tab_paint, name, value)
    found = tab_paint.main(["--runs", "4", "--points", "5000", "--clicks", "2"])
    assert list(found) == ["System", "Log"] and all(len(clicks) == 2 for clicks in found.values())
    assert all(one.clock_ms > 0 for clicks in found.values() for one in clicks)
    assert "load average" in capsys.readouterr().out
