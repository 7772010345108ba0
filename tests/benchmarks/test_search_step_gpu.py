"""The GPU benchmark runs on any device; only its numbers need a GPU."""

from __future__ import annotations

import pytest
import torch

from benchmarks import search_step_gpu
from benchmarks.search_step import PUBLISHED, Setting
from benchmarks.search_step_gpu import VARIANTS, changed, measure, table
from tests.engine.search.functional_networks import DEVICE

TINY = Setting(channels=2, layers=4, image_shape=(3, 8, 8), batch_size=4, epsilon=8 / 255)


@pytest.mark.slow
def test_sides_are_measured_and_written_down() -> None:
    sides = measure(TINY, attack_steps=1, pairs=1, chosen=(PUBLISHED, "eager", "bf16"), device=str(DEVICE))
    assert list(sides) == [PUBLISHED, "eager", "bf16"]
    for side in sides.values():
        assert side.seconds is not None and len(side.seconds) == 1 and not side.remark
    assert sides[PUBLISHED].pixels_changed == 0
    assert sides["eager"].pixels_changed < 0.02, "the same attack but for rounding"
    text = table(TINY, 1, sides, "some device").text()
    assert "some device; 2 channels, 4 cells, 3x8x8, batch 4, PGD-1" in text
    for words in ("published, transcribed", VARIANTS["eager"].what, VARIANTS["bf16"].what):
        assert words in text


def test_a_side_that_fails_says_why_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(supernet: object) -> None:
        raise RuntimeError("no compiler\nat all")

    monkeypatch.setattr(search_step_gpu, "use_inductor", fail)
    sides = measure(TINY, attack_steps=1, pairs=1, chosen=("compile", "eager"), device=str(DEVICE))
    assert sides["compile"].seconds is None and sides["compile"].remark == "no compiler"
    assert len(sides["eager"].seconds or []) == 1
    assert "failed" in table(TINY, 1, sides, "some device").text()


def test_pixels_that_went_the_other_way_are_counted() -> None:
    zero = torch.zeros(2, 1, 2, 2)
    other = zero.clone()
    other[0, 0, 0, 0], other[0, 0, 0, 1] = 0.1, 1e-7
    assert changed((other, zero), (zero, zero), epsilon=0.1) == 1 / 16


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_one_sentence_without_a_gpu() -> None:
    with pytest.raises(SystemExit, match="needs a CUDA GPU"):
        search_step_gpu.main([])
