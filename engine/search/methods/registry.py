"""The registry of search methods, used by the web page and the command line. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from engine.config import SearchConfig
from engine.registry import Registry


@dataclass(frozen=True)
class Method:
    """The description of a search method, without its mathematics.

    Attributes:
        name: registry name, for example "arnas".
        title: display name, for example "ARNAS".
        summary: one to three sentences that explain what the method optimises and how.
        source: paper, venue and arXiv number.
        config: configuration class of the method.
        implementation: class of the method as "module:class", imported only when a search runs.
        published: True if a paper fixes the method's settings. Otherwise, the preset `paper` holds our defaults.
        year: year of publication; None if the method has no publication.
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
