"""The pilot for a dataset's epsilon: accuracies with intervals, on the select split only."""

from __future__ import annotations

import pytest

from benchmarks import epsilon
from engine.data import loading

TINY = {"images": 64, "channels": 4, "layers": 4, "epochs": 1, "attack_steps": 1}


def test_an_accuracy_has_its_wilson_interval() -> None:
    """The Wilson interval of 1/2 is symmetric, that of 0 begins at 0: z = 1.96, n = 10 (Wilson 1927)."""
    assert epsilon.interval(5, 10) == "50.0 (23.7 to 76.3)" and epsilon.interval(0, 10) == "0.0 (0.0 to 27.8)"


def test_a_row_has_every_attack_and_the_test_split_stays_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The images come from weights, alphas and select; an attack never raises the accuracy above the natural one."""
    opened, load_split = [], loading.load_split

    def load(dataset, splits, names, *rest):
        opened.extend([names] if isinstance(names, str) else names)
        return load_split(dataset, splits, names, *rest)

    monkeypatch.setattr(epsilon, "load_split", load)
    monkeypatch.setattr(epsilon, "ATTACKS", ("fgsm", "pgd-20"))
    row = epsilon.row_of("digits", "pgd_at", 0.2, TINY, {"images": 16, "autoattack_images": None})
    assert row[:2] == ("0.2", "PGD-7 at epsilon") and opened == ["weights", "alphas", "select"]
    natural, fgsm, pgd = (float(cell.partition(" ")[0]) for cell in row[2:5])
    assert pgd <= natural and fgsm <= natural and float(row[5]) >= 0
