"""Robustness: every attacked network with its intervals, grouped by how it was measured, and the ledger of the test split."""

from __future__ import annotations

import json

import pandas as pd
import streamlit as st

from app import session
from app.charts.robustness import height_of, intervals_figure
from app.components.attack_table import attack_table_html
from app.components.cell_graph import genotype_graphs
from app.components.formats import count, epsilon, escape, missing, moment
from app.components.live import live_panel
from app.components.live_plot import live_plot
from app.components.measure import NOT_MEASURED, accuracy, interval, network_labels, unequal_sizes, with_interval
from app.components.named_network import named_network_html
from app.components.states import LAUNCH_PAGE, RUN_PAGE, empty_state, heading, page_link, section
from app.components.table import NO_SORT, CellText, Column, Row, table
from engine.architecture.genotype import Genotype
from engine.attack.catalogue import ATTACKS, NATURAL
from engine.config import AttackConfig
from engine.data.catalogue import DATASETS
from engine.errors import GenotypeError

MEASURES = ((NATURAL, "Natural", "Unchanged images."),
            *((attack.prefix, attack.header, attack.summary) for _, attack in ATTACKS.items()))
# Columns that every table has; the others appear where a network of the group was measured.
STANDARD = {NATURAL, *(ATTACKS[name].prefix for name in AttackConfig.presets["quick"]["attacks"])}


def columns_of(rows: pd.DataFrame) -> list[Column]:
    """Columns of a group's table; the number of images stands in the heading, since it is the same for the whole group."""
    measured = [(name, title, about, rows[f"{name}_images"].max()) for name, title, about in MEASURES
                if name in STANDARD or rows[f"{name}_images"].notna().any()]
    return [Column("network", "Network"),
            *(Column(name, title if missing(images) else f"{title}\n{images:,.0f} images", "right", about)
              for name, title, about, images in measured),
            Column("epsilon", "ε", "right", "Radius of the L-infinity ball, pixels from 0 to 1."),
            Column("size", "Parameters\nMACs", "right", "Trainable numbers, and multiply-accumulates for one image.")]


def row_of(network: pd.Series) -> Row:
    """One line of a group's table."""
    name = network["label"] if network["complete"] else f"{network['label']} (still attacked)"
    cells = {"network": CellText(name, sub=network["preset"], href=f"run?id={network['run']}", hint=network["run"])}
    for prefix, _, _ in MEASURES:
        value, low, high, images = (network[f"{prefix}_{end}"] for end in ("accuracy", "low", "high", "images"))
        cells[prefix] = (CellText(NOT_MEASURED, sort=NO_SORT, muted=True) if missing(value) else
                         CellText(accuracy(value), sub=interval(low, high), sort=float(value),
                                  hint=f"{with_interval(value, low, high)} on {images:,.0f} images"))
    cells["epsilon"] = CellText(epsilon(network["epsilon"]), sort=float(network["epsilon"]))
    cells["size"] = CellText(count(network["parameters"]), sub=f"{count(network['macs'])} MACs",
                             sort=NO_SORT if missing(network["parameters"]) else float(network["parameters"]))
    return Row(network["run"], cells)


def group_title(rows: pd.DataFrame) -> tuple[str, str]:
    """(heading, note) of a group: what its networks have in common."""
    first = rows.iloc[0]
    data = DATASETS[first["dataset"]].title if first["dataset"] in DATASETS else first["dataset"] or "unknown dataset"
    prints = str(first["fingerprint"]).split()
    note = f"measured alike: fingerprint{'s' if len(prints) != 1 else ''} {', '.join(one[:6] for one in prints)}"
    return f"{data}, ε {epsilon(first['epsilon'])}", note


def picture(network: pd.Series) -> None:
    """The cells of the selected network, or what it is instead."""
    st.html(f'<div class="rp-row"><h3 class="rp-section">{escape(network["label"])}</h3></div>')
    if network["hand_made"]:
        st.html(named_network_html(network["hand_made"]))
        return
    try:
        genotype = Genotype.from_dict(network["genotype"])
    except GenotypeError:
        st.caption("Its genotype is not in the run's events.")
        return
    genotype_graphs(genotype, key="robustness_graph")


def details(network: pd.Series) -> None:
    """Everything measured on the selected network, and the full fingerprint of each number."""
    section(f"{network['label']}: every attack", network["run"])
    attacks = session.run_log().attacks(network["run"])
    st.html(attack_table_html(attacks))
    st.caption("These numbers belong to this checkpoint. A claim about its method needs several searches and retrainings with "
               "different seeds, at least five.")
    left, right = st.columns([1, 3])
    with left:
        page_link(RUN_PAGE, "Open the run", id=network["run"])
    with right.expander("Fingerprints in full"):
        for row in attacks.itertuples():
            st.html(f'<p class="rp-note"><b>{escape(row.title)}</b> <code>{escape(row.fingerprint)}</code></p>')
            st.html(fields_html(row.fields))


def fields_html(text: str) -> str:
    """The fields of one fingerprint as a two-column table; a suite's parts are listed inside."""
    try:
        fields = json.loads(text)
    except ValueError:
        return '<p class="rp-note">The fields of this fingerprint cannot be read.</p>'
    rows = "".join(f"<tr><td>{escape(str(name).replace('_', ' '))}</td><td>{escape(field_text(value))}</td></tr>"
                   for name, value in fields.items())
    return f'<div class="rp-scroll"><table class="rp-table rp-wrap"><tbody>{rows}</tbody></table></div>'


def field_text(value: object) -> str:
    """A value of a fingerprint on one line."""
    if isinstance(value, dict):
        return ", ".join(f"{str(name).replace('_', ' ')} {field_text(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return "; ".join(field_text(inner) for inner in value)
    return "none" if value is None else "yes" if value is True else "no" if value is False else str(value)


def ledger() -> None:
    """Every opening of the test split, newest first."""
    openings = session.run_log().test_openings()
    times = len(openings)
    section("Test ledger", "each opening of a test split, counted")
    if not times:
        st.caption("No test split has been opened. Searches and retrainings never open it: they choose on the select split.")
        return
    st.caption(f"The test split has been opened {times} time{'s' if times != 1 else ''}. The more often it is looked at, the "
               "less a choice made after looking is worth; report this number beside the results.")
    rows = "".join(
        f'<tr><td class="rp-right">{row.opening}</td><td class="rp-name">{escape(row.title)}</td><td>{escape(row.run)}</td>'
        f'<td>{escape(DATASETS[row.dataset].title if row.dataset in DATASETS else row.dataset)}</td>'
        f'<td class="rp-right">{row.images:,}</td><td>{escape(row.purpose)}</td>'
        f'<td class="rp-right">{row.attempt}</td><td class="rp-right">{moment(row.t)}</td></tr>'
        for row in openings.iloc[::-1].head(100).itertuples())
    head = "".join(f'<th scope="col"{side}>{name}</th>' for name, side in (
        ("Opening", ' class="rp-right"'), ("Network", ""), ("Run", ""), ("Dataset", ""), ("Images", ' class="rp-right"'),
        ("Purpose", ""), ("Attempt", ' class="rp-right"'), ("When", ' class="rp-right"')))
    st.html(f'<div class="rp-scroll"><table class="rp-table"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>')


def groups_of(frame: pd.DataFrame) -> list[pd.DataFrame]:
    """Networks measured alike, the largest group first. Unlike fingerprints are never in one group."""
    parts = [rows for _, rows in frame.groupby(["dataset", "epsilon", "fingerprint"], sort=False, dropna=False)]
    return sorted(parts, key=len, reverse=True)


def selected_run(groups: list[pd.DataFrame]) -> str:
    """The run that is shown in detail: the one last chosen in any group, else the first of the largest."""
    chosen = st.session_state.get("robustness.selected")
    return chosen if any(chosen in set(rows["run"]) for rows in groups) else str(groups[0]["run"].iloc[0])


def tables(groups: list[pd.DataFrame], run: str) -> str:
    """One table a group; returns the run that is selected now. Follows a link to its run."""
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
    """Tables by group with the selected network's cells beside them, its intervals and fingerprints below."""
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
    left, right = st.columns([1.4, 1], gap="medium")
    with left:
        now = tables(groups, run)
        if now != run:
            st.session_state["robustness.selected"] = now
            st.rerun(scope="fragment")
        rows = next(rows for rows in groups if run in set(rows["run"]))
        st.caption("Each cell: share of the images still classified correctly, and its 95 % Wilson interval in percent. "
                   "Groups differ in attack, settings or images, so networks are compared inside a group only.")
        section("Intervals", "the selected network's group")
        live_plot(intervals_figure(rows), key="robustness_intervals", height=height_of(len(rows)),
                  label="Accuracy under each attack with 95 % intervals")
    network = frame[frame["run"] == run].iloc[0]
    with right:
        picture(network)
    details(network)
    ledger()


heading("Robustness", "What is left of each network's accuracy under attack, measured on the test split.")
networks()
