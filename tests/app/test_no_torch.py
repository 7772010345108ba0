"""The dashboard's process stays light: a fresh interpreter visits every page with runs in every state, without heavy imports.

It runs without docstrings and assertions, as `rampart ui` starts it.
"""

from __future__ import annotations

import os
import subprocess
import sys

from engine.study import actions
from tests.app.conftest import Samples
from tests.app.pages import MAIN
from tests.sample_studies import finish, two_arms

VISIT = """
import sys
import app.streamlit_server
from app import session
from tests.app.pages import PAGES, open_page

search, attack, study = sys.argv[1:]
for page, query in [*((name, {}) for name in PAGES), ("run", {"id": search}), ("run", {"id": attack}),
                    ("launch", {"kind": "retrain", "parent": search}), ("study", {"id": study}),
                    ("studies", {"new": "own", "edit": study})]:
    visited = open_page(page, **query)
    if visited.exception:
        sys.exit(f"{page}: {[error.value for error in visited.exception]}")
heavy = {name for name in ("torch", "scipy.stats", "scipy.optimize", "sklearn", "plotly", "narwhals") if sys.modules.get(name)}
if heavy:
    sys.exit(f"a page imported {heavy}")
print("light", flush=True)
session.close()  # the thread must not be inside DuckDB when the interpreter exits
"""


def test_no_page_imports_a_heavy_package(samples: Samples) -> None:
    root, study = MAIN.parents[1], actions.launch(samples.root, two_arms())
    finish(samples.root, study)
    done = subprocess.run(
        [sys.executable, "-OO", "-c", VISIT, samples.ids["search"], samples.ids["attack"], study], cwd=root,
        env=os.environ | {"PYTHONPATH": str(root), "RAMPART_RUNS": str(samples.root)}, capture_output=True, text=True,
        timeout=240, check=False)
    assert "light" in done.stdout, done.stderr[-3000:]
