"""JavaScript, style sheets and pictures of the dashboard, kept as separate files so that editors and linters can read them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent


@cache
def asset(*names: str) -> str:
    """Return the text of a file in this folder, for example "table.js", or the texts of several files one after the other."""
    return "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in names)
