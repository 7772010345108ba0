"""The lineage of a run as a table: its chain, related runs, and the study that it belongs to."""

from __future__ import annotations

import streamlit as st

from app import session
from app.components.html_table import Markup, StaticColumn, html_table
from app.components.run_sentence import told
from app.components.states import STUDY_PAGE, page_link, section
from app.components.status import status_chip_html
from app.formats import escape, missing, moment, with_interval
from app.theme import KIND_TITLES
from engine.report.lineage import Relative, relatives

COLUMNS: tuple[StaticColumn[Relative], ...] = (
    StaticColumn("Run", lambda one: Markup(
        f'<a href="run?id={escape(one.row["id"])}" target="_self">{escape(one.row["title"])}</a><br>'
        f'<span class="rp-label">{escape(one.row["id"])}</span>'), names_row=True, look="rp-name",
        data=lambda one: {"run": one.row["id"], "title": one.row["title"]}),
    StaticColumn("Step", lambda one: KIND_TITLES.get(str(one.row["kind"]), str(one.row["kind"]))),
    StaticColumn("Relation", lambda one: one.relation),
    StaticColumn("Status", lambda one: Markup(status_chip_html(str(one.row["status"]))), data=lambda one: {
        "status": one.row["status"]}),
    StaticColumn("Robust accuracy", lambda one: _robust(one), right=True, data=lambda one: {
        f"adversarial_{part}": one.row[f"adversarial_{part}"] for part in ("accuracy", "low", "high", "images")} | {
        "protocol": one.row["protocol"]}),
    StaticColumn("Launched", lambda one: moment(one.row["created"]), right=True,
                 data=lambda one: {"created_unix_s": one.row["created"]}),
)


def lineage(run_id: str) -> None:
    """Show a table of the runs that are related to a run, and a link to its study, if any.

    Related runs are:

    * the runs of the same chain,
    * the runs that the settings of this run name,
    * the runs whose settings name this run,
    * the searches that found the same cells.
    """
    section("Lineage", "where this run comes from, and what was made from it")
    told(run_id, "lineage")
    run = session.run_log().run(run_id)
    st.html(html_table(COLUMNS, relatives(session.run_log(), run_id), label="Related runs", group=lambda one: one.group,
                       row_look=lambda one: "rp-strong" if one.row["id"] == run_id else "", file=f"{run_id}-lineage",
                       note="Robust accuracies are those of attack runs, with 95 % Wilson intervals."))
    if run["study"]:
        page_link(STUDY_PAGE, "The study that launched it", id=str(run["study"]))


def _robust(one: Relative) -> str:
    """Return the robust accuracy of an attack run with its interval; "" for other runs and before the first result."""
    row = one.row
    if row["kind"] != "attack" or missing(row["adversarial_accuracy"]) or missing(row["adversarial_low"]):
        return ""
    return with_interval(row["adversarial_accuracy"], row["adversarial_low"], row["adversarial_high"])
