"""The outcome of a chain of runs: drawings of the cells that the search found, and attack tables of the retrained network."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import streamlit as st

from app import session
from app.components.attack_table import NOTE, attack_table_html
from app.components.badge import badge_html, badge_of
from app.components.named_network import named_network_html
from app.components.states import ARCHITECTURES_PAGE, LAUNCH_PAGE, empty_state, page_link, section
from app.drawing.cell_graph import genotype_graphs
from app.formats import count, escape, missing, plural, shown
from engine.architecture.genotype import Genotype
from engine.attack.verdict import in_words
from engine.drawing.dot import to_dot
from engine.errors import GenotypeError
from engine.report.latency import UNKNOWN, latencies_of


def outcome(run: dict[str, Any], chain: list[dict[str, Any]]) -> None:
    """Show the cells, and the attack tables on their right, or below them where the page is too narrow for both.

    A hand-made network has no cells and is described in words instead. For any other network, show nothing while the genotype is
    unknown. For an unfinished search, show nothing until the network has been attacked.

    Args:
        run: row of the run whose page is open, from `RunLog.runs`.
        chain: rows of all runs in the run's chain (a search with the runs that follow it), earliest first.
    """
    attacked = [one for one in chain if one["kind"] == "attack"]
    results = session.run_log().attacks()
    results = results[results["run"].isin([one["id"] for one in attacked])]
    hand_made = run["hand_made"] or next((one["hand_made"] for one in reversed(chain) if one["hand_made"]), "")
    genotype = None if hand_made else derived(run, chain)
    if not hand_made and (genotype is None or (results.empty and run["kind"] == "search" and run["status"] != "finished")):
        return
    if hand_made:
        section("Robustness", "a hand-made network, attacked on the test split")
    else:
        section("Derived cells and robustness", "the cells that were found, and the network retrained from them, attacked "
                "on the test split")
    sides = st.container(horizontal=True, gap="large", key="rp-side")
    with sides, st.container(key="rp-side-cells"):
        if genotype is None:
            st.html(named_network_html(hand_made))
        else:
            genotype_graphs(genotype, key="outcome")
            _downloads(genotype, run["id"])
            page_link(ARCHITECTURES_PAGE, "Sizes, comparison and changes of these cells", show=run["id"])
    with sides, st.container(key="rp-side-attacks"):
        _attacks(run, chain, results)


def derived(run: dict[str, Any], chain: list[dict[str, Any]]) -> Genotype | None:
    """Return the genotype to draw on the page of a run.

    If the run has no genotype yet, return the genotype of the latest run in the chain that has one. If no run has a genotype,
    return None.

    Args:
        run: row of the run whose page is open, from `RunLog.runs`.
        chain: rows of all runs in the run's chain (a search with the runs that follow it), earliest first.
    """
    log = session.run_log()
    for one in [run, *reversed(chain)]:
        try:
            return Genotype.from_dict(log.genotype(one["id"]))
        except GenotypeError:  # the run has no genotype yet
            continue
    return None


def _attacks(run: dict[str, Any], chain: list[dict[str, Any]], results: pd.DataFrame) -> None:
    """Show one attack table, and below it a collapsed section with the tables of the chain's other attack runs.

    On the page of an attack run, the first table is that of the run itself. On the page of a retraining, it is that of the newest
    attack on its network. On the page of a search, it is that of the newest attack in the chain.

    Args:
        run: row of the run whose page is open, from `RunLog.runs`.
        chain: rows of all runs of the chain, earliest first.
        results: rows of `RunLog.attacks` for the attack runs of the chain.
    """
    verdicts = session.run_log().verdicts()
    known = set(results["run"]) | set(verdicts["run"])
    attacked = [one for one in chain if one["kind"] == "attack"]
    own = [one for one in attacked if run["kind"] == "search" or run["id"] in (one["id"], one["parent"])]
    first = next((one for one in reversed(own) if one["id"] in known), None)
    if first is None:
        _waiting(run, own, chain)
    else:
        _attack(first, results, verdicts, "" if first["id"] == run["id"] else _name(first), NOTE)
    others = [one for one in reversed(attacked) if one is not first and one["id"] in known]
    if others:
        with st.expander(f"{plural(len(others), 'other attack run')} of this chain"):
            for one in others:
                same = first is not None and one["parent"] == first["parent"]
                network = "" if same else f" on the network of {escape(shown(one['parent']) or 'an unknown run')}"
                _attack(one, results, verdicts, _name(one) + network)


def _name(run: dict[str, Any]) -> str:
    """Return the name of an attack run as HTML, with a link to its page."""
    name = escape(run["id"])
    return f'Attack run <a href="run?id={name}" target="_self">{name}</a>'


def _attack(run: dict[str, Any], results: pd.DataFrame, verdicts: pd.DataFrame, name: str, note: str = "") -> None:
    """Show the badge, verdict and table of an attack run.

    Args:
        run: row of the run, from `RunLog.runs`.
        results: table from `RunLog.attacks`, which may contain rows of other runs.
        verdicts: table from `RunLog.verdicts`.
        name: name of the run as HTML, or "" on the page of the run.
        note: explanation below the table, or "".
    """
    for verdict in verdicts[verdicts["run"] == run["id"]].to_dict("records"):
        sentence = in_words(verdict, str(verdict["title"]), str(verdict["against_title"]))
        st.html(f'<p class="rp-note"><b>Early verdict</b> {escape(sentence)}. No accuracy was measured.</p>')
    own = results[results["run"] == run["id"]]
    if not own.empty:
        st.html(f'<div class="rp-row rp-attack">{_heading(run, name)}</div>{attack_table_html(own, note)}{_size(run)}')


def _heading(run: dict[str, Any], name: str) -> str:
    """Return the line above an attack table as HTML: name of the run, badge, and link to the Robustness page."""
    badge = badge_of(run)
    words = f'<span class="rp-label">{name}</span>' if name else ""
    if badge is None:
        return words
    return (f'{words}<span class="rp-label">Reliability</span>{badge_html(badge)}<span class="rp-label">'
            f'<a href="robustness?run={escape(run["id"])}" target="_self">Checks and images on the Robustness page</a></span>')


def _size(run: dict[str, Any]) -> str:
    """Return sentences about the size and the latency of an attacked network as HTML, or "" if its size is unknown."""
    if missing(run.get("parameters")):
        return ""
    measured = latencies_of(session.run_log()).get(run["id"], {})
    words = "; ".join(one.words for one in measured.values())
    return (f'<p class="rp-note rp-below">Network: {count(run["parameters"])} parameters, {count(run["macs"])} MACs per image. '
            f'Latency: {escape(words or UNKNOWN)}.</p>')


def _waiting(run: dict[str, Any], attacked: list[dict[str, Any]], chain: list[dict[str, Any]]) -> None:
    """Show a box that explains why there is no attack table yet. If there is no attack run, it has a link for launching a run.

    Args:
        run: row of the run whose page is open.
        attacked: rows of the attack runs whose tables belong on the page.
        chain: rows of all runs of the chain, earliest first.
    """
    if attacked:
        status = attacked[-1]["status"]
        here = run["kind"] == "attack"
        words = {"queued": "The attack starts once the network is trained.", "running": "The first attack is being measured.",
                 "failed": f"The attack failed. {'The reason is above.' if here else 'Its page shows why.'}",
                 "stopped": f"The attack was stopped. Resume it {'above' if here else 'on its page'}."}
        empty_state("No attack measured yet", words.get(status, f"The attack is {status}."))
    elif any(one["kind"] == "retrain" for one in chain):
        empty_state("Not attacked yet", "Launch an attack to measure the robustness of the retrained network.")
        retrained = str(run["id"]) if run["kind"] == "retrain" else _last(chain, "retrain")
        page_link(LAUNCH_PAGE, "Attack it", kind="attack", parent=retrained)
    else:
        empty_state("Not retrained yet", "The accuracies of a search are not those of the network that it finds. Retrain that "
                    "network, then attack it.")
        page_link(LAUNCH_PAGE, "Retrain it", kind="retrain", parent=_last(chain, "search"))


def _last(chain: list[dict[str, Any]], kind: str) -> str:
    return next((str(one["id"]) for one in reversed(chain) if one["kind"] == kind), "")


def _downloads(genotype: Genotype, run_id: str) -> None:
    """Show the hash of the genotype, and buttons that download the genotype as JSON and as Graphviz DOT."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button("Genotype (JSON)", json.dumps(genotype.to_dict(), indent=1), f"{run_id}-genotype.json",
                           "application/json", key="outcome_json", on_click="ignore")
        dot = "\n".join(to_dot(genotype, kind) for kind in genotype.kinds)
        st.download_button("Graphs (DOT)", dot, f"{run_id}-cells.dot", "text/vnd.graphviz", key="outcome_dot", on_click="ignore")
        st.html(f'<span class="rp-label">hash {escape(genotype.hash)}</span>')
