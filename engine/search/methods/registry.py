"""Search methods by name, as the page and the command line know them. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from engine.config import SearchConfig
from engine.registry import Registry


@dataclass(frozen=True)
class Method:
    """A search method as the page and the command line know it, without its mathematics.

    Attributes:
        name: registry name, for example "arnas".
        title: name in print, for example "ARNAS".
        summary: one or two sentences: what it optimises and how.
        source: paper, venue, arXiv number.
        config: its configuration class.
        implementation: "module:class" that is imported only when a search runs.
        published: True where a paper fixes its settings; else the preset `paper` holds our defaults.
        year: of publication; None where there is none.
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
