"""The line of facts in the header of a run: epoch, throughput, time taken and device."""

from __future__ import annotations

import json
import re
import time

import psutil
import pytest

from app.formats import rate
from tests import sample_runs
from tests.app.conftest import Samples
from tests.app.pages import open_page, text_of
from tests.sample_runs import EventsFile, write_telemetry


def facts_of(run: str) -> list[str]:
    """Return the facts in the header of a run."""
    words = text_of(open_page("run", id=run, tab="lineage"))
    (line,) = re.findall(r'<div class="rp-runfacts rp-num">(.*?)</div>', words)
    return re.findall(r"<span>(.*?)</span>", line)


def test_an_active_run_says_its_epoch_speed_time_and_device(samples: Samples) -> None:
    run = samples.ids["running"]
    folder = samples.root / run
    write_telemetry(EventsFile(folder, t=sample_runs.START + 300), 1)
    events, me = EventsFile(folder, t=time.time() - 200), psutil.Process()
    sample_runs.write_process(folder, events, pid=me.pid, started=me.create_time())
    epoch, steps, images, passes, running, device = facts_of(run)
    assert (epoch, images, passes, device) == ("Epoch 6 of 16", "90 images/s", "80 forward passes/s", "on CPU")
    assert re.fullmatch(r"[\d.,]+ steps/s", steps) and re.fullmatch(r"Running for 3 min \d+ s", running)


def test_a_run_that_is_over_says_how_long_it_took_and_its_last_speed(samples: Samples) -> None:
    for role in ("search", "attack", "failed", "resumed"):
        file = samples.root / samples.ids[role] / "process.json"
        process = json.loads(file.read_text(encoding="utf-8"))
        sample_runs.write_json(file, process | {"started": process["started"] - 100, "device": "cuda:1"})
        took, device, *speed = facts_of(samples.ids[role])
        assert (took, device) == (f"Took 1 min 40 s{' in attempt 3' * (role == 'resumed')}", "on GPU 1")
        assert speed == (["at the end 1.42 steps/s, 90 images/s"] if role == "search" else speed[:1])


def test_a_run_that_waits_has_no_facts(samples: Samples) -> None:
    run = "20261118-0950-arnas-digits-0e0e"
    sample_runs.write_run_json(samples.root, run, "search", created=time.time())
    assert "rp-runfacts rp-num" not in text_of(open_page("run", id=run, tab="lineage"))


@pytest.mark.parametrize(("per_s", "words"), [(2.5, "2.5 steps/s"), (1234.5, "1,234 steps/s"), (0.1, "0.1 steps/s"),
                                              (0.05, "3 steps/min"), (0.001, "3.6 steps/h")])
def test_a_rate_has_the_time_unit_that_fits(per_s: float, words: str) -> None:
    assert rate(per_s, "steps") == words
