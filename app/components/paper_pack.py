"""The button that downloads the paper pack of a study or of chosen runs. A separate process makes the file after the click."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import streamlit as st

from app import exporting, session


def paper_button(names: Sequence[str], *, key: str) -> None:
    """Show the button.

    Args:
        names: the id of a study, or ids of runs. Without any, the button is disabled.
        key: key of the button, unique on the page.
    """
    make = partial(exporting.exported, session.runs_root(), ("paper", *names), "paper.zip")
    st.download_button("Paper pack (ZIP)", make, f"{names[0] if names else 'runs'}-paper.zip", "application/zip", key=key,
                       on_click="ignore", icon=":material/download:", disabled=not names,
                       help="LaTeX tables, cells and curves as PDF and SVG, settings, commands, hashes, and a methods paragraph "
                            "made of recorded values alone. Making it takes some seconds to a minute.")
