"""The benchmark compares equals: the transcription and the merged engine take the same step in float64."""

from __future__ import annotations

import pytest
import torch

from benchmarks.search_step import Comparison, Setting, report, time_steps

TINY = Setting(channels=2, layers=4, image_shape=(3, 8, 8), batch_size=4, epsilon=8 / 255)


def test_two_steps_are_equal_in_float64() -> None:
    comparison = Comparison(TINY, attack_steps=1, dtype=torch.float64)
    for _ in range(2):  # the second has momentum
        batches, noise = (comparison.batch(), comparison.batch()), comparison.noise()
        published = comparison.published.step(*batches, learning_rate=0.025, noise=noise)
        proposal = comparison.merged.propose(*batches, learning_rate=0.025, noise=noise)
        comparison.merged.take(proposal)
        torch.testing.assert_close(proposal.x_adv, published.x_adv, rtol=0, atol=1e-12)
        torch.testing.assert_close(proposal.xs_adv, published.xs_adv, rtol=0, atol=1e-12)
        scale = published.gradients.abs().max()
        torch.testing.assert_close(proposal.architecture.gradients / scale, published.gradients / scale, rtol=0, atol=1e-9)
        assert float(proposal.architecture.weights[0]) == pytest.approx(float(published.gamma), abs=1e-9)
    model = comparison.published.model
    state = comparison.supernet.to_darts_state_dict(comparison.merged.weights, alphas=comparison.merged.alphas)
    for name, value in state.items():
        torch.testing.assert_close(value, model.state_dict()[name], rtol=1e-9, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


def test_reports_the_ratio_of_interleaved_steps() -> None:
    comparison = Comparison(TINY, attack_steps=1)
    times = time_steps(comparison, pairs=1)
    assert len(times) == 1 and min(times[0]) > 0
    text = report("tiny", comparison, [(2.0, 1.0), (9.0, 3.0), (5.0, 1.0)])
    assert "2 channels, 4 cells, 3x8x8, batch 4, PGD-1" in text
    assert "3.00 [2.00 - 5.00]" in text
