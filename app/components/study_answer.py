"""The answer of a study and its status, in words and as chips."""

from __future__ import annotations

from app import theme
from app.formats import capitalised, escape, plural
from engine.study.contrasts import FEWEST_UNITS
from engine.study.overview import Overview

STATUSES = theme.STATUS | {"waiting": theme.STATUS["queued"]}
CHIPS = {"provisional": ("Provisional", "live", "◔"), "demonstration": ("Demonstration, no claim", "warn", "△"),
         "final": ("Final", "good", "✓")}
PREFIX = "Demonstration, no claim: "  # of a headline whose mark says the same


def study_chip_html(status: str) -> str:
    """Return the status of a study, or of one repetition of an arm, as a chip."""
    glyph, tone = STATUSES.get(status, ("?", "muted"))
    return (f'<span class="rp-chip rp-tone-{tone}" data-status="{escape(status)}"><span class="rp-glyph" aria-hidden="true">'
            f"{glyph}</span>{escape(status.capitalize())}</span>")


def marks(overview: Overview) -> list[str]:
    """Return one or two words that qualify an answer: "provisional", "demonstration" or, if neither applies, "final".

    An answer is provisional until every repetition of every arm has its result. A demonstration cannot claim anything.
    """
    answer = overview.answer
    too_few = len(overview.study.search_seeds) < FEWEST_UNITS
    names = ["provisional"] if answer.provisional else []
    names += ["demonstration"] if too_few or not (answer.claims or answer.provisional) else []
    return names or ["final"]


def marks_html(overview: Overview) -> str:
    """Return the words of `marks`, such as "provisional", as one HTML chip each."""
    return "".join(f'<span class="rp-chip rp-tone-{tone}"><span class="rp-glyph" aria-hidden="true">{glyph}</span>{text}</span>'
                   for text, tone, glyph in map(CHIPS.__getitem__, marks(overview)))


def answer_html(overview: Overview) -> str:
    """Return the answer of a study as HTML: the first comparison of two arms in large letters, the others in a list below.

    The words that `marks_html` shows as chips are left out.
    """
    first, *others = overview.answer.parts
    items = "".join(f"<li>{_text(one)}.</li>" for one in others)
    return f"<p>{_lead(first)}.</p>" + (f"<ul>{items}</ul>" if others else "")


def answer_line_html(overview: Overview) -> str:
    """Return the first comparison of a study's answer and the number of further comparisons as HTML, for the list of studies."""
    first, *others = overview.answer.parts
    return _lead(first) + (f"; {plural(len(others), 'further contrast')}." if others else ".")


def _lead(clause: str) -> str:
    """Return the first clause of an answer as HTML, without the words "Demonstration, no claim: ", which a chip shows."""
    if not clause.startswith(PREFIX):
        return _text(clause)
    rest = clause.removeprefix(PREFIX)
    return _text(capitalised(rest) if rest.startswith(("so far", "in ")) else rest)


def _text(clause: str) -> str:
    return escape(clause.replace(" %", "\u00a0%"))
