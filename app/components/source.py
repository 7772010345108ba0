"""Controls for choosing the genotype of a retraining or an imported checkpoint, and the network that an attack run attacks."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import streamlit as st

from app import session
from app.components.named_network import width_input
from app.formats import markdown, with_interval
from engine.architecture.catalogue import CATALOG
from engine.architecture.genotype import DERIVED, Genotype
from engine.architecture.network import FORMS, OFFERED, named_network, network_name
from engine.errors import ConfigError, GenotypeError

SOURCES = {"search": "From a search", "catalogue": "Published genotype", "paste": "Paste JSON"}
ANOTHER = "another"
EXAMPLE = '{"accurate": [["sep_conv_3x3", 0], ["skip_connect", 1], …], "accurate_concat": [2, 3, 4, 5], "reduce": …}'


@dataclass(frozen=True)
class Source:
    """The genotype or network that the user has chosen.

    Attributes:
        parent: id of the run that provides the genotype or network, or None if it does not come from a run.
        changes: {"genotype": value} or {"network": value}, depending on the choice. Empty if the genotype or network comes from
            the parent run.
        genotype: the chosen genotype, or None if it is not known.
        network: name of the chosen hand-made network (for example a WideResNet), or "" if a genotype is chosen.
        problem: one sentence that says why nothing can be launched yet, or "" if a launch is possible.
        candidate: number of the chosen candidate of the parent, or 0 for its result.
    """

    parent: str | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    genotype: Genotype | None = None
    network: str = ""
    problem: str = ""
    candidate: int = 0


def genotype_source(runs: pd.DataFrame, wanted: str | None = None, candidate: str | None = None, *, key: str = "launch",
                    preselect: bool = True, named_too: bool = False) -> Source:
    """Show the controls for choosing the genotype of a retraining or of an imported checkpoint, and return the choice.

    Args:
        runs: table of all runs, from `RunLog.runs`.
        wanted: id of the search to preselect, as given in the page's address.
        candidate: the candidate's number, as given in the page's address. A candidate is one of the networks that the search
            measured. If a number is given, this candidate is preselected instead of the search's final result.
        key: prefix of the widgets' keys: the name of the page, for example "launch".
        preselect: True to preselect the first entry of each list. False leaves the lists without a selection.
        named_too: True to offer hand-made networks as well. Only the Launch page may do this.
    """
    start = "search" if wanted or (preselect and _finished(runs, "search")) else "catalogue"
    st.session_state.setdefault(f"{key}.source", start)
    sources = SOURCES | ({"named": "Network to compare with"} if named_too else {})
    chosen = st.segmented_control("Network" if named_too else "Genotype", list(sources), format_func=sources.__getitem__,
                                  key=f"{key}.source", required=True, persist_state="session")
    if chosen == "search":
        search = _parent(runs, "search", wanted, "Search", "No search has finished yet. Launch one, choose a published "
                        "genotype, or paste one.", key, preselect)
        return _candidate(search, candidate if search.parent == wanted else None, key)
    if chosen == "named":
        return _named()
    return _catalogue(key, preselect) if chosen == "catalogue" else _pasted(key)


def choose_genotype(text: str) -> None:
    """Set the controls to a genotype. `text` is the name of a published genotype, or a genotype as JSON."""
    if text in CATALOG and CATALOG[text].genotype is not None:
        st.session_state["launch.source"], st.session_state["launch.catalogue"] = "catalogue", text
    else:
        st.session_state["launch.source"], st.session_state["launch.pasted"] = "paste", text


def choose_network(name: str) -> None:
    """Set the controls to the hand-made network with this name.

    If the name is `DERIVED`, leave the controls unchanged. This name stands for a network built from a genotype.

    Raises:
        ConfigError: no network has this name.
    """
    name = network_name(name)
    if name == DERIVED:
        return
    st.session_state["launch.source"] = "named"
    st.session_state["launch.network"] = name if name in OFFERED else ANOTHER
    st.session_state["launch.network.name"] = "" if name in OFFERED else name


def attack_source(runs: pd.DataFrame, wanted: str | None) -> Source:
    """Show the selector of the retrained network to attack, and return the choice.

    Args:
        runs: table of all runs, from `RunLog.runs`.
        wanted: id of the retraining to preselect, as given in the page's address.
    """
    return _parent(runs, "retrain", wanted, "Retrained network", "An attack needs a retrained network, and no retraining "
                   "has finished yet. Launch one first, or import a checkpoint.", "launch")


def _finished(runs: pd.DataFrame, kind: str) -> list[str]:
    if runs.empty:
        return []
    rows = runs[(runs["kind"] == kind) & (runs["status"] == "finished")]
    return [str(name) for name in rows["id"]]


def _parent(runs: pd.DataFrame, kind: str, wanted: str | None, label: str, nothing: str, key: str,
            preselect: bool = True) -> Source:
    ids = _finished(runs, kind)
    if not ids:
        return Source(problem=nothing)
    titles = dict(zip(runs["id"], runs["title"]))
    index = ids.index(wanted) if wanted in ids else 0 if preselect else None
    parent = st.selectbox(label, ids, index=index, format_func=lambda name: f"{titles[name]} · {name}",
                          key=f"{key}.parent.{kind}.{wanted}", placeholder="Choose a search")
    if wanted and wanted not in ids:
        st.caption(f"{markdown(wanted)} has not finished yet.")
    if parent is None:
        return Source(problem="Choose the search that found the genotype.")
    return Source(parent=parent, genotype=_genotype_of(parent))


def _candidate(search: Source, wanted: str | None, key: str) -> Source:
    """Let the user choose between the result of a search and its candidates, and return the choice.

    Candidates are the networks that a search has measured one by one. If the search has none, show nothing and return `search`
    unchanged.

    Args:
        search: the chosen search.
        wanted: number of the candidate to preselect, as given in the page's address.
        key: prefix of the widget's key.
    """
    measured = session.run_log().candidates(search.parent) if search.parent else pd.DataFrame()
    if measured.empty:
        return search
    rows = {int(row["candidate"]): row for row in measured.to_dict("records")}
    options = [0, *rows]
    number = st.selectbox("Candidate", options, index=options.index(_one_of(rows, wanted)),
                          format_func=lambda one: _candidate_text(rows[one]) if one else "The search's result",
                          key=f"{key}.candidate.{search.parent}.{wanted}")
    if not number:
        return search
    genotype = Genotype.from_json(rows[number]["genotype"])
    return Source(parent=search.parent, changes={"genotype": genotype.to_json()}, genotype=genotype, candidate=number)


def _one_of(numbers: Collection[int], text: str | None) -> int:
    """Convert a text to a number. Return 0 if the number is not in `numbers`."""
    number = int(text) if text and text.isascii() and text.isdigit() else 0
    return number if number in numbers else 0


def _candidate_text(row: dict[str, Any]) -> str:
    natural, adversarial = (with_interval(row[name], row[f"{name}_low"], row[f"{name}_high"])
                            for name in ("natural", "adversarial"))
    return f"Candidate {row['candidate']}: natural {natural}, adversarial {adversarial}, {row['hash']}"


def _genotype_of(run: str) -> Genotype | None:
    """Return the genotype of a search or retraining, or None while the run's events contain no genotype."""
    try:
        return Genotype.from_dict(session.run_log().genotype(run))
    except GenotypeError:
        return None


def _catalogue(key: str, preselect: bool) -> Source:
    names = [name for name, entry in CATALOG.items() if entry.genotype is not None]
    name = st.selectbox("Published genotype", names, index=0 if preselect else None, key=f"{key}.catalogue",
                        placeholder="Choose a genotype", persist_state="session")
    if name is None:
        return Source(problem="Choose the genotype.")
    st.caption(CATALOG[name].source)
    return Source(changes={"genotype": name}, genotype=CATALOG[name].genotype)


def _named() -> Source:
    name = st.selectbox("Network to compare with", [*OFFERED, ANOTHER], key="launch.network", persist_state="session",
                        format_func=lambda name: named_network(name).title if name in OFFERED else "Another size, by name")
    if name == ANOTHER:
        name = st.text_input("Name", key="launch.network.name", placeholder="wide-resnet-16-4", persist_state="session",
                             help=f"{FORMS}.")
        if not (name or "").strip():
            return Source(problem="Type the name of the network.")
    try:
        network = named_network(name)
    except ConfigError as refusal:
        st.markdown(f":red[:material/error:] {markdown(refusal)}")
        return Source(problem=str(refusal))
    if width := width_input(network, f"launch.network.width.{network.name}", persist_state="session"):
        network = network.at_width(width)
    st.caption(f"{network.source}. A baseline for derived networks, without cells, auxiliary head or drop path.")
    return Source(changes={"network": network.name}, network=network.name)


def _pasted(key: str) -> Source:
    text = st.text_area("Genotype as JSON", key=f"{key}.pasted", placeholder=EXAMPLE, height=160, persist_state="session",
                        help="Cells by name, two [operation, input] pairs per node, and the nodes that the output "
                             "concatenates. The Run page exports every genotype in this form.")
    if not (text or "").strip():
        return Source(problem="Paste a genotype as JSON.")
    try:
        genotype = Genotype.from_json(text)
    except GenotypeError as refusal:
        st.markdown(f":red[:material/error:] {markdown(refusal)}")
        return Source(problem=str(refusal))
    return Source(changes={"genotype": genotype.to_json()}, genotype=genotype)
