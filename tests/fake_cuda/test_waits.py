"""Where a GPU would wait in a step of each kind of run. `waits.json` lists every place; the list may only become shorter."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from engine.search.methods.registry import METHODS
from tests.fake_cuda import device

ALLOWED: dict[str, dict[str, int]] = json.loads(Path(__file__).with_name("waits.json").read_text())
QUICK = ("search darts, first epoch", "retrain, PGD-AT", "retrain, PGD-AT in bfloat16", "attack, fgsm",
         "attack of images on the device")
# Weights of three or more objectives, and those of UPGrad, are computed by NumPy.
SOLVED_ON_THE_HOST = ("search arnas, UPGrad", "search arnas, TRADES, curvature, size")
SLOW = [name for name in ALLOWED if name not in QUICK]

pytestmark = pytest.mark.skipif(device.COMPILER is None, reason="needs a C++ compiler (g++ or clang++) for the fake CUDA device")


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return device.compiled(tmp_path_factory.mktemp("fake_cuda"))


def waits(library: Path, names: Sequence[str]) -> dict[str, dict[str, int]]:
    """Run the named steps in a process of their own, as the fake device stays in a process for good."""
    run = subprocess.run([sys.executable, "-m", "tests.fake_cuda.steps", str(library), *names], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout)


def test_quick_steps_wait_only_where_listed(library: Path) -> None:
    assert waits(library, QUICK) == {name: ALLOWED[name] for name in QUICK}


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_every_step_waits_only_where_listed(library: Path, name: str) -> None:
    assert waits(library, [name]) == {name: ALLOWED[name]}


@pytest.mark.slow
def test_recorded_passes_leave_a_training_step_less_than_a_fiftieth_of_its_launches(library: Path) -> None:
    seen = waits(library, ["launches of PGD-AT, eager", "launches of PGD-AT, recorded"])
    eager, recorded = (one["launched"] for one in seen.values())
    assert recorded < eager / 50


def test_every_method_is_listed_and_search_steps_wait_once_and_never_inside_a_recording() -> None:
    searches = {name: dict(seen) for name, seen in ALLOWED.items() if name.startswith("search")}
    assert {name.split(",")[0].removeprefix("search ") for name in searches} == set(METHODS)
    for name, seen in searches.items():
        assert not [event for event in seen if event.startswith("recorded")], name
        report = "methods/random_search/method.py:_numbers" if "random_search" in name else "proposal.py:report"
        assert seen.pop(f"wait at search/{report}") == 1, name
        assert not seen or name.startswith("search e2rnas2021") or name in SOLVED_ON_THE_HOST, name
