"""The part of the Run page with downloads of a finished run and links to the next steps.

Buttons download the network in several forms. Links lead to another attack or retraining, to a clone of the run, and to Compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any
from urllib.parse import urlencode

import streamlit as st

from app import exporting, session
from app.components.downloads import download_buttons
from app.components.paper_pack import paper_file
from app.components.states import section
from app.downloads import File
from app.formats import escape
from engine.command import line_of
from engine.exchange.forms import EXPORTS

WITHOUT_TORCH = ("genotype", "report", "tensorboard", "mlflow")
NO_CELLS = ("genotype", "module")  # forms that only a network made of cells has


def take_away(run: dict[str, Any], chain: list[dict[str, Any]]) -> None:
    """Show the buttons and links of a finished run; show nothing for any other run.

    Args:
        run: row of the run whose page is open, from `RunLog.runs`.
        chain: rows of all runs in the run's chain (a search with the runs that follow it), earliest first.
    """
    if run["status"] != "finished":
        return
    sources = sources_of(run, chain)
    section("Take it with you", explained(run, sources))
    # The button of the genotype is below the drawings of the cells.
    download_buttons([*(_file(form, source) for form, source in sources.items() if form != "genotype"), paper_file([run["id"]])],
                     key="take")
    with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
        st.html(links_html(run, chain))
    with st.expander("The same by command"):
        commands = [line_of(["export", source, "--form", form], session.runs_root()) for form, source in sources.items()]
        commands.append(line_of(["paper", run["id"]], session.runs_root()))
        st.code("\n".join(commands), language="bash", wrap_lines=True)


def sources_of(run: dict[str, Any], chain: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return {key of `EXPORTS`: id of the run that this file is made from} for all files that the page of a run offers.

    Files with weights come from the retraining that `trained_run` returns. The report comes from the run itself if it is an
    attack run, else from the newest finished attack on the retrained network. The other files come from the run itself.
    """
    rows = {one["id"]: one for one in chain}
    retrained = trained_run(run, chain)
    attacks = [one["id"] for one in chain if one["kind"] == "attack" and one["status"] == "finished"
               and one["parent"] == retrained]
    report = run["id"] if run["kind"] == "attack" else max(attacks, default="")
    hand_made = bool(run["hand_made"] or rows.get(retrained, {}).get("hand_made"))
    sources = {"genotype": run["id"], "weights": retrained, "safetensors": retrained, "module": retrained, "onnx": retrained,
               "report": report, "tensorboard": run["id"], "mlflow": run["id"]}
    return {form: source for form, source in sources.items() if source and not (hand_made and form in NO_CELLS)}


def trained_run(run: dict[str, Any], chain: Sequence[dict[str, Any]]) -> str:
    """Return the id of the retraining whose network the page of a run is about, or "" if there is none."""
    if run["kind"] == "retrain":
        return str(run["id"])
    if run["kind"] == "attack":
        return str(run["parent"])
    return max((str(one["id"]) for one in chain if one["kind"] == "retrain" and one["status"] == "finished"), default="")


def explained(run: dict[str, Any], sources: dict[str, str]) -> str:
    """Return the note beside the section's title, which says from which runs the files come."""
    if "weights" not in sources:
        return "no retraining of this network has finished, so there are no weights yet"
    if sources["weights"] == run["id"]:
        return "the network that this run trained"
    return f"weights of the retraining {sources['weights']}"


def links_html(run: dict[str, Any], chain: Sequence[dict[str, Any]]) -> str:
    """Return the links to what can be done next with a run, as HTML."""
    retrained = trained_run(run, chain)
    search = next((str(one["id"]) for one in chain if one["kind"] == "search"), "")
    links = [("Attack again", "launch", {"kind": "attack", "parent": retrained})] if retrained else []
    links += [("Retrain again" if retrained else "Retrain", "launch",
               {"kind": "retrain", "parent": search} if search else {"from": retrained})] if search or retrained else []
    links += [("Clone this run", "launch", {"from": str(run["id"])}), ("Compare with …", "compare", {"runs": str(run["id"])})]
    parts = [f'<a href="{page}?{escape(urlencode(query))}" target="_self">{escape(label)}</a>' for label, page, query in links]
    return f'<nav class="rp-row" aria-label="Next steps">{"".join(f"<span class=rp-label>{one}</span>" for one in parts)}</nav>'


def _file(form: str, source: str) -> File:
    """Return the export of a run as a file to download. The file is made after the click.

    Args:
        form: key of `EXPORTS`, for example "onnx".
        source: id of the run that is exported.
    """
    facts = EXPORTS[form]
    name = facts.name_for(source)
    shown = f"{name.removesuffix('.py')}.zip" if facts.mime == "application/zip" else name
    wait = "" if form in WITHOUT_TORCH else " It takes some seconds, because the weights are read."
    make = partial(exporting.exported, session.runs_root(), ("export", source, "--form", form), name)
    return File(facts.title, shown, facts.mime, make, f"{facts.text[0].upper()}{facts.text[1:]}.{wait}")
