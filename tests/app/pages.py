"""Helpers of the page tests: open the dashboard on a page and read what it shows."""

from __future__ import annotations

import functools
import json
import os
import re
import tomllib
from pathlib import Path
from typing import Any

from streamlit.components.v2 import manifest_scanner
from streamlit.config import set_option
from streamlit.runtime.scriptrunner.script_cache import ScriptCache
from streamlit.testing.v1 import AppTest

from engine.files import atomic_write_json
from engine.run.state import identity

MAIN = Path(__file__).resolve().parents[2] / "app" / "main.py"
PAGES = ("launch", "studies", "study", "runs", "queue", "run", "architectures", "pareto", "compare", "robustness",
         "datasets", "sql", "imports")
LONGEST_S = 300.0  # a busy machine may take a minute to read thousands of runs
# AppTest reads the metadata of every installed package and compiles every script at each run, which a server does once. Neither
# changes. It does not read the app's settings either, so those that concern the scripts are made here.
manifest_scanner.scan_component_manifests = functools.cache(manifest_scanner.scan_component_manifests)
ScriptCache.get_bytecode = staticmethod(ScriptCache().get_bytecode)
for section in ("browser", "runner"):
    for option, setting in tomllib.loads((MAIN.parent / ".streamlit" / "config.toml").read_text())[section].items():
        set_option(f"{section}.{option}", setting)


def open_page(page: str, **query: str) -> AppTest:
    """The dashboard over the folder that RAMPART_RUNS names, on one page."""
    test = AppTest.from_file(str(MAIN), default_timeout=LONGEST_S)
    if page == "imports":  # only a script that has run tells AppTest of an address that is not its file's name
        test.run()
    for name, value in query.items():
        test.query_params[name] = value
    return test.switch_page(f"views/{page}.py").run()


def open_launch(**query: str) -> AppTest:
    """The Launch page with the settings of all steps unfolded."""
    return open_page("launch", open="search,retrain,attack", **query)


def run_tabs(run: str, *names: str) -> dict[str, AppTest]:
    """Return {name: Run page with this tab open} for the named tabs of a run, or for all of them if none is named."""
    first = open_page("run", id=run)
    tabs = [tab.label.lower() for tab in first.tabs]
    return {name: first if name == tabs[0] else open_page("run", id=run, tab=name) for name in names or tabs}


class WholeRun:
    """All tabs of a run's page, read like one page. What stands above the tabs is there once per tab."""

    def __init__(self, run: str) -> None:
        self.tabs = run_tabs(run)

    @property
    def exception(self) -> list[Any]:
        return [one for tab in self.tabs.values() for one in tab.exception]

    def get(self, kind: str) -> list[Any]:
        return [element for tab in self.tabs.values() for element in tab.get(kind)]


def pretend_supervisor(runs: Path) -> None:
    """Register this process as the folder's supervisor, so that a request starts no other."""
    (runs / "control").mkdir(exist_ok=True)
    atomic_write_json(runs / "control" / "supervisor.json", identity(os.getpid()))


def table_rows(test: AppTest, key: str | None = None) -> dict[str, dict[str, str]]:
    """Return run id -> column -> text and second line, joined, of one table of the page, or of all without a key."""
    rows: dict[str, dict[str, str]] = {}
    for data in component_data(test, "rampart_table", key):
        for row in data["rows"]:
            rows[row["id"]] = {name: f"{cell['text']} {cell.get('sub', '')}".strip() for name, cell in row["cells"].items()}
    return rows


def component_data(test: AppTest | WholeRun, name: str, key: str | None = None) -> list[dict[str, Any]]:
    """Return the data of each component with this name."""
    elements = [element.proto for element in test.get("bidi_component") if element.proto.component_name == name]
    return [json.loads(proto.json) for proto in elements if key is None or proto.id.endswith(f"-{key}")]


def download_labels(test: AppTest) -> list[str]:
    """Return the labels of the buttons that download a file, without those of the export menus."""
    bodies = [element.proto.body for element in test.get("html")]
    return [label for body in bodies for label in re.findall(r'<a class="rp-file rp-filebutton"[^>]*>([^<]*)</a>', body)]


def text_of(test: AppTest | WholeRun) -> str:
    """Return all texts of the page that AppTest can read: Markdown, captions, HTML, code."""
    parts = [element.value for kind in ("markdown", "caption", "code", "text") for element in test.get(kind)]
    parts += [data["html"] for data in component_data(test, "rampart_live_html")]
    return "\n".join([*map(str, parts), *(element.proto.body for element in test.get("html"))])
