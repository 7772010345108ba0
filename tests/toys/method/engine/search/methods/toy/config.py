"""Settings of a toy method: DARTS by another name. Imports no torch."""

from __future__ import annotations

from engine.search.methods.darts.config import DartsConfig
from engine.search.methods.registry import METHODS, Method


class ToyConfig(DartsConfig):
    """Settings of DARTS."""


METHODS.add("toy", Method(
    name="toy",
    title="Toy method",
    summary="Searches as DARTS does.",
    source="a test",
    config=ToyConfig,
    implementation="engine.search.methods.toy.method:Toy",
    published=False,
))
