"""Looks of categories such as methods and runs: a colour with a symbol and a dash, so that colour is not the only difference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from app import theme

# The colours of operations, which stay distinct under colour-vision deficiencies. The strongest contrast comes first.
CATEGORY_COLOURS = tuple(theme.OPERATIONS[name].colour for name in (
    "sep_conv_5x5", "avg_pool_3x3", "dil_conv_3x3", "dil_conv_5x5", "sep_conv_3x3", "max_pool_3x3", "skip_connect"))
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "star")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
MOST_CATEGORIES = 10  # categories with a look of their own
OTHERS = "others"


@dataclass(frozen=True)
class Look:
    """The colour, symbol and dash in which a category is drawn, as Plotly names them."""

    colour: str
    symbol: str
    dash: str


def looks_of(names: Iterable[str], most: int = MOST_CATEGORIES) -> dict[str, Look]:
    """Return {category: look} for the `most` most frequent categories, and one look for `OTHERS` if there are more.

    Charts whose looks are made from the same names show each category in the same look.
    """
    frequent = [name for name, _ in Counter(names).most_common()]
    found = {name: Look(CATEGORY_COLOURS[k % len(CATEGORY_COLOURS)], SYMBOLS[k % len(SYMBOLS)], DASHES[k % len(DASHES)])
             for k, name in enumerate(sorted(frequent[:most]))}
    return found | ({OTHERS: Look(theme.DOMINATED, "circle", "solid")} if len(frequent) > most else {})
