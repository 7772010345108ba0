"""The Robustness page, which shows all attacked networks in comparable groups, and every use of a test split.

The networks of a group were measured under the same attacks on the same images, so their results have equal fingerprints.
"""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import streamlit as st

from app import session
from app.charts.robustness import height_of, intervals_figure
from app.components.attack_table import attack_table_html
from app.components.html_table import StaticColumn, html_table
from app.components.live import live_panel
from app.components.live_plot import live_plot
from app.components.named_network import named_network_html
from app.components.states import LAUNCH_PAGE, RUN_PAGE, empty_state, heading, page_link, section
from app.components.table import NO_SORT, CellText, Column, Row, table
from app.drawing.cell_graph import genotype_graphs
from app.formats import (
    NOT_MEASURED,
    accuracy,
    count,
    dataset_title,
    epsilon,
    escape,
    interval,
    missing,
    moment,
    network_labels,
    plural,
    unequal_sizes,
    with_interval,
)
from engine.architecture.genotype import Genotype
from engine.attack.catalogue import ATTACKS, NATURAL
from engine.config import AttackConfig
from engine.errors import GenotypeError

MEASURES = ((NATURAL, "Natural", "Unchanged images."),
            *((attack.prefix, attack.header, attack.summary) for _, attack in ATTACKS.items()))
# Measures that have a column in every table. Other measures have one only if a network of the group has a result for them.
STANDARD = {NATURAL, *(ATTACKS[name].prefix for name in AttackConfig.presets["quick"]["attacks"])}
MOST_OPENINGS = 100  # most rows of the test ledger
LEDGER: tuple[StaticColumn[Any], ...] = (
    StaticColumn("Opening", lambda row: row.opening, right=True),
    StaticColumn("Network", lambda row: row.title, names_row=True, look="rp-name"),
    StaticColumn("Run", lambda row: row.run),
    StaticColumn("Dataset", lambda row: dataset_title(row.dataset)),
    StaticColumn("Images", lambda row: f"{row.images:,}", right=True),
    StaticColumn("Purpose", lambda row: row.purpose),
    StaticColumn("Attempt", lambda row: row.attempt, right=True),
    StaticColumn("When", lambda row: moment(row.t), right=True),
)


def columns_of(rows: pd.DataFrame) -> list[Column]:
    """Return the columns of the table of one group. Headings give the number of images, which is equal for the whole group."""
    measured = [(name, title, about, rows[f"{name}_images"].max()) for name, title, about in MEASURES
                if name in STANDARD or rows[f"{name}_images"].notna().any()]
    return [Column("network", "Network"),
            *(Column(name, title if missing(images) else f"{title}\n{images:,.0f} images", "right", about)
              for name, title, about, images in measured),
            Column("epsilon", "Epsilon", "right", "Radius of the L-infinity ball; pixels are in 0 to 1."),
            Column("size", "Parameters\nMACs", "right", "Trainable parameters, and multiply-accumulates (MACs) per image.")]


def row_of(network: pd.Series) -> Row:
    """Return the row of a network in the table of its group."""
    name = network["label"] if network["complete"] else f"{network['label']} (attack in progress)"
    cells = {"network": CellText(name, sub=network["preset"], href=f"run?id={network['run']}", hint=network["run"])}
    for prefix, _, _ in MEASURES:
        value, low, high, images = (network[f"{prefix}_{end}"] for end in ("accuracy", "low", "high", "images"))
        cells[prefix] = (CellText(NOT_MEASURED, sort=NO_SORT, muted=True) if missing(value) else
                         CellText(accuracy(value), sub=interval(low, high).removesuffix(" %"), sort=float(value),
                                  hint=f"{with_interval(value, low, high)} on {images:,.0f} images"))
    cells["epsilon"] = CellText(epsilon(network["epsilon"]), sort=float(network["epsilon"]))
    cells["size"] = CellText(count(network["parameters"]), sub=f"{count(network['macs'])} MACs",
                             sort=NO_SORT if missing(network["parameters"]) else float(network["parameters"]))
    return Row(network["run"], cells)


def group_title(rows: pd.DataFrame) -> tuple[str, str]:
    """Return (heading, note) for the table of one group.

    Args:
        rows: rows of the group, from `RunLog.robustness`.
    """
    first = rows.iloc[0]
    prints = str(first["fingerprint"]).split()
    note = f"comparable: same fingerprint{'s' if len(prints) != 1 else ''} {', '.join(one[:6] for one in prints)}"
    return f"{dataset_title(first['dataset']) or 'Unknown dataset'}, epsilon {epsilon(first['epsilon'])}", note


def picture(network: pd.Series) -> None:
    """Draw the cells of the selected network, or a description if the network is hand-made."""
    st.html(f'<div class="rp-row"><h3 class="rp-section">{escape(network["label"])}</h3></div>')
    if network["hand_made"]:
        st.html(named_network_html(network["hand_made"]))
        return
    try:
        genotype = Genotype.from_dict(network["genotype"])
    except GenotypeError:
        st.caption("The events of this run contain no genotype.")
        return
    genotype_graphs(genotype, key="robustness_graph")


def details(network: pd.Series) -> None:
    """Draw the table of all attacks on the selected network, and the full fingerprint of each result."""
    section(f"{network['label']}: every attack", network["run"])
    attacks = session.run_log().attacks(network["run"])
    st.html(attack_table_html(attacks))
    st.caption("These numbers belong to this checkpoint. A claim about its method needs at least five searches and retrainings "
               "with different seeds.")
    left, right = st.columns([1, 3])
    with left:
        page_link(RUN_PAGE, "Open the run", id=network["run"])
    with right.expander("Fingerprints in full"):
        for row in attacks.itertuples():
            st.html(f'<p class="rp-note"><b>{escape(row.title)}</b> <code>{escape(row.fingerprint)}</code></p>')
            st.html(fields_html(row.title, row.fields))


def fields_html(title: str, text: str) -> str:
    """Return an HTML table of what one fingerprint covers: attack, settings, library and images.

    Args:
        title: title of the attack.
        text: fields of the fingerprint as JSON.
    """
    try:
        fields = json.loads(text)
    except ValueError:
        return '<p class="rp-note">The fields of this fingerprint cannot be read.</p>'
    columns: tuple[StaticColumn[tuple[str, Any]], ...] = (
        StaticColumn("Field", lambda field: field[0].replace("_", " "), names_row=True),
        StaticColumn("Value", lambda field: field_text(field[1])))
    return html_table(columns, fields.items(), label=f"Fingerprint of {title}", look="rp-wrap")


def field_text(value: object) -> str:
    """Return the value of a fingerprint's field as one line of text."""
    if isinstance(value, dict):
        return ", ".join(f"{str(name).replace('_', ' ')} {field_text(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return "; ".join(field_text(inner) for inner in value)
    return "none" if value is None else "yes" if value is True else "no" if value is False else str(value)


def ledger() -> None:
    """Draw the test ledger, which lists every time that a run opened a test split, the newest first."""
    openings = session.run_log().test_openings()
    section("Test ledger", "every opening of a test split")
    if openings.empty:
        st.caption("No test split has been opened. Searches and retrainings never open it: they choose on the select split.")
        return
    st.caption(f"The test split has been opened {plural(len(openings), 'time')}. The more often it is opened, the less a later "
               "choice can be trusted. Report this number with the results.")
    st.html(html_table(LEDGER, openings.iloc[::-1].head(MOST_OPENINGS).itertuples(), label="Test ledger"))


def groups_of(frame: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the networks in groups with equal dataset, epsilon and fingerprints. The largest group comes first.

    Args:
        frame: table from `RunLog.robustness`.
    """
    parts = [rows for _, rows in frame.groupby(["dataset", "epsilon", "fingerprint"], sort=False, dropna=False)]
    return sorted(parts, key=len, reverse=True)


def selected_run(groups: list[pd.DataFrame]) -> str:
    """Return the id of the attack run that is shown in detail.

    It is the run that the reader selected last in any group. Without a selection, it is the first run of the largest group.
    """
    chosen = str(st.session_state.get("robustness.selected", ""))
    return chosen if any(chosen in set(rows["run"]) for rows in groups) else str(groups[0]["run"].iloc[0])


def tables(groups: list[pd.DataFrame], run: str) -> str:
    """Draw one table per group and return the id of the run that is selected now.

    A click on the name of a network opens the page of its run.

    Args:
        groups: rows of each group.
        run: id of the run that is selected before the tables are drawn.
    """
    for number, rows in enumerate(groups):
        section(*group_title(rows))
        name = f"robustness_{rows['fingerprint'].iloc[0]}_{number}"
        mine = set(rows["run"])
        action = table(columns_of(rows), [row_of(row) for _, row in rows.iterrows()], key=name, label=group_title(rows)[0],
                       selected=run if run in mine else None)
        if sizes := unequal_sizes(rows):
            st.caption(sizes)
        if action.opened:
            st.switch_page(RUN_PAGE, query_params={"id": action.opened})
        run = action.clicked or run
    return run


@live_panel("runs", key="robustness_networks")
def networks() -> None:
    """Draw the tables of all groups with the cells of the selected network next to them, then its attacks and the test ledger."""
    frame = session.run_log().robustness()
    if frame.empty:
        empty_state("No attacked network yet", "When an attack finishes, its network appears here: its natural accuracy "
                    "and its accuracy under each attack, with 95 % intervals, next to the cells it was built from.",
                    link=LAUNCH_PAGE, link_label="Launch a search, retraining and attack")
        ledger()
        return
    frame = frame.assign(label=network_labels(list(frame["title"]), list(frame["run"])))
    groups = groups_of(frame)
    run = selected_run(groups)
    left, right = st.columns([1.5, 1], gap="medium")
    with left:
        now = tables(groups, run)
        if now != run:
            st.session_state["robustness.selected"] = now
            st.rerun(scope="fragment")
        rows = next(rows for rows in groups if run in set(rows["run"]))
        st.caption("Each number is the share of images that are still classified correctly, with its 95 % Wilson interval. "
                   "Groups differ in attack, settings or images, so compare networks only within a group.")
        section("Intervals", "the group of the selected network")
        live_plot(intervals_figure(rows), key="robustness_intervals", height=height_of(len(rows)),
                  label="Accuracy under each attack with 95 % intervals")
    network = frame[frame["run"] == run].iloc[0]
    with right:
        picture(network)
    details(network)
    ledger()


heading("Robustness", "The accuracy of each network under attack, measured on the test split.")
networks()
