"""The registry of search methods for page and command line. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from engine.config import SearchConfig
from engine.registry import Registry


@dataclass(frozen=True)
class Method:
    """The description of a search method, without its mathematics.

    Attributes:
        name: registry name, for example "arnas".
        title: name in print, for example "ARNAS".
        summary: one to three sentences on what it optimises and how.
        source: paper, venue, arXiv number.
        config: its configuration class.
        implementation: "module:class", imported only when a search runs.
        published: True if a paper fixes its settings; else the preset `paper` has our defaults.
        year: year of publication; None if there is none.
    """

    name: str
    title: str
    summary: str
    source: str
    config: type[SearchConfig]
    implementation: str
    published: bool = True
    year: int | None = None


METHODS: Registry[Method] = Registry("method")
