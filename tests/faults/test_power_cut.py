"""Real power cuts on a file system of their own. `python -m tests.faults.power_cut` makes many more."""

from __future__ import annotations

import pytest

from tests.faults.power_cut import CUTS_PER_RUN, KINDS, prove, why_not


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_real_power_cuts_lose_nothing() -> None:
    if reason := why_not():
        pytest.skip(reason)
    assert prove(cuts=CUTS_PER_RUN * len(KINDS), seed=1) == CUTS_PER_RUN * len(KINDS)
