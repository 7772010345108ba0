"""Accuracies that papers claim, shown separately from our measurements."""

from __future__ import annotations

from functools import partial

import streamlit as st

from app.components.html_table import StaticColumn, html_table, with_label
from app.components.states import section
from app.formats import EMPTY, plural
from engine.report.published import Block, Claim, blocks_of


def published(dataset: str) -> None:
    """Show the published accuracies on a dataset, or nothing if none are known."""
    blocks = blocks_of(dataset)
    if not blocks:
        return
    section("Claims of papers, other protocols", "not measured here; do not rank them with the table above, nor across blocks")
    for block in blocks:
        with st.expander(f"{block.title}: {plural(len(block.claims), 'network')}, {block.protocol}"):
            st.html(block_html(block))


def block_html(block: Block) -> str:
    """Return the networks of one source as an HTML table with source, protocol and note."""
    columns: list[StaticColumn[Claim]] = [StaticColumn("Method", _method, names_row=True, look="rp-name")]
    if any(claim.training for claim in block.claims):
        columns.append(StaticColumn("Training", lambda claim: claim.training or EMPTY))
    if any(claim.parameters for claim in block.claims):
        columns.append(StaticColumn("Parameters", lambda claim: EMPTY if claim.parameters is None
                                    else f"{claim.parameters:g} million", right=True,
                                    data=lambda claim: {"parameters_million": claim.parameters}))
    columns += [StaticColumn(f"{title}, claimed", partial(_claimed, number, block.digits), right=True,
                             data=partial(_claim, number, f"{title}, claimed, percent"))
                for number, title in enumerate(block.columns)]
    note = " ".join(filter(None, (f"Source: {block.source}. Protocol: {block.protocol}.", block.note,
                                  "The sources give no intervals.")))
    return html_table(columns, block.claims, label=f"{block.title}, claims of papers", note=note, look="rp-claims",
                      facts={"source": block.source, "protocol": block.protocol})


def _method(claim: Claim) -> str:
    again = "measured again by the authors of the source" if claim.recreated else ""
    return with_label(claim.method, ", ".join(filter(None, (claim.extra_data, again))))


def _claim(number: int, name: str, claim: Claim) -> dict[str, object]:
    return {name: claim.accuracies[number]}


def _claimed(number: int, digits: int, claim: Claim) -> str:
    value = claim.accuracies[number]
    if value is None:
        return EMPTY
    decimals = len(f"{value:g}".partition(".")[2])
    return f"{value:.{max(digits, decimals)}f} %"
