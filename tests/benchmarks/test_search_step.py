"""The benchmark compares equals: the transcription and the engine, with every back end, take the same step in float64."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import search_step
from benchmarks.search_step import PUBLISHED, Comparison, Setting, StepTimes, cell_backends, table
from engine.space.state import BACKENDS
from tests.darts_state import darts_state_dict

TINY = Setting(channels=2, layers=4, image_shape=(3, 8, 8), batch_size=4, epsilon=8 / 255)


def test_two_steps_are_equal_in_float64() -> None:
    comparison = Comparison(TINY, attack_steps=1, dtype=torch.float64)
    sides = [comparison.ours(choice) for choice in comparison.choices()]
    for _ in range(2):  # the second has momentum
        batches, noise = (comparison.batch(), comparison.batch()), comparison.noise()
        published = comparison.published.step(*batches, learning_rate=0.025, noise=noise)
        scale = published.gradients.abs().max()
        for ours in sides:
            proposal = ours.propose(*batches, learning_rate=0.025, noise=noise)
            ours.take(proposal)
            torch.testing.assert_close(proposal.x_adv, published.x_adv, rtol=0, atol=1e-12)
            torch.testing.assert_close(proposal.xs_adv, published.xs_adv, rtol=0, atol=1e-12)
            torch.testing.assert_close(proposal.architecture.gradients / scale, published.gradients / scale, rtol=0, atol=1e-9)
            assert float(proposal.architecture.weights[0]) == pytest.approx(float(published.gamma), abs=1e-9)
    expected = comparison.published.model.state_dict()
    for ours in sides:
        state = darts_state_dict(ours.supernet, ours.weights, alphas=ours.alphas)
        for name, value in state.items():
            torch.testing.assert_close(value, expected[name], rtol=1e-9, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


def test_published_starts_where_ours_started_even_when_it_is_asked_for_later() -> None:
    comparison = Comparison(TINY, attack_steps=1)
    start = darts_state_dict(comparison.supernet, comparison.merged.weights)
    comparison.merged.weights.zero_()
    published = comparison.published.model.state_dict()
    assert all(torch.equal(published[name], value) for name, value in start.items())


def test_each_back_end_has_its_own_search_and_plain_has_nothing_compiled() -> None:
    comparison = Comparison(TINY, attack_steps=1)
    assert comparison.ours("plain") is comparison.ours("plain") is not comparison.ours("auto")
    plain = cell_backends(comparison.supernet, "plain")
    assert len(plain) == TINY.layers and "compiled" not in plain and all(name in BACKENDS for name in plain)
    assert cell_backends(comparison.supernet, "compiled") == ["compiled"] * TINY.layers


def test_every_choice_that_can_run_is_taken_once() -> None:
    comparison = Comparison(TINY, attack_steps=1)
    choices = comparison.choices()
    assert choices[0] == "plain"
    assert ("compiled" in choices) == (search_step.why_not_compiled() is None)
    others = [cell_backends(comparison.supernet, choice) for choice in choices if choice != "auto"]
    assert ("auto" in choices) == (cell_backends(comparison.supernet, "auto") not in others)


def test_reports_the_ratio_of_neighbouring_steps() -> None:
    times = StepTimes("tiny", TINY, 7, {PUBLISHED: [2.0, 9.0, 5.0], "plain": [1.0, 3.0, 1.0]},
                      {"plain": ["dense"] * 3 + ["merged"]})
    row, = table([times]).rows
    assert row == ("tiny: 2 channels, 4 cells, 3x8x8, batch 4, PGD-7", "plain (3 dense, 1 merged)", "5.000", "1.000",
                   "3.00 [2.00 - 5.00]")
    assert times.record()["ratio"]["plain"] == {"median": 3.0, "least": 2.0, "greatest": 5.0, "count": 3}


def test_command_writes_what_it_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setitem(search_step.SETTINGS, "digits", TINY)
    file = tmp_path / "numbers.json"
    search_step.main(["--pairs", "1", "--attack-steps", "1", "--backend", "plain", "--markdown", "--json", str(file)])
    assert "| digits: 2 channels, 4 cells, 3x8x8, batch 4, PGD-1 | plain (" in capsys.readouterr().out
    numbers = json.loads(file.read_text())
    assert numbers["command"] == "python -m benchmarks.search_step --pairs 1 --attack-steps 1 --backend plain"
    assert numbers["versions"]["torch"] == torch.__version__ and numbers["machine"]["processor"]
    assert list(numbers["cpu_seconds"]) == [PUBLISHED, "plain"]  # the order in which they were timed
    published, plain = numbers["cpu_seconds"][PUBLISHED], numbers["cpu_seconds"]["plain"]
    assert len(published) == len(plain) == 1
    assert numbers["ratio"]["plain"]["median"] == pytest.approx(published[0] / plain[0])


def test_says_why_the_compiled_kernels_cannot_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(search_step, "why_not_compiled", lambda: "There is no compiler.")
    assert "compiled" not in Comparison(TINY, attack_steps=1).choices()
    with pytest.raises(SystemExit):
        search_step.main(["--backend", "compiled"])
    assert "There is no compiler." in capsys.readouterr().err
