"""The Wilson interval against scipy."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from engine.attack.statistics import wilson


@pytest.mark.parametrize("correct, images", [(0, 10), (10, 10), (1, 3), (37, 64), (180, 359), (9999, 10000), (1, 1)])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_the_interval_is_that_of_scipy(correct: int, images: int, level: float) -> None:
    """The interval equals scipy's Wilson interval."""
    expected = binomtest(correct, images).proportion_ci(confidence_level=level, method="wilson")
    assert wilson(correct, images, level) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_no_images_say_nothing() -> None:
    """Without images the interval is 0..1."""
    assert wilson(0, 0) == (0.0, 1.0)


def test_more_correct_than_images_is_our_mistake() -> None:
    with pytest.raises(ValueError, match="0..5, got 6"):
        wilson(6, 5)
