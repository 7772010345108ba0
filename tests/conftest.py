"""Shared by all tests: seeds are reset before each test, and nothing uses more threads than it was given."""

from __future__ import annotations

import gc
import os
import random
import tempfile
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Nothing depends on what datasets the machine happens to have.
os.environ["RAMPART_DATA"] = str(Path(tempfile.gettempdir()) / f"rampart-no-data-{os.getpid()}")


def pytest_collection_finish() -> None:
    """Exempt the imported modules from garbage collection: scanning them in every test is wasted time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def fixed_randomness() -> None:
    """Reset the random state before every test, including torch's if it is imported."""
    import sys

    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:
        import torch

        torch.manual_seed(0)
