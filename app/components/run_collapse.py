"""The collapse radar of a search: charts over the epochs that show signs of a collapse, such as many skip connections.

Each cell kind is judged on its own. Buttons open the last epoch without such signs.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from app import address, session, theme
from app.charts.collapse import radar_figure
from app.components.html_table import Markup, StaticColumn, html_table, with_label
from app.components.live_plot import live_plot
from app.components.run_epoch import EPOCH
from app.components.run_sentence import told
from app.components.states import section
from app.formats import EMPTY, capitalised, missing, percent
from engine.drawing.operations import in_order
from engine.insight.collapse import ALMOST_EVEN, MOST_PARAMETER_FREE, MOST_SKIPS, last_healthy_epoch, radar

NOTE = (f"Epochs with a sign of a collapse are shaded. {MOST_SKIPS} skip connections are a note, because DARTS+ ends a search "
        f"there; {percent(MOST_PARAMETER_FREE, 0)} of the edges without parameters are a warning, a level of our choice. Dotted "
        "lines are these levels, a green line is the last healthy epoch. Reduction cells are not judged, because those of good "
        f"networks consist of pooling; nor are cells with almost even weights (entropy above {percent(ALMOST_EVEN, 0)} of its "
        "largest value), because they are arbitrary.")
HEIGHT = 430
LEVELS = {"": "none", "info": "note", "warning": "warning"}
COLUMNS: tuple[StaticColumn[dict[str, Any]], ...] = (
    StaticColumn("Cell", lambda row: theme.cell_title(row["cell"]), names_row=True, data=lambda row: {"cell": row["cell"]}),
    StaticColumn("Skip connections", lambda row: f"{row['skips']} of {row['edges']}", right=True,
                 data=lambda row: {"skips": row["skips"], "edges": row["edges"]}),
    StaticColumn("Edges without parameters", lambda row: with_label(
        f"{row['parameter_free']} of {row['edges']}", percent(row["parameter_free_share"], 0)), right=True,
        data=lambda row: {"parameter_free": row["parameter_free"], "parameter_free_share": row["parameter_free_share"]}),
    StaticColumn("Their weight", lambda row: percent(row["parameter_free_mass"]), right=True,
                 data=lambda row: {"parameter_free_mass": row["parameter_free_mass"]}),
    StaticColumn("Dominant operation", lambda row: with_label(
        theme.operation(row["dominant"]).title, f"{percent(row['dominant_share'], 0)} of the edges"),
        data=lambda row: {"dominant": row["dominant"], "dominant_share": row["dominant_share"]}),
    StaticColumn("Entropy of the weights", lambda row: percent(row["relative_entropy"]), right=True,
                 data=lambda row: {"relative_entropy": row["relative_entropy"]}),
    StaticColumn("Sign", lambda row: _sign(row["level"]), data=lambda row: {"level": row["level"]}),
    StaticColumn("Last healthy epoch", lambda row: _healthy(row["healthy"]), right=True,
                 data=lambda row: {"last_healthy_epoch": row["healthy"]}),
)


def collapse_radar(run_id: str) -> None:
    """Show the signs of a collapse of a search: a sentence, charts over the epochs, and the newest numbers as a table."""
    table = radar(session.run_log(), run_id)
    section("Collapse radar", "operations without parameters that take over a cell, by cell kind")
    told(run_id, "collapse")
    _ways_back(table)
    live_plot(radar_figure(table), key="run_collapse", height=HEIGHT, data=lambda: table,
              label="Skip connections, edges without parameters and dominant operation of each cell over the epochs")
    st.html(f'<p class="rp-note">{NOTE}</p>')
    last = newest(table)
    st.html(html_table(COLUMNS, last.to_dict("records"), label="Signs of a collapse", file="run-collapse",
                       note=f"The cells of epoch {int(last['epoch'].max())}."))


def newest(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the newest epoch, one per cell kind, with a further column `healthy`.

    The column is None for a cell kind that has no sign of a collapse in the newest epoch. Otherwise, it is the last epoch in
    which the cell kind had no sign, or -1 if there was none (see `last_healthy_epoch`).

    Args:
        table: table from `engine.insight.collapse.radar`, with at least one row.
    """
    last = table[table["epoch"] == table["epoch"].max()].set_index("cell").loc[in_order(table["cell"].unique())].reset_index()
    return last.assign(healthy=pd.Series([last_healthy_epoch(table, cell) for cell in last["cell"]], dtype=object))


def _ways_back(table: pd.DataFrame) -> None:
    """Show buttons for the cell kinds that have a sign of a collapse in the newest epoch.

    A click moves the player above to the last epoch without such a sign. Cell kinds with the same last epoch share a button. A
    cell kind without such an epoch has no button.
    """
    ways: dict[int, list[str]] = {}
    for row in newest(table).itertuples():
        if not missing(row.healthy) and row.healthy >= 0:
            ways.setdefault(int(row.healthy), []).append(theme.cell_title(str(row.cell)).lower())
    if not ways:
        return
    with st.container(horizontal=True):
        for epoch, cells in sorted(ways.items()):
            st.button(f"Go to the last healthy epoch of the {' and '.join(cells)}: {epoch}", key=f"run_healthy_{epoch}",
                      on_click=lambda epoch=epoch: address.choose(**{EPOCH: str(epoch)}))


def _sign(level: str) -> Markup:
    tone = {"warning": "bad", "info": "warn"}.get(level, "muted")
    return Markup(f'<span class="rp-tone-{tone}">{capitalised(LEVELS[level])}</span>')


def _healthy(epoch: int | None) -> str:
    return EMPTY if missing(epoch) else "none" if epoch < 0 else str(epoch)
