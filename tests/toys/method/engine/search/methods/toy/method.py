"""A toy method: DARTS by another name."""

from __future__ import annotations

from engine.search.methods.darts.method import Darts


class Toy(Darts):
    """The mathematics of DARTS."""
