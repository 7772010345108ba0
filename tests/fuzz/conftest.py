"""Reports of inputs that failed, as text that pytest-xdist can send: inputs hold surrogates, which UTF-8 cannot encode."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


def printable(text: str) -> str:
    """Return the text with its surrogates written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[Any]:
    """Make the report of a test printable."""
    report = yield
    if report.longrepr is not None and report.failed:
        report.longrepr = printable(str(report.longrepr))
    report.sections = [(name, printable(content)) for name, content in report.sections]
    return report
