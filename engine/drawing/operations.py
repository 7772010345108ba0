"""The look of operations and the titles of cell kinds, for all drawings and charts.

Every colour is a mid-tone with a contrast of at least 3:1 against both a white and a dark background. Operations differ in dash
as well as in colour.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

NEUTRAL = "#868D96"  # colour of an operation that is not in our search space


@dataclass(frozen=True)
class OperationStyle:
    """The look of a candidate operation in every chart and drawing.

    Attributes:
        title: full name, for example "separable convolution 3×3".
        short: label on an edge, for example "sep 3×3".
        colour: hex colour. A test checks that the colours of all operations are distinct under the three common colour-vision
            deficiencies.
        dash: Plotly's name for the dash pattern of the line, which helps readers who cannot tell the colours apart.
        width: line width in pixels.
    """

    title: str
    short: str
    colour: str
    dash: str
    width: float

    @property
    def dash_array(self) -> str:
        """The dash pattern as a value of SVG's stroke-dasharray, or "" for a solid line."""
        return {"solid": "", "dash": "7 4", "dot": "2 3", "dashdot": "8 3 2 3"}[self.dash]


OPERATIONS: dict[str, OperationStyle] = {
    "max_pool_3x3": OperationStyle("max pooling 3×3", "max pool 3×3", "#A88C50", "dot", 2.2),
    "avg_pool_3x3": OperationStyle("average pooling 3×3", "avg pool 3×3", "#E25B0F", "dot", 2.2),
    "skip_connect": OperationStyle("skip connection", "skip", "#8B9196", "dash", 2.0),
    "sep_conv_3x3": OperationStyle("separable convolution 3×3", "sep 3×3", "#0A97E6", "solid", 2.2),
    "sep_conv_5x5": OperationStyle("separable convolution 5×5", "sep 5×5", "#2B59DB", "solid", 3.4),
    "dil_conv_3x3": OperationStyle("dilated convolution 3×3", "dil 3×3", "#1F7752", "dashdot", 2.2),
    "dil_conv_5x5": OperationStyle("dilated convolution 5×5", "dil 5×5", "#AF33A9", "dashdot", 3.4),
    "none": OperationStyle("no connection", "none", "#9AA1A9", "dot", 1.5),
}

# Titles of cell kinds, in the order in which images pass through them.
CELL_TITLES = {"accurate": "Accurate cell", "normal": "Normal cell", "reduce": "Reduction cell", "robust": "Robust cell"}


def operation(name: str) -> OperationStyle:
    """Return the style of an operation.

    An operation outside our search space, as in some published genotypes, gets a neutral solid line.
    """
    return OPERATIONS.get(name) or OperationStyle(name, name, NEUTRAL, "solid", 2.0)


def cell_title(kind: str) -> str:
    """Return the title of a cell kind, for example "Accurate cell" for "accurate"."""
    return CELL_TITLES.get(kind, f"{kind.capitalize()} cell")


def in_order(kinds: Iterable[str]) -> list[str]:
    """Return cell kinds in the order in which images pass through them."""
    order = list(CELL_TITLES)
    return sorted(kinds, key=lambda kind: order.index(kind) if kind in order else len(order))
