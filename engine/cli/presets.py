"""The output of `rampart presets`, which compares the presets in one table per kind of run and search method.

The tables are at most 100 columns wide.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from engine.api import Setting
from engine.config import PRESETS, is_pixels, pixels_text
from engine.configuring import config_class
from engine.search.methods.registry import METHODS

WIDTH = 100
WIDEST_VALUE = 14
SHOWN = tuple(name for name in PRESETS if name != "smoke")  # smoke is for the project's own tests
LEGEND = ("* differs from the published value, or from the default where no source is named. With a star in the paper column the "
          "dataset requires it; the published value then follows the source.")
HEADING = ("setting", *SHOWN, "published in")


def presets_text(settings: Sequence[Setting]) -> str:
    """Return the text that `rampart presets` prints for these settings."""
    about = [textwrap.fill(f"{name}: {PRESETS[name]}", WIDTH) for name in SHOWN]
    parts = ["\n".join([*about, textwrap.fill(LEGEND, WIDTH)])]
    for (kind, method), rows in groupby(settings, key=lambda one: (one.kind, one.method)):
        title = f"{kind}, {METHODS[method].title} ({METHODS[method].source})" if method else kind
        parts.append(f"{textwrap.fill(title, WIDTH)}\n{wrapped_table([HEADING, *map(row_of, rows)])}")
    return "\n\n".join(parts)


def row_of(setting: Setting) -> tuple[str, ...]:
    """Return the table row of a setting: the name, the value in each preset, and the source of the published value.

    A star marks values that differ from the published value.
    """
    pixels = is_pixels(config_class(setting.kind, setting.method).model_fields[setting.field])
    values = [value_text(setting.values[name], pixels) + "*" * (setting.values[name] != setting.published) for name in SHOWN]
    source = setting.source
    if source and setting.values["paper"] != setting.published:
        source = f"{source}: {value_text(setting.published, pixels)}"
    return (setting.field, *values, source)


def value_text(value: Any, pixels: bool) -> str:
    """Format the value of a setting for the table of `rampart presets`. An empty value becomes a dash.

    Args:
        value: the value.
        pixels: True if the value is in pixel space (0..1), so that it is shown as a text like "8/255".
    """
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return pixels_text(value) if pixels else f"{value:.6g}" if isinstance(value, float) else str(value)


def wrapped_table(rows: Sequence[Sequence[str]]) -> str:
    """Format rows as a table with left-aligned columns, two spaces apart. Long cells wrap.

    The table is at most `WIDTH` characters wide. The last column gets the width that the other columns do not need.
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    widths[1:-1] = [min(width, WIDEST_VALUE) for width in widths[1:-1]]
    widths[-1] = WIDTH - sum(widths[:-1]) - 2 * (len(widths) - 1)
    lines = []
    for row in rows:
        cells = [textwrap.wrap(cell, width, break_on_hyphens=False) for cell, width in zip(row, widths)]
        for number in range(max(map(len, cells))):
            parts = [(cell[number] if number < len(cell) else "").ljust(width) for cell, width in zip(cells, widths)]
            lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)
