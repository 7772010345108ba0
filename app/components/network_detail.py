"""Everything measured on one attacked network: attacks, reliability checks, fingerprints and other evaluations of the network."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from app import address, session
from app.components.attack_table import attack_table_html
from app.components.badge import badge_html
from app.components.html_table import Markup, StaticColumn, html_table
from app.components.named_network import named_network_html
from app.components.protocol import recorded_fields_html
from app.components.states import RUN_PAGE, page_link, section
from app.drawing.cell_graph import genotype_graphs
from app.formats import escape, markdown, moment, plural, with_interval
from engine.attack.catalogue import WORST
from engine.attack.statistics import accuracy_words
from engine.report.robustness import NetworkRow
from engine.report.words import WHY_LITTLE_IS_CERTIFIED, measured_text

FINDINGS = {"failed": ("bad", "✕", "Failed"), "warning": ("warn", "!", "Warning"), "passed": ("good", "✓", "Passed"),
            "skipped": ("muted", "–", "Skipped")}
CHECKPOINT_NOTE = ("These results belong to this checkpoint. A claim about its method needs several searches and retrainings "
                   "with different seeds.")


ANCHOR = "network-detail"  # place of the detail on the page


def jump_html(row: NetworkRow) -> str:
    """Return a link to the section of the page that shows the details of a network."""
    return f'<p class="rp-note"><a href="#{ANCHOR}" target="_self">Details of {escape(row.label)} below</a></p>'


def title_html(row: NetworkRow) -> str:
    """Return the heading above the details of a network as HTML, with label, badge and run id."""
    return (f'<div class="rp-row rp-detail" id="{ANCHOR}"><h2 class="rp-title">{escape(row.label)}</h2>{badge_html(row.badge)}'
            f'<span class="rp-label">{escape(row.run)}</span></div>')


def picture(row: NetworkRow, *, key: str) -> None:
    """Draw the cells of a network, or a description if the network is hand-made."""
    if row.hand_made:
        st.html(named_network_html(row.hand_made))
    elif row.genotype is None:
        st.caption("The events of this run contain no genotype.")
    else:
        genotype_graphs(row.genotype, key=key)


def pictures(rows: Sequence[NetworkRow], *, most: int, key: str, noun: str) -> None:
    """Draw the cells of at most `most` networks side by side.

    Args:
        rows: the networks.
        most: largest number of networks that are drawn.
        key: prefix of the keys of the drawings.
        noun: word for a network, for example "picked network". If networks are left out, a caption uses it to say so.
    """
    for place, row in zip(st.columns(min(len(rows), most), gap="large"), rows):
        with place:
            st.html(f'<h3 class="rp-section">{escape(row.label)}</h3>')
            picture(row, key=f"{key}_{row.run}")
    if len(rows) > most:
        st.caption(f"The cells of the first {plural(most, noun)}.")


def measurements(row: NetworkRow) -> None:
    """Show the table of all attacks on a network, and the fingerprint of each result."""
    attacks = session.run_log().attacks(row.run)
    if attacks.empty:
        st.caption("No attack has been measured yet.")
    else:
        st.html(attack_table_html(attacks))
    bounds(row)
    st.caption(CHECKPOINT_NOTE)
    page_link(RUN_PAGE, "Open the run", id=row.run)
    if not attacks.empty:
        with st.expander("Fingerprints in full"):
            fingerprints(attacks)


def reliability(row: NetworkRow) -> None:
    """Show the reliability checks of a network. The heading names the colour of the network's reliability badge."""
    section("Reliability checks", row.badge.colour)
    checks(row)


def bounds(row: NetworkRow) -> None:
    """Show two bounds of the robust accuracy: the certified accuracy from below, the worst case over all attacks from above."""
    certified = session.run_log().certified(row.run)
    worst = row.results.get(WORST)
    if certified.empty or worst is None:
        return
    lower = certified.iloc[-1]
    least = accuracy_words(int(lower["correct"]), int(lower["images"]))
    st.caption(f"Robust accuracy is at least {least} (certified by interval bounds) and at most {measured_text(worst)} (worst "
               f"case). {WHY_LITTLE_IS_CERTIFIED}")


def checks(row: NetworkRow) -> None:
    """Show the findings of the reliability checks of a network's attack run, most serious first."""
    found = session.run_log().checks(row.run)
    if found.empty:
        st.caption(markdown(" ".join(row.badge.reasons)) or "No check was recorded.")
        return
    found = found.sort_values("finding", key=lambda column: column.map(list(FINDINGS).index), kind="stable")
    columns: list[StaticColumn[dict[str, str]]] = [
        StaticColumn("Check", lambda one: one["title"], names_row=True),
        StaticColumn("Finding", lambda one: _finding(one["finding"])),
        StaticColumn("Measured", lambda one: one["measured"], look="rp-label")]
    if found["advice"].any():
        columns.append(StaticColumn("What to do", lambda one: one["advice"], look="rp-label"))
    st.html(html_table(columns, found.to_dict("records"), label="Reliability checks"))


def _finding(finding: str) -> Markup:
    tone, glyph, word = FINDINGS[finding]
    return Markup(f'<span class="rp-chip rp-tone-{tone}"><span class="rp-glyph" aria-hidden="true">{glyph}</span>{word}</span>')


def fingerprints(attacks: pd.DataFrame) -> None:
    """Show the fingerprint of each result (a hash of the conditions of the measurement) and these conditions."""
    for row in attacks.itertuples():
        st.html(f'<p class="rp-note"><b>{escape(row.title)}</b> <code>{escape(row.fingerprint)}</code></p>')
        st.html(recorded_fields_html(row.title, row.fields))


def other_evaluations(shown: NetworkRow, others: list[NetworkRow]) -> None:
    """Show the other evaluations of a network under the same protocol. Each has a button that displays its results.

    Args:
        shown: evaluation that the page currently displays.
        others: all other evaluations of the network, newest first.
    """
    if not others:
        return
    with st.expander(f"Other evaluations of this network ({len(others)})",
                     expanded=any(not other.complete for other in others)):
        for other in others:
            worst = other.results.get(WORST)
            words = (f"worst case {with_interval(worst.accuracy, worst.low, worst.high)}, {worst.images:,} images" if worst
                     else "not complete")
            left, right = st.columns([4, 1], vertical_alignment="center")
            left.html(f'<p class="rp-note">{escape(moment(other.created))} · {escape(other.run)} · {escape(words)}</p>')
            right.button("Show it", key=f"robustness.show.{other.run}", on_click=address.choose, kwargs={"run": other.run})
