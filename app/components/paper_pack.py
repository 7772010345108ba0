"""The paper pack of a study or of chosen runs as a file to download. A separate process makes the file after the click.

A paper pack is a ZIP file with tables, figures, settings, commands, hashes and a methods paragraph (`engine.paper`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from app import exporting, session
from app.downloads import File


def paper_file(names: Sequence[str]) -> File:
    """Return the paper pack of a study or of runs, a ZIP file, as a file to download.

    Args:
        names: the id of a study, or the ids of at least one run.
    """
    make = partial(exporting.exported, session.runs_root(), ("paper", *names), "paper.zip")
    return File("Paper pack (ZIP)", f"{names[0]}-paper.zip", "application/zip", make,
                "LaTeX tables, cells and curves as PDF and SVG, settings, commands, hashes, and a methods paragraph "
                "made of recorded values alone. Making it takes some seconds to a minute.")
