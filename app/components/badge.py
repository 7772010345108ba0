"""The reliability badge of an attacked network: a chip (a small coloured label with a glyph) whose tooltip gives the reasons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from app import theme
from app.components.table import NO_SORT, CellText
from app.formats import escape, shown
from engine.attack.badge import Badge, Colour

BADGE_HELP = ("Green: all reliability checks passed. Amber: a check warned, or one that green needs was not made. Red: a check "
              "failed, so distrust the figures. Point at a badge for the reasons.")


def badge_of(run: Mapping[str, Any]) -> Badge | None:
    """Return the badge of a run, or None for a run without an accuracy under attack.

    Args:
        run: row of the run, from `RunLog.runs`.
    """
    colour = shown(run["badge"])
    return Badge(cast(Colour, colour), tuple(run["badge_reasons"].split("\n"))) if colour in theme.BADGES else None


def badge_cell(badge: Badge | None) -> CellText:
    """Return the table cell of a reliability badge. The tooltip gives the reasons for the badge.

    Args:
        badge: the badge, or None for a network without results. Its cell is empty.
    """
    if badge is None:
        return CellText("", sort=NO_SORT)
    tone, glyph, word = theme.BADGES[badge.colour]
    return CellText(word, tone=tone, glyph=glyph, sort=list(theme.BADGES).index(badge.colour), hint="\n".join(badge.reasons))


def badge_html(badge: Badge) -> str:
    """Return a reliability badge as a chip in HTML. The tooltip gives the reasons for the badge."""
    tone, glyph, word = theme.BADGES[badge.colour]
    reasons = escape("\n".join(badge.reasons))
    return (f'<span class="rp-chip rp-tone-{tone}" title="{reasons}" data-badge="{badge.colour}">'
            f'<span class="rp-glyph" aria-hidden="true">{glyph}</span>{word}</span>')
