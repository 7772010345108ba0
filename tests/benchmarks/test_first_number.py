"""The stages of the benchmark of the first number: they come from the files of a run, and add up to the whole time."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.first_number import STAGES, moments_of, table_of
from engine.run.folder import RunFolder
from tests import sample_runs

RUN = "20261118-0910-arnas-digits-0a01"


def test_the_stages_add_up_to_the_whole_time(tmp_path: Path) -> None:
    folder = sample_runs.write_run_json(tmp_path, RUN, "search")
    written = (folder / "run.json").stat().st_mtime
    events = sample_runs.EventsFile(folder, t=written + 1)
    sample_runs.write_json(folder / "process.json", {"attempt": 1, "started": written + 0.5})
    events.write("progress", phase="search", done=0, total=1, unit="steps", passes=0, detail="starting: loading PyTorch")
    events.write("alpha", cell="accurate", primitives=sample_runs.PRIMITIVES, alpha=[])
    events.write("checkpoint", path="last")
    sample_runs.write_search_steps(events, 1)
    moments = moments_of(RunFolder(tmp_path, RUN))
    found = table_of(moments | {"click": written - 1, "page": written, "number": written + 3})
    assert found.pop("click to the progress bar of the run, s") == pytest.approx(1)
    assert found.pop("click to first number, s") == pytest.approx(4) == pytest.approx(sum(found.values()))
    assert len(found) == len(STAGES) and min(found.values()) > 0
