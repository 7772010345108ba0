"""The selector of a protocol on the Robustness page, and tables of the fields of a protocol or a fingerprint.

A protocol consists of the images, and the attacks with their settings. A fingerprint is a hash of the conditions of a single
result.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from app import address
from app.components.html_table import StaticColumn, html_table
from app.formats import dataset_title, escape, markdown, plural
from engine.attack.catalogue import ATTACKS
from engine.report.robustness import RobustnessTable

OUTSIDE = ("Not part of the protocol: the network with its weights, its architecture and its normalisation; the method, preset "
           "and seeds of its search and retraining; the machine. They may differ between the rows of this table.")
OLDER = "Runs of an older version, which recorded no protocol. Those with equal fingerprints share a table."
# Names of the choices that belong to the networks of one protocol.
DEPENDENT = ("compare", "run", "attack", "label", "outcome", "gallery", "column", "transfer", "network")


def choose_protocol(tables: Sequence[RobustnessTable], default: RobustnessTable) -> RobustnessTable:
    """Show the selector of the protocol, and return the robustness table of the chosen protocol.

    The hash and all fields of the chosen protocol are shown next to the selector.

    Args:
        tables: robustness tables of all protocols, at least one.
        default: table to return if the page's address names no protocol.
    """
    by_hash = {table.protocol: table for table in (default, *tables)}
    asked = st.query_params.get("protocol", "")
    if asked and asked not in by_hash:
        st.caption(f"No network was attacked under the protocol {markdown(asked[:20])} of the address. Another protocol is "
                   "shown.")
    left, right = st.columns([5, 1], vertical_alignment="bottom")
    options = {short: " · ".join((dataset_title(table.dataset) or "Unknown dataset", table.title,
                                  plural(len(table.rows), "network"))) for short, table in by_hash.items()}
    chosen = address.selectbox(
        left, "Protocol", options, name="protocol", key="robustness.protocol", also=forget,
        help="Everything that affects a result except the network: dataset, images, attacks with their settings and library "
             "versions, norm, radius. Networks are compared only under one protocol.")
    table = by_hash[chosen]
    with right:
        st.html(f'<p class="rp-note">hash<br><code>{escape(table.protocol)}</code></p>')
    with st.expander("The protocol in full"):
        st.html(protocol_html(table))
    return table


def forget() -> None:
    """Remove from the page's address the choices that concern networks of the previous protocol."""
    address.choose(**dict.fromkeys(DEPENDENT, ""))


def protocol_html(table: RobustnessTable) -> str:
    """Return HTML with a table of all fields of a protocol, and a note that says what is not part of a protocol.

    Each attack is one row of the table.
    """
    if not table.fields:
        return f'<p class="rp-note">{OLDER}</p>'
    attacks = {f"attack {number}": part for number, part in enumerate(table.fields.get("attacks", []), start=1)}
    fields = {name: value for name, value in table.fields.items() if name != "attacks"} | attacks
    return f'{fields_html(fields, f"Protocol {table.protocol}")}<p class="rp-note rp-apart">{OUTSIDE}</p>'


def recorded_fields_html(title: str, text: str) -> str:
    """Return an HTML table of the conditions of an attack. The hash of these conditions is the fingerprint of the result.

    Args:
        title: title of the attack.
        text: conditions as JSON, as recorded with the result.
    """
    try:
        fields = json.loads(text)
    except ValueError:
        return '<p class="rp-note">The fields of this fingerprint cannot be read.</p>'
    return fields_html(fields, f"Fingerprint of {title}")


def fields_html(fields: Mapping[str, Any], label: str) -> str:
    """Return an HTML table of fields, with names in the first column and values in the second."""
    columns: tuple[StaticColumn[tuple[str, Any]], ...] = (
        StaticColumn("Field", lambda field: field[0].replace("_", " "), names_row=True),
        StaticColumn("Value", lambda field: dataset_title(field[1]) if field[0] == "dataset" else field_text(field[1])))
    return html_table(columns, fields.items(), label=label, look="rp-wrap")


def field_text(value: object) -> str:
    """Return the value of a field as one line of text.

    If the value is an attack with its settings, the text begins with the title of the attack.
    """
    if isinstance(value, dict):
        inner = {name: one for name, one in value.items() if not (name == "attack" and one in ATTACKS)}
        title = [ATTACKS[value["attack"]].title] if len(inner) < len(value) else []
        return ", ".join([*title, *(f"{str(name).replace('_', ' ')} {field_text(one)}" for name, one in inner.items())])
    if isinstance(value, list):
        return "; ".join(field_text(inner) for inner in value)
    return "none" if value is None else "yes" if value is True else "no" if value is False else str(value)
