"""The panel of a search that measures candidates one by one: a table and a plot of all candidates, and the cells of one of them.

A candidate is a network that the search has trained and measured. A search by candidates has no architecture weights.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from app import session
from app.architectures import address_of_candidate
from app.charts.candidates import inherited_scatter, scatter
from app.components.html_table import Markup, StaticColumn, code, html_table, with_label
from app.components.live_plot import live_plot
from app.components.states import empty_state
from app.drawing.cell_graph import genotype_graphs
from app.formats import count, escape, interval, percent
from engine.architecture.genotype import Genotype
from engine.log import RunLog

RANKED = {"adversarial": "Ranked by adversarial accuracy; ties by natural accuracy.",
          "natural": "Ranked by natural accuracy; ties by adversarial accuracy.",
          "none": "Unranked: the result is the first candidate, whatever its accuracies."}
MOST_ROWS = 100  # maximum number of rows of the table; results/candidates.json in the folder of the run holds all candidates


def candidates(run_id: str) -> None:
    """Show the table and the plots of all candidates measured so far, and the cells of the candidate that the reader selects."""
    measured = session.run_log().candidates(run_id)
    if measured.empty:
        empty_state("No candidate measured yet", "This search has no architecture weights. Each candidate appears here once it "
                    "has been trained and measured.")
        return
    run = session.run_log().run(run_id)
    config = run["config"]
    attack, split = f"PGD-{config.get('ranking_steps', '')}", measured_split(session.run_log(), run_id)
    table = table_html(measured, run_id, attack, split, candidates=int(config.get("candidates", len(measured))),
                       finished=run["status"] == "finished", source=str(config.get("inherit_from", "")))
    wide = inherits(measured)  # its two more columns take the whole width of the page
    if wide:
        st.html(table)
    left, right = st.columns([1, 1] if wide else [7, 5], gap="large")
    with left:
        if wide:
            live_plot(inherited_scatter(measured, attack, split), key="run_inherited", height=380,
                      label=f"{attack} accuracy of {len(measured)} candidates versus accuracies with inherited weights",
                      data=lambda: measured)
        else:
            st.html(table)
    with right:
        live_plot(scatter(measured, attack, split), key="run_candidates", height=380,
                  label=f"Natural versus {attack} accuracy of {len(measured)} candidates", data=lambda: measured)
    _cells(measured, run_id)


def measured_split(log: RunLog, run_id: str) -> str:
    """Return the name of the split on which a search measured its candidates.

    The split is "select", or "alphas" for runs of older versions.
    """
    return "alphas" if (log.curves(run_id)["split"] == "alphas").any() else "select"


def table_html(measured: pd.DataFrame, run_id: str, attack: str, split: str, *, candidates: int, finished: bool,
               source: str) -> str:
    """Return the table of candidates as HTML.

    Args:
        measured: the candidates measured so far, from `RunLog.candidates`.
        run_id: id of the search.
        attack: title of the attack under which the adversarial accuracy was measured.
        split: name of the split that both accuracies were measured on.
        candidates: total number of candidates that the search measures, including future ones.
        finished: True if the search has finished. Each row then has a link for retraining the candidate.
        source: id of the search whose supernet gave the inherited weights; empty if none was named.
    """
    first = measured.iloc[0]
    caption = (f"{len(measured)} of {candidates} candidates measured, each on the same {count(int(first['images']))} images of "
               f"the {split} split after its own short training. {RANKED[first['ranking']]} The 95 % Wilson interval is below "
               "each accuracy: candidates whose intervals overlap may not differ, and the highest of several accuracies is "
               "biased upwards. To measure the robustness of a network, retrain it and attack it.")
    if inherits(measured):
        caption += (" Inherited accuracies are those of the same architecture without training, computed by the supernet of "
                    f"{source} with its own weights and batch statistics, on the same images and not a result either.")
    if len(measured) > MOST_ROWS:
        caption += f" The table lists the first {MOST_ROWS}; results/candidates.json in the run's folder has all."
    columns: list[StaticColumn[dict[str, Any]]] = [
        StaticColumn("Rank", lambda row: "·" if row["ranking"] == "none" else row["rank"], right=True,
                     data=lambda row: {"rank": row["rank"], "ranking": row["ranking"]}),
        StaticColumn("Candidate", lambda row: _detail_link(row, run_id), names_row=True,
                     data=lambda row: {"candidate": row["candidate"], "genotype_hash": row["hash"]}),
        StaticColumn("Natural", lambda row: _accuracy(row, "natural"), right=True, data=partial(_columns, "natural")),
        StaticColumn(attack, lambda row: _accuracy(row, "adversarial"), right=True, data=partial(_columns, "adversarial")),
        *([StaticColumn("Inherited natural", lambda row: _accuracy(row, "inherited_natural"), right=True,
                         data=partial(_columns, "inherited_natural")),
           StaticColumn(f"Inherited {attack}", lambda row: _accuracy(row, "inherited_adversarial"), right=True,
                         data=partial(_columns, "inherited_adversarial"))]
          if inherits(measured) else []),
        StaticColumn("Parameters", lambda row: count(row["parameters"]), right=True,
                     data=lambda row: {"parameters": row["parameters"]}),
        StaticColumn("MACs", lambda row: count(row["macs"]), right=True, data=lambda row: {"macs": row["macs"]}),
    ]
    if finished:
        columns.append(StaticColumn("Next", lambda row: _retrain_link(row, run_id)))
    return html_table(columns, measured[:MOST_ROWS].to_dict("records"), label="Candidates", note=caption,
                      row_look=lambda row: "rp-strong" if row["rank"] == 1 else "",
                      facts={"images": int(first["images"]), "split": split, "attack": attack})


def inherits(measured: pd.DataFrame) -> bool:
    """Return True if candidates were also measured with the weights of a supernet."""
    return bool(measured["inherited_natural"].notna().any())


def _accuracy(row: dict[str, Any], name: str) -> Markup:
    """Return the content of a table cell: an accuracy with its 95 % interval below, or a dot if it was not measured.

    Args:
        row: row of the candidate.
        name: "natural", "adversarial", "inherited_natural" or "inherited_adversarial".
    """
    if pd.isna(row[name]):
        return Markup("·")
    return with_label(percent(row[name]), interval(row[f"{name}_low"], row[f"{name}_high"]))


def _columns(name: str, row: dict[str, Any]) -> dict[str, object]:
    return {part: row[part] for part in (name, f"{name}_low", f"{name}_high")}


def _detail_link(row: dict[str, Any], run_id: str) -> Markup:
    """Return the number of a candidate with a link to its cells, sizes and changes, and below it the hash of its genotype."""
    address = address_of_candidate(run_id, row["candidate"], Genotype.from_json(row["genotype"]))
    return Markup(f'<a href="{escape(address)}" target="_self" title="Cells, sizes and changes of candidate {row["candidate"]}">'
                  f'{row["candidate"]}</a><br><span class="rp-label">{code(row["hash"])}</span>')


def _retrain_link(row: dict[str, Any], run_id: str) -> Markup:
    return Markup(f'<a href="launch?kind=retrain&amp;parent={escape(run_id)}&amp;candidate={row["candidate"]}" '
                  'target="_self">Retrain</a>')


def _cells(measured: pd.DataFrame, run_id: str) -> None:
    """Show a selector of candidates. Below it, show the cells of the selected candidate and a button to download its genotype.

    The best candidate is preselected.
    """
    numbers = [int(number) for number in measured["candidate"]]
    ranks = dict(zip(numbers, measured["rank"], strict=True))
    unranked = measured.iloc[0]["ranking"] == "none"
    chosen = st.selectbox("Cells of", numbers, key=f"run_candidate.{run_id}", format_func=lambda number: (
        f"candidate {number}" + ("" if unranked else f", rank {ranks[number]}")))
    row = measured[measured["candidate"] == chosen].iloc[0]
    genotype = Genotype.from_json(row["genotype"])
    genotype_graphs(genotype, key="run_candidate")
    st.download_button("Genotype (JSON)", json.dumps(genotype.to_dict(), indent=1), f"{run_id}-candidate-{chosen}.json",
                       "application/json", key="run_candidate_json", on_click="ignore")
