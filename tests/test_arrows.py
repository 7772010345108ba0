"""Which module may import which: the arrows of the README's tree, read from the source without importing it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for folder in ("app", "engine")
           for path in (ROOT / folder).rglob("*.py")}
# What the dashboard may know of the engine: facts, requests and the run log.
OF_THE_ENGINE = ("engine.requests", "engine.log", "engine.config", "engine.genotype", "engine.catalog", "engine.transplant",
                 "engine.cost", "engine.capacity", "engine.errors", "engine.attack", "engine.data", "engine.placement",
                 "engine.residual", "engine.run.device", "engine.run.folder", "engine.run.lineage", "engine.run.state",
                 "engine.exchange.forms")
# Package below engine/ -> packages below engine/ that it must not import.
FORBIDDEN = {
    "space": ("search", "train", "attack", "run", "log"), "attack": ("space", "search", "train", "run", "log"),
    "data": ("space", "search", "train", "attack", "run", "log"), "search": ("train", "run", "log"),
    "train": ("search", "run", "log"), "run": ("log",),
}


def imported(module: str) -> set[str]:
    """Full names of everything a module imports, also inside functions; `from a import b` gives "a.b"."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(SOURCES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, "imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def is_below(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


@pytest.mark.parametrize("module", [name for name in SOURCES if name.startswith("engine")])
def test_the_engine_knows_no_page_and_layers_point_one_way(module: str) -> None:
    forbidden = [f"engine.{package}" for package in FORBIDDEN.get(module.split(".")[1], ())] if "." in module else []
    assert not [name for name in imported(module) if is_below(name, "app", "streamlit", *forbidden)]


@pytest.mark.parametrize("module", [name for name in SOURCES if name.startswith("app")])
def test_the_dashboard_knows_facts_requests_and_the_run_log_only(module: str) -> None:
    assert not [name for name in imported(module) if is_below(name, "torch", "duckdb")
                or is_below(name, "engine") and not is_below(name, *OF_THE_ENGINE)]


def test_only_the_run_log_speaks_sql() -> None:
    speakers = {name for name in SOURCES if any(is_below(one, "duckdb") for one in imported(name))}
    assert {name.rpartition(".")[0] for name in speakers} == {"engine.log"}
