"""Pictures of a network as a row of bars, one bar per cell.

The colour and letter of a bar show the kind of its cell, and the height shows the number of channels. Reduction cells are marked
÷2 and divide the network into thirds. Below each third, the picture gives the number of channels and the size of the feature
maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from app import theme
from app.formats import escape
from engine.architecture.placement import REDUCE, RULES, CellPosition, halved, positions, rules_for

STRIP = 640.0  # width of all cells together, in pixels, unless that makes a cell too narrow or too wide
NARROWEST, WIDEST = 10.0, 60.0  # smallest and largest width of a cell with its gap, in pixels
TALLEST = 60.0  # height in pixels of the cells with the most channels
LETTERED = 13.0  # smallest width in pixels of a cell that has space for a letter
LEFT, RIGHT, TOP = 66.0, 58.0, 8.0
ROW = 19.0  # pixels from one line of text below the bars to the next


def rule_figure(placement: str, *, width_ratio: str, channels: int, layers: int, image_shape: Sequence[int]) -> str:
    """Return an HTML figure of a position rule, with its title, description, picture and legend.

    A position rule says which kind of cell is used at which layer of the network.

    Args:
        placement: name of the rule.
        width_ratio: relative numbers of channels in the thirds of the network, for example "1:2:4". "" stands for the published
            ratio.
        channels: C, the number of channels in the first third.
        layers: number of cells, at least 3.
        image_shape: (channels, height, width) of an image.

    Raises:
        ConfigError: the width ratio is invalid, or the number of layers is too small or too large.
    """
    rule = RULES[placement]
    cells = positions(rule.kinds, layers, placement, width_ratio)
    return (f'<figure class="rp-cell rp-placement"><figcaption><b>{escape(rule.title)}.</b> {escape(rule.text)}</figcaption>'
            f"{network_svg(cells, channels=channels, image_shape=image_shape)}{_legend(cells)}</figure>")


def rules_figures(kinds: Sequence[str] | None, *, width_ratio: str, channels: int, layers: int,
                  image_shape: Sequence[int]) -> str:
    """Return the figures (see `rule_figure`) of the position rules for these cell kinds, or of all rules if `kinds` is None."""
    names = list(RULES) if kinds is None else rules_for(kinds)
    figures = (rule_figure(name, width_ratio=width_ratio, channels=channels, layers=layers, image_shape=image_shape)
               for name in names)
    return f'<div class="rp-cells">{"".join(figures)}</div>'


def network_svg(cells: Sequence[CellPosition], *, channels: int, image_shape: Sequence[int]) -> str:
    """Return the picture of a network as a transparent SVG element that scales to its container.

    Args:
        cells: cells from input to output.
        channels: C, the number of channels in the first third.
        image_shape: (channels, height, width) of an image.
    """
    pitch = min(WIDEST, max(NARROWEST, STRIP / len(cells)))
    unit = TALLEST / max(cell.channels_multiplier for cell in cells)
    base = TOP + TALLEST
    width, height = LEFT + pitch * len(cells) + RIGHT, base + 3 * ROW + 4
    drawn = []
    for i, cell in enumerate(cells):
        x, tall = LEFT + i * pitch, unit * cell.channels_multiplier
        drawn.append(_bar(i, cell, x + 0.07 * pitch, base - tall, 0.86 * pitch, tall, channels))
        if pitch >= LETTERED or cell.reduction:
            mark = "÷2" if cell.reduction else theme.cell_title(cell.kind)[0]
            drawn.append(_text(x + pitch / 2, base + ROW - 4, mark, "middle"))
    for y, words in ((base - 3, "image →"), (base + ROW - 4, "cells"), (base + 2 * ROW - 2, "channels"),
                     (base + 3 * ROW - 2, "maps")):
        drawn.append(_text(LEFT - 10, y, words, "end", "rp-quiet"))
    drawn.append(_text(width - RIGHT + 8, base - 3, "→ class", "start", "rp-quiet"))
    drawn += _below(cells, pitch, base, channels, image_shape)
    size = f"max-width:{width:.0f}px;min-width:{0.6 * width:.0f}px"
    return (f'<svg viewBox="0 0 {width:.0f} {height:.0f}" style="{size}" role="img" '
            f'aria-label="{escape(description(cells, channels=channels))}">{"".join(drawn)}</svg>')


def _below(cells: Sequence[CellPosition], pitch: float, base: float, channels: int, image_shape: Sequence[int]) -> list[str]:
    """Return the SVG elements below the cells: for each third a line, the number of channels and the size of the feature maps.

    Args:
        cells: cells from input to output.
        pitch: width in pixels of a cell together with the gap next to it.
        base: y coordinate of the lower end of the cells, in pixels.
        channels, image_shape: number of channels in the first third, and (channels, height, width) of an image.
    """
    drawn = []
    rows, columns = image_shape[1:]
    for first, members in _thirds(cells):
        if first:
            rows, columns = halved(rows), halved(columns)
        left, right, y = LEFT + first * pitch, LEFT + (first + len(members)) * pitch, base + ROW + 1
        middle, of_third = (left + right) / 2, channels * members[0].channels_multiplier
        drawn.append(f'<line class="rp-third" x1="{left + 2:.1f}" x2="{right - 2:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        drawn.append(_text(middle, base + 2 * ROW - 2, f"{of_third:,}", "middle", "rp-number"))
        drawn.append(_text(middle, base + 3 * ROW - 2, f"{rows}×{columns}", "middle"))
    return drawn


def description(cells: Sequence[CellPosition], *, channels: int) -> str:
    """Describe the cells from input to output in words, for screen readers. Consecutive cells of equal kind form one entry."""
    runs = [(list(group), kind, width) for (kind, width), group in groupby(cells, key=lambda c: (c.kind, c.channels_multiplier))]
    parts = [f"{len(group)} {theme.cell_title(kind).lower()}{'s' if len(group) > 1 else ''} of {channels * width} channels"
             for group, kind, width in runs]
    return f"From input to output: {', '.join(parts)}."


def _thirds(cells: Sequence[CellPosition]) -> list[tuple[int, list[CellPosition]]]:
    """Return the thirds of the network, each as (index of its first cell, its cells). A reduction cell begins a new third."""
    starts = [0, *(i for i, cell in enumerate(cells) if cell.reduction), len(cells)]
    return [(start, list(cells[start:end])) for start, end in zip(starts, starts[1:], strict=False)]


def _bar(i: int, cell: CellPosition, x: float, y: float, width: float, height: float, channels: int) -> str:
    what = f"Cell {i}: {theme.cell_title(cell.kind).lower()}, {channels * cell.channels_multiplier:,} channels"
    halves = ", halves height and width" if cell.reduction else ""
    return (f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="2" '
            f'fill="{theme.CELL_COLOURS[cell.kind]}">'
            f"<title>{escape(what + halves)}</title></rect>")


def _text(x: float, y: float, words: str, anchor: str, name: str = "") -> str:
    named = f' class="{name}"' if name else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="12">{escape(words)}</text>'


def _legend(cells: Sequence[CellPosition]) -> str:
    """Return an HTML legend with the colour, letter and number of cells of each cell kind, in order of occurrence."""
    entries = []
    for kind in dict.fromkeys(cell.kind for cell in cells):
        mark = "÷2" if kind == REDUCE else theme.cell_title(kind)[0]
        swatch = (f'<svg width="12" height="12" aria-hidden="true"><rect width="12" height="12" rx="2" '
                  f'fill="{theme.CELL_COLOURS[kind]}"/></svg>')
        number = sum(cell.kind == kind for cell in cells)
        entries.append(f"<span>{swatch}{mark} · {escape(theme.cell_title(kind).lower())} × {number}</span>")
    return f'<div class="rp-legend">{"".join(entries)}</div>'
