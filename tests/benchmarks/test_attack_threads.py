"""The benchmark of attacks in two threads compares identical evaluations and prints the ratios of neighbouring runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from benchmarks import attack, attack_threads
from benchmarks.attack_threads import Run, check_outcomes, main, table


@pytest.fixture(autouse=True)
def threads_are_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_every_part_of_an_evaluation_is_timed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = replace(attack.SETTINGS["digits"], channels=4, layers=4, epochs=1, training_images=32, training_batch=32)
    monkeypatch.setitem(attack_threads.SETTINGS, "digits", tiny)
    main(["--pairs", "1", "--images", "12"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["part", "1", "thread", "2", "threads", "ratio"]
    parts = [line.split()[0] for line in lines[2:12]]
    assert parts == ["natural", "fgsm", "pgd-20", "autoattack/apgd-ce", "autoattack/apgd-t", "autoattack/fab-t",
                     "autoattack/square", "sweep", "certified", "all"]


def test_ratios_are_those_within_pairs() -> None:
    runs = {1: [Run({"fgsm": 1.0, "sweep": 3.0}, {}), Run({"fgsm": 2.0, "sweep": 6.0}, {})],
            2: [Run({"fgsm": 1.0, "sweep": 1.0}, {}), Run({"fgsm": 1.0, "sweep": 3.0}, {})]}
    text = table(runs).text()
    assert "1.50 [1.00 - 2.00]" in text and "2.50 [2.00 - 3.00]" in text and "2.00 [2.00 - 2.00]" in text


def test_different_outcomes_are_refused() -> None:
    with pytest.raises(RuntimeError, match="must not depend on the number of threads"):
        check_outcomes({1: [Run({"fgsm": 1.0}, {"fgsm": 3})], 2: [Run({"fgsm": 1.0}, {"fgsm": 4})]})
