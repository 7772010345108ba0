"""The Architectures page: a gallery of published and found architectures. The reader opens one of them, or several side by side.

The page's address holds all choices of the reader.
"""

from __future__ import annotations

import streamlit as st

from app import address, architectures
from app.components.architecture_change import change
from app.components.architecture_detail import cells, choose_shown, runs, sizes
from app.components.architecture_gallery import gallery
from app.components.architecture_size import choose_size
from app.components.live import live_panel
from app.components.states import heading, problem
from engine.errors import GenotypeError
from engine.report.architectures import Architecture


def with_pasted(known: dict[str, Architecture]) -> dict[str, Architecture]:
    """Return `known` and the architecture that the page's address holds as JSON. If the JSON is not valid, show an error."""
    if not (text := st.query_params.get("genotype", "")):
        return known
    try:
        own = architectures.pasted(text)
    except GenotypeError as refusal:
        problem(str(refusal), link=None)
        return known
    return known if own.hash in known else {own.hash: own, **known}


def with_candidates(known: dict[str, Architecture]) -> dict[str, Architecture]:
    """Return `known` together with the search candidates that the page's address names."""
    found = [architectures.candidate(name) for name in address.several("of")]
    return {one.hash: one for one in found if one and one.hash not in known} | known


@live_panel("robustness", key="architectures")
def page() -> None:
    """Show the gallery, or the architectures that the page's address names."""
    known = with_pasted(with_candidates(architectures.known()))
    if asked := address.several("show"):
        shown = choose_shown(known)
        if missing := [one for one in asked if not architectures.named(known, [one])]:
            problem(f"The address names architectures that are neither published nor in this folder: {', '.join(missing)}.",
                    link=None)
        if shown:
            size = choose_size()
            picked = cells(shown)
            change(shown, known, size, picked)
            sizes(shown, size)
            runs(shown)
            return
    gallery(known, choose_size())


heading("Architectures", "Published and found genotypes, equal ones under one name.")
page()
