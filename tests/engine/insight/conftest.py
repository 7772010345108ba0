"""A log over the runs that a test has written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from engine.log import RunLog, snapshot


@pytest.fixture
def read(tmp_path: Path) -> Iterator[Callable[[], RunLog]]:
    """A function that returns a log with the present content of `tmp_path`."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(snapshot(tmp_path))
