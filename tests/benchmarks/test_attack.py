"""The attack benchmark runs both sides on a tiny network and prints seconds, ratios, images standing and the floor."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks import attack
from benchmarks.attack import SETTINGS, Cascade, digits, main, table
from engine.attack.catalogue import APGD_CE, SQUARE


def test_prints_the_ratios_of_interleaved_pairs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = replace(SETTINGS["digits"], channels=4, layers=4, epochs=1, training_images=32, training_batch=32)
    monkeypatch.setitem(attack.SETTINGS, "digits", tiny)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    main(["--pairs", "1", "--images", "6", "--budget", "0.02"])
    lines = capsys.readouterr().out.splitlines()
    assert "4 channels, 4 cells, 1x8x8, 6 images, epsilon 0.15, iterations 2, 2, 2, 100" in lines[0]
    assert lines[1].split()[1:] == ["engine", "torchattacks", "ratio"]
    assert [line.split()[0] for line in lines[2:7]] == ["apgd-ce", "apgd-t", "fab-t", "square", "all"]
    ours, theirs = (counts.split() for counts in lines[7].removeprefix("  images standing").strip().split("  ") if counts)
    assert len(ours) == len(theirs) == 5 and ours[0] == theirs[0]


def test_ratios_are_those_within_pairs() -> None:
    setting = replace(SETTINGS["digits"], attacks=(APGD_CE, SQUARE))
    cascades = {
        "ours": [Cascade({"apgd-ce": 1, "square": 1}, [2, 1, 1], passes=1.5), Cascade({"apgd-ce": 2, "square": 2}, [2, 1, 1])],
        "theirs": [Cascade({"apgd-ce": 3, "square": 9}, [2, 1, 1]), Cascade({"apgd-ce": 2, "square": 2}, [2, 2, 1])]}
    text = table("tiny", setting, cascades).text()
    assert "3.50 [1.00 - 6.00]" in text and "2 2 1" in text and "38 %" in text  # the median of 75 % and 0 %


def test_digits_grow_to_colour_images() -> None:
    small, y = digits((1, 8, 8))
    large, same = digits((3, 32, 32))
    assert torch.equal(y, same) and large.shape == (len(small), 3, 32, 32)
    torch.testing.assert_close(large.mean((1, 2, 3)), small.mean((1, 2, 3)), rtol=0, atol=0.02)
