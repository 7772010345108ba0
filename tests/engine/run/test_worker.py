"""The start of a worker: torch and the loop are imported without garbage collection, because the user waits for them."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from engine.run import worker


@pytest.mark.parametrize("fails", [False, True])
def test_no_garbage_is_collected_during_the_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    name = f"loop_that_{'fails' if fails else 'loads'}"
    (tmp_path / f"{name}.py").write_text(f"import gc\ncollects = gc.isenabled()\n{'1 / 0' if fails else ''}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(worker.LOOPS, "search", name)
    if fails:
        with pytest.raises(ZeroDivisionError):
            worker.load("search")
    else:
        assert worker.load("search").collects is False
    assert gc.isenabled()
    gc.unfreeze()
