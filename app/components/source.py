"""Where a retraining gets its genotype from, and an attack its network: controls of the Launch page."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import streamlit as st

from app import session
from engine.catalog import CATALOG
from engine.errors import GenotypeError
from engine.genotype import Genotype

SOURCES = {"search": "What a search found", "catalogue": "A published genotype", "paste": "Paste JSON"}
EXAMPLE = '{"accurate": [["sep_conv_3x3", 0], ["skip_connect", 1], …], "accurate_concat": [2, 3, 4, 5], "reduce": …}'


@dataclass(frozen=True)
class Source:
    """What was chosen.

    Attributes:
        parent: id of the run it comes from, if it comes from a run.
        changes: settings that follow from the choice (the genotype, when it comes from no run).
        genotype: the genotype itself where it is known.
        problem: why nothing can be launched yet, one sentence; empty when all is well.
    """

    parent: str | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    genotype: Genotype | None = None
    problem: str = ""


def retrain_source(runs: pd.DataFrame, wanted: str | None) -> Source:
    """The controls of a retraining.

    Args:
        runs: `RunLog.runs()`.
        wanted: id of the search to start from, from the address of the page.
    """
    start = "search" if wanted or _finished(runs, "search") else "catalogue"
    st.session_state.setdefault("launch.source", start)
    chosen = st.segmented_control("Genotype", list(SOURCES), format_func=SOURCES.get, key="launch.source", required=True,
                                  persist_state="session")
    if chosen == "search":
        return _parent(runs, "search", wanted, "Search", "No search has finished yet. Launch one, take a published "
                       "genotype, or paste one.")
    if chosen == "catalogue":
        return _catalogue()
    return _pasted()


def attack_source(runs: pd.DataFrame, wanted: str | None) -> Source:
    """The controls of an attack: which retrained network. Arguments as `retrain_source`."""
    return _parent(runs, "retrain", wanted, "Retrained network", "No retraining has finished yet. An attack needs the "
                   "network of a finished retraining: launch one first.")


def _finished(runs: pd.DataFrame, kind: str) -> list[str]:
    if runs.empty:
        return []
    rows = runs[(runs["kind"] == kind) & (runs["status"] == "finished")]
    return [str(name) for name in rows["id"]]


def _parent(runs: pd.DataFrame, kind: str, wanted: str | None, label: str, nothing: str) -> Source:
    ids = _finished(runs, kind)
    if not ids:
        return Source(problem=nothing)
    titles = dict(zip(runs["id"], runs["title"]))
    index = ids.index(wanted) if wanted in ids else 0
    parent = st.selectbox(label, ids, index=index, format_func=lambda name: f"{titles[name]} · {name}",
                          key=f"launch.parent.{kind}.{wanted}")
    if wanted and wanted not in ids:
        st.caption(f"{wanted} has not finished, so it cannot be chosen.")
    return Source(parent=parent, genotype=_genotype_of(parent))


def _genotype_of(run: str) -> Genotype | None:
    """What a run found or trains; None when its events do not say."""
    try:
        return Genotype.from_dict(session.run_log().genotype(run))
    except GenotypeError:
        return None


def _catalogue() -> Source:
    names = [name for name, entry in CATALOG.items() if entry.genotype is not None]
    name = st.selectbox("Published genotype", names, key="launch.catalogue", persist_state="session")
    st.caption(CATALOG[name].source)
    return Source(changes={"genotype": name}, genotype=CATALOG[name].genotype)


def _pasted() -> Source:
    text = st.text_area("Genotype as JSON", key="launch.pasted", placeholder=EXAMPLE, height=160, persist_state="session",
                        help="Cells by name, two [operation, input] pairs per node, and the nodes that are joined at the "
                             "end. The Run page offers it for every genotype.")
    if not (text or "").strip():
        return Source(problem="Paste a genotype as JSON.")
    try:
        genotype = Genotype.from_json(text)
    except GenotypeError as refusal:
        st.markdown(f":red[:material/error:] {refusal}")
        return Source(problem=str(refusal))
    return Source(changes={"genotype": genotype.to_json()}, genotype=genotype)
