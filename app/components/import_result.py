"""The box that shows the result of an import.

It shows the new run with the facts that were read from the file or, if the import was refused, the reason.
"""

from __future__ import annotations

import re
from typing import Any

import streamlit as st

from app import session
from app.components.html_table import StaticColumn, html_table
from app.components.import_items import FORM_TITLES
from app.components.states import ARCHITECTURES_PAGE, LAUNCH_PAGE, RUN_PAGE, page_link, problem
from app.drawing.cell_graph import genotype_graphs
from app.formats import count, escape, times
from app.importing import Outcome
from engine.architecture.catalogue import name_of
from engine.architecture.genotype import Genotype
from engine.data.catalogue import DATASETS
from engine.errors import GenotypeError, RampartError

# Name of a flag of the command line -> label of the control for it on the Import page.
FIELDS = {"as": "What it is", "name": "Name in the file", "genotype": "Genotype", "dataset": "Trained on", "mean": "Mean",
          "std": "Standard deviation", "runs": "RAMPART_RUNS"}


def on_the_page(sentence: str) -> str:
    """Replace the command-line flags in a message by the labels of their controls on the Import page.

    For example, "--as log" becomes "“What it is”: log".
    """
    sentence = re.sub(r"--as (\w+)", lambda match: f"“{FIELDS['as']}”: {match[1]}", sentence)
    return re.sub(r"--(\w+)\b( DIR)?", lambda match: f"“{FIELDS[match[1]]}”" if match[1] in FIELDS else match[0], sentence)


def result(outcome: Outcome, *, key: str, unfolded: bool) -> None:
    """Show the result of one import.

    Args:
        outcome: result of the import.
        key: prefix of the widgets' keys, unique on the page.
        unfolded: True to show the drawing of the cells at once, False to put it in a collapsed section.
    """
    with st.container(border=True):
        if outcome.refusal:
            st.html(f'<div class="rp-row"><b>{escape(outcome.item.name)}</b>'
                    '<span class="rp-chip rp-tone-bad"><span class="rp-glyph" aria-hidden="true">✕</span>Refused</span></div>')
            problem(on_the_page(outcome.refusal), link=None)
            return
        try:
            _run(outcome, key, unfolded)
        except RampartError as error:  # the run has been deleted since its import
            problem(str(error), link=None)


def _run(outcome: Outcome, key: str, unfolded: bool) -> None:
    log = session.run_log()
    run = log.run(outcome.run)
    st.html(f'<div class="rp-row"><b>{escape(run["title"])}</b>'
            '<span class="rp-chip rp-tone-good"><span class="rp-glyph" aria-hidden="true">✓</span>Imported</span>'
            f'<span class="rp-label">{escape(run["id"])}</span></div>')
    columns: tuple[StaticColumn[tuple[str, str]], ...] = (
        StaticColumn("Property", lambda fact: fact[0], names_row=True), StaticColumn("In the file", lambda fact: fact[1]))
    st.html(html_table(columns, understood(run), label="Facts from the file", look="rp-wrap rp-understood"))
    with st.container(horizontal=True):
        page_link(RUN_PAGE, "Open the run", id=run["id"])
        label, kind = ("Retrain it", "retrain") if run["kind"] == "search" else ("Attack it", "attack")
        page_link(LAUNCH_PAGE, label, kind=kind, parent=run["id"])
    try:
        genotype = Genotype.from_dict(log.genotype(run["id"]))
    except GenotypeError:
        return
    with st.expander("The cells", expanded=unfolded):
        genotype_graphs(genotype, key=f"{key}_genotype")
        page_link(ARCHITECTURES_PAGE, "Sizes, comparison and changes of these cells", show=run["id"])


def understood(run: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the facts that an import has read from the file, each as a pair (name of the fact, value as text).

    Args:
        run: the imported run, from `RunLog.run`.
    """
    log, config = session.run_log(), run["config"]
    genotypes = log.genotypes(run["id"])
    form = str(run["imported"].get("as", ""))
    facts = [("Read as", f"{FORM_TITLES.get(form, form)} ({run['imported'].get('file', '')})")]
    if form in ("log", "curves") and not genotypes.empty:
        hashes, epochs = genotypes["hash"], genotypes["epoch"]
        changes, still = int((hashes != hashes.shift()).sum()) - 1, int(genotypes["unchanged_epochs"].iloc[-1])
        history = f"changed {times(changes)}, last at epoch {epochs.iloc[-1] - still}" if changes else "never changed"
        facts.append(("Epochs", f"{len(genotypes)}, numbered {epochs.min()} to {epochs.max()}; the genotype {history}"))
    if (record := log.genotype(run["id"])) is not None:
        genotype = Genotype.from_dict(record)
        published = name_of(genotype)
        facts.append(("Genotype", f"{', '.join(genotype.kinds)}; hash {genotype.hash}"
                                  f"{f'; the same as {published} in the catalogue' if published else ''}"))
    if "channels" in config:
        facts.append(("Network", f"{config['channels']} channels, {config['layers']} cells, {count(run['parameters'])} "
                                 f"parameters, {count(run['macs'])} multiply-accumulates per image, without auxiliary head"))
    facts.append(("Dataset", DATASETS[config["dataset"]].title if config.get("dataset") in DATASETS else "the file does not say"))
    return facts
