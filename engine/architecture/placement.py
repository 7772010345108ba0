"""The placement of cell kinds (which kind is used where in a network), and the widths of the cells.

The costs, the supernet and the derived networks all use this module. The two reduction cells divide a network into three thirds.
The second third begins with the first reduction cell, and the last third with the second one. A position rule determines which
cell kinds each third has. A width ratio gives the width of the cells in each third, in units of C, the width of the first cells.
This module does not import torch.

Two combinations are published. ARNAS (Ou, Feng and Sun 2024; released code) has accurate cells before the second reduction and
robust cells after it, with widths 1:2:2. DARTS (Liu, Simonyan and Yang 2018) has only normal cells, with widths 1:2:4.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict, get_args

from engine.architecture.genotype import KIND_SETS, KINDS_OF_ARNAS, KINDS_OF_DARTS
from engine.errors import ConfigError, shortened
from engine.registry import Registry

STEM_MULTIPLIER = 3  # the stem has 3 C channels (DARTS)
MINIMUM_LAYERS = 3  # with fewer, no cell would precede the two reductions
MAXIMUM_LAYERS = 1000  # far beyond every published network; a typing error must not fill the memory
SMALLEST_AUXILIARY_IMAGE = 17  # pixels; for smaller images, the maps after two reductions are smaller than a 5x5 pooling window
LARGEST_WIDTH = 16  # in units of C; DARTS has 4
REDUCE = "reduce"


@dataclass(frozen=True)
class PositionRule:
    """A rule that determines the cell kind at each position in a network.

    Attributes:
        name: name in settings and files.
        title: display name. The name of a run contains it if the run does not use the rule published with its method.
        text: one sentence describing the rule and its purpose.
        kinds: cell kinds of the genotype, in the order in which a search concatenates their alphas.
        thirds: cell kinds of the first, middle and last third, without the reduction cells. If a third has several kinds, they
            alternate from cell to cell, and the reduction cells do not interrupt the alternation.
        width_ratio: relative widths of the three thirds as published with these kinds, for example "1:2:4".
    """

    name: str
    title: str
    text: str
    kinds: tuple[str, ...]
    thirds: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
    width_ratio: str


PlacementName = Literal["accurate_first", "robust_first", "accurate_first_third", "robust_first_third", "alternating", "normal"]
PUBLISHED = {KINDS_OF_ARNAS: "accurate_first", KINDS_OF_DARTS: "normal"}
RULES: Registry[PositionRule] = Registry("position rule")


def _of_two_kinds(name: str, title: str, thirds: Sequence[str], text: str) -> None:
    near_input, middle, near_output = (tuple(kinds.split()) for kinds in thirds)
    # The order of the alphas is as in ARNAS's released code.
    RULES.add(name, PositionRule(name, title, text, ("robust", REDUCE, "accurate"), (near_input, middle, near_output), "1:2:2"))


_of_two_kinds("accurate_first", "Accurate cells first", ("accurate", "accurate", "robust"),
              "Accurate cells before the second reduction, robust cells after it: the rule of ARNAS.")
_of_two_kinds("robust_first", "Robust cells first", ("robust", "robust", "accurate"),
              "Robust cells before the second reduction, accurate cells after it: ARNAS's two kinds swapped.")
_of_two_kinds("accurate_first_third", "Accurate cells in the first third", ("accurate", "robust", "robust"),
              "Accurate cells before the first reduction, robust cells after it: the middle third is robust, too.")
_of_two_kinds("robust_first_third", "Robust cells in the first third", ("robust", "accurate", "accurate"),
              "Robust cells before the first reduction, accurate cells after it: ARNAS's rule reversed.")
_of_two_kinds("alternating", "Alternating cells", ("accurate robust", "accurate robust", "accurate robust"),
              "Accurate and robust cells alternate from input to output: both kinds at every depth, a control for the rules that "
              "separate them.")
RULES.add("normal", PositionRule(
    "normal", "Normal cells", "The same normal cell at every depth: the rule of DARTS, with one kind besides the reduction.",
    ("normal", REDUCE), (("normal",), ("normal",), ("normal",)), "1:2:4"))
assert tuple(RULES) == get_args(PlacementName)


@dataclass(frozen=True)
class CellPosition:
    """The position of one cell in a network, with the cell's kind and width.

    Attributes:
        kind: kind of the genotype's cell at this position.
        reduction: True if the cell halves height and width.
        channels_multiplier: width of the cell's nodes in units of C, the width of the network's first cells.
        after_reduction: True if the previous cell is a reduction. The first input of this cell then has twice the height and
            width of the second input.
    """

    kind: str
    reduction: bool
    channels_multiplier: int
    after_reduction: bool


def reductions(layers: int) -> tuple[int, int]:
    """Return the indices of the two reduction cells. The auxiliary head follows the second one."""
    return layers // 3, 2 * layers // 3


def rules_for(kinds: Sequence[str]) -> list[str]:
    """Return the names of the rules that place these cell kinds in a network, with the published rule first."""
    return [name for name, rule in RULES.items() if sorted(rule.kinds) == sorted(kinds)]


def rule_of(kinds: Sequence[str], placement: str = "") -> PositionRule:
    """Return the position rule called `placement`, or the published rule for the cell kinds if `placement` is empty.

    Raises:
        ConfigError: the kinds are unknown, the rule is unknown, or the rule is for other kinds.
    """
    family = tuple(sorted(kinds))
    if family not in KIND_SETS:
        expected = " or ".join(", ".join(names) for names in KIND_SETS)
        raise ConfigError(f"Cell kinds must be {expected}, got {', '.join(kinds) or 'none'}; use one of the two families.")
    rule = RULES[placement or PUBLISHED[family]]
    if tuple(sorted(rule.kinds)) != family:
        raise ConfigError(problems={"placement": (
            f"placement must be a rule for the cells {', '.join(family)}, got {placement} (for "
            f"{', '.join(sorted(rule.kinds))}); use {', '.join(rules_for(family))}.")})
    return rule


class Arrangement(TypedDict):
    """The settings that determine the kinds and widths of a network's cells.

    Attributes:
        placement: name of the rule that gives the cell kind at each position.
        width_ratio: relative widths of the first, middle and last third of the network, for example "1:2:4".
    """

    placement: str
    width_ratio: str


def resolved(kinds: Sequence[str], placement: str = "", width_ratio: str = "") -> Arrangement:
    """Return the placement and the width ratio. An empty value is replaced by the value published for the cell kinds.

    Raises:
        ConfigError: the cell kinds are unknown, the placement rule is unknown or for other cell kinds, or the width ratio is
            invalid.
    """
    rule = rule_of(kinds, placement)
    return {"placement": rule.name, "width_ratio": width_ratio_text(width_ratio or rule.width_ratio)}


def read_width_ratio(text: str) -> tuple[int, int, int]:
    """Parse a width ratio such as "1:2:4", the relative widths of the first, middle and last third of a network.

    Raises:
        ConfigError: the text is not three whole numbers from 1 to 16, or the first number is not 1.
    """
    numbers = tuple(int(part) for part in text.split(":")) if re.fullmatch(r"\s*\d{1,9}(\s*:\s*\d{1,9}){2}\s*", text) else ()
    if len(numbers) != 3 or numbers[0] != 1 or not all(1 <= number <= LARGEST_WIDTH for number in numbers):
        raise ConfigError(problems={"width_ratio": (
            f"width_ratio must be three whole numbers from 1 to {LARGEST_WIDTH} separated by colons, the first of them 1 "
            f"(channels sets that width), got {shortened(text)}; give for example 1:2:2, 1:2:4 or 1:1:1.")})
    return numbers


def width_ratio_text(text: str) -> str:
    """Return a width ratio without spaces, for example "1:2:4" for "1 : 2 : 4".

    Raises:
        ConfigError: the width ratio is invalid (see `read_width_ratio`).
    """
    return ":".join(map(str, read_width_ratio(text)))


def positions(kinds: Sequence[str], layers: int, placement: str = "", width_ratio: str = "") -> list[CellPosition]:
    """Return the positions of a network's cells, from input to output.

    Args:
        kinds: cell kinds of the genotype in any order: accurate, reduce, robust (ARNAS) or normal, reduce (DARTS).
        layers: number of cells, at least 3.
        placement: name of the position rule, a key of `RULES`; empty for the rule published for the kinds.
        width_ratio: relative widths of the first, middle and last third of the network, for example "1:2:4"; empty for the ratio
            published for the kinds.

    Raises:
        ConfigError: the kinds are unknown, the rule is unknown or for other kinds, the width ratio is invalid, or there are too
            few or too many layers.
    """
    rule = rule_of(kinds, placement)
    widths = read_width_ratio(width_ratio or rule.width_ratio)
    if layers < MINIMUM_LAYERS:
        raise ConfigError(problems={"layers": (
            f"layers must be at least {MINIMUM_LAYERS} (one cell before two reductions), got {layers}; "
            f"use {MINIMUM_LAYERS} or more.")})
    if layers > MAXIMUM_LAYERS:
        raise ConfigError(problems={"layers": f"layers must be at most {MAXIMUM_LAYERS}, got {layers}; use fewer."})
    first, second = reductions(layers)
    cells: list[CellPosition] = []
    ordinary = 0
    for i in range(layers):
        third, reduction = (i >= first) + (i >= second), i in (first, second)
        of_third = rule.thirds[third]
        kind = REDUCE if reduction else of_third[ordinary % len(of_third)]
        ordinary += not reduction
        cells.append(CellPosition(kind, reduction, widths[third], i - 1 in (first, second)))
    return cells


def cell_widths(kinds: Sequence[str], *, channels: int, layers: int, placement: str = "", width_ratio: str = "") -> list[int]:
    """Return the width of each cell from input to output: the number of channels on which its operations work.

    Args:
        channels: C, the width of the first cells.
        kinds, layers, placement, width_ratio: see `positions`.

    Raises:
        ConfigError: see `positions`.
    """
    return [channels * cell.channels_multiplier for cell in positions(kinds, layers, placement, width_ratio)]


def halved(size: int) -> int:
    """Return a height or width after a reduction: half, rounded up."""
    return (size + 1) // 2


def check_size(channels: int, classes: int, image_shape: Sequence[int], width_ratio: str = "") -> None:
    """Check that a network can have these sizes.

    Args:
        channels: C, the width of the first cells.
        classes: number of classes.
        image_shape: (channels, height, width) of an image.
        width_ratio: relative widths of the first, middle and last third of the network, for example "1:2:4"; empty for a
            ratio published with the cell kinds. With a published ratio, C may be any number.

    Raises:
        ConfigError: a size is not a positive whole number, the shape does not have three numbers, the width ratio is invalid, or
            a reduction cell would have an odd number of channels, which it could not split into two halves.
    """
    numbers = {"channels": channels, "classes": classes}
    if len(image_shape) != 3:
        raise ConfigError(f"image_shape must be (channels, height, width), got {tuple(image_shape)}; for example (3, 32, 32).")
    numbers |= dict(zip(("image channels", "image height", "image width"), image_shape, strict=True))
    for name, number in numbers.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise ConfigError(f"{name} must be a whole number of at least 1, got {number!r}; use 1 or more.")
    if channels % 2 and width_ratio and needs_even_channels(width_ratio):
        raise ConfigError(problems={"channels": (
            f"channels must be even with the width ratio {width_ratio} (a reduction splits its channels into two halves), got "
            f"{channels}; use {channels + 1}.")})


def needs_even_channels(width_ratio: str) -> bool:
    """Return True if the number of channels C must be even for a width ratio.

    This is so if the width of a reduction cell is an odd multiple of C. The published ratios 1:2:2 and 1:2:4 allow every C.

    Raises:
        ConfigError: the width ratio is invalid (see `read_width_ratio`).
    """
    return any(width % 2 for width in read_width_ratio(width_ratio)[1:])


def auxiliary_map(image_shape: Sequence[int]) -> tuple[int, int]:
    """Return the (height, width) of the auxiliary head's maps after pooling.

    The head pools the output of the second reduction with 5x5 windows of stride 3. As in the released code, 8x8 maps (32x32
    images) become 2x2, and 16x16 maps (64x64 images) become 4x4. The result is also the kernel size of the head's last
    convolution, whose output is 1x1.

    Raises:
        ConfigError: the maps are smaller than the pooling window.
    """
    height, width = (halved(halved(size)) for size in image_shape[1:])
    if min(image_shape[1:]) < SMALLEST_AUXILIARY_IMAGE:
        raise ConfigError(problems={"auxiliary_weight": (
            f"The auxiliary head needs maps of at least 5x5 after the second reduction (images of {SMALLEST_AUXILIARY_IMAGE} "
            f"pixels or more), got {height}x{width}; set auxiliary_weight to 0.")})
    return (height - 5) // 3 + 1, (width - 5) // 3 + 1
