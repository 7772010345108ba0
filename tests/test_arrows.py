"""The import arrows of the project, read from the source without importing it, against one table that the README shows."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
           for folder in ("app", "engine") for path in (ROOT / folder).rglob("*.py")}

# Part -> the parts it may import. A part is a folder or a file directly below engine/, and app/ as a whole.
ARROWS = {
    "errors": "",
    "files": "",
    "graphs": "",
    "lanes": "",
    "acts": "errors files",
    "accounts": "errors files registry acts run",
    "registry": "errors",
    "architecture": "errors registry",
    "config": "errors architecture",
    "data": "errors files registry",
    "attack": "errors graphs lanes registry config data",
    "drawing": "architecture",
    "space": "errors registry architecture",
    "search": "errors graphs lanes registry architecture config data attack space",
    "train": "graphs config data attack space",
    "configuring": "errors registry architecture config data attack search",
    "command": "config configuring",
    "run": "errors acts files registry architecture config configuring data attack space search train",
    "log": "errors files configuring run",
    "report": "errors registry architecture config configuring data attack drawing run log",
    "insight": "errors files architecture drawing search run log report",
    "requests": "errors acts files registry command config configuring search run",
    "store": "errors files run requests",
    "rerun": "errors acts configuring requests run",
    "configuration_file": "errors registry config configuring run",
    "grid": "errors registry config configuring configuration_file data requests run search",
    "study": "errors acts files registry architecture config configuring configuration_file data attack run log report requests",
    "queueing": "errors acts config run requests study",
    "paper": "errors architecture attack drawing run log report study",
    "preflight": "errors files graphs lanes architecture config configuring data attack run study",
    "whatif": "errors files architecture config configuring data search run",
    "background": "preflight run study",
    "exchange": "errors acts files registry architecture config configuring data space run log",
    "doctor": "errors files data run requests queueing search space",
    "api": "errors architecture config configuring data search run log report requests queueing doctor",
    "cli": "errors acts accounts files registry command architecture config configuring data attack search run report log "
           "insight requests rerun grid queueing configuration_file preflight whatif study exchange paper store api",
    "app": "errors acts accounts files registry command architecture config configuring configuration_file data attack drawing "
           "search run log insight requests rerun grid queueing preflight whatif exchange report study",
}
# The page's process stays light: no torch, and only those modules of the larger parts that hold facts.
APP_MAY_IMPORT = {
    "search": ("engine.search.methods.registry", "engine.search.registries"),
    "run": ("engine.run.bulk", "engine.run.chain", "engine.run.device", "engine.run.folder", "engine.run.folder_watch",
            "engine.run.leftovers", "engine.run.lineage", "engine.run.marks", "engine.run.matching", "engine.run.queue",
            "engine.run.state", "engine.run.trash"),
    "exchange": ("engine.exchange.forms",),
    "preflight": ("engine.preflight.forecast",),
    "whatif": ("engine.whatif.question",),
}


@cache
def imported(module: str) -> set[str]:
    """Return the full names of everything a module imports, also inside functions; `from a import b` gives "a.b"."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(SOURCES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"imports are absolute, got a relative one in {module}"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def modules_imported(module: str) -> set[str]:
    """Return the modules of the project that a module imports."""
    owners = {name if name in SOURCES else name.rpartition(".")[0] for name in imported(module)}
    return {owner for owner in owners if owner in SOURCES and owner != module}


def part_of(module: str) -> str:
    """Return the part a module belongs to: "app", or the first name below engine."""
    first, *rest = module.split(".")
    return first if first == "app" or not rest else rest[0]


def is_below(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def table() -> str:
    """Return the allowed arrows as the Markdown table of the README."""
    rows = [f"| `{part}` | {', '.join(f'`{one}`' for one in targets.split()) or 'nothing of ours'} |"
            for part, targets in ARROWS.items()]
    return "\n".join(["| part | may import |", "|---|---|", *rows])


@pytest.mark.parametrize("part", ARROWS)
def test_a_part_imports_only_what_the_table_allows(part: str) -> None:
    allowed = {part, *ARROWS[part].split()}
    wrong = {module: sorted(other for other in modules_imported(module) if part_of(other) not in allowed | {"engine"})
             for module in SOURCES if part_of(module) == part}
    assert not {module: others for module, others in wrong.items() if others}


def test_the_table_knows_every_part_and_lists_no_arrow_that_is_not_there() -> None:
    parts = {part_of(module) for module in SOURCES} - {"engine", "__main__"}
    assert set(ARROWS) == parts
    drawn = {(part_of(module), part_of(other)) for module in SOURCES for other in modules_imported(module)}
    assert not [(part, other) for part, targets in ARROWS.items() for other in targets.split() if (part, other) not in drawn]


def test_arrows_of_the_table_point_one_way() -> None:
    TopologicalSorter({part: targets.split() for part, targets in ARROWS.items()}).prepare()


def test_no_modules_import_each_other_in_a_circle() -> None:
    try:
        TopologicalSorter({module: modules_imported(module) for module in SOURCES}).prepare()
    except CycleError as circle:
        pytest.fail(" -> ".join(circle.args[1]))


def test_the_readme_shows_the_table() -> None:
    assert table() in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("module", [name for name in SOURCES if name.startswith("app")])
def test_the_dashboard_knows_facts_requests_and_the_run_log_only(module: str) -> None:
    wrong = [name for name in imported(module) if is_below(name, "torch", "duckdb")]
    for part, modules in APP_MAY_IMPORT.items():
        wrong += [name for name in imported(module) if is_below(name, f"engine.{part}") and not is_below(name, *modules)]
    assert not wrong


def test_the_engine_knows_no_page() -> None:
    assert not [module for module in SOURCES if part_of(module) != "app"
                and any(is_below(name, "app", "streamlit") for name in imported(module))]


def test_only_the_run_log_speaks_sql() -> None:
    speakers = {name for name in SOURCES if any(is_below(one, "duckdb") for one in imported(name))}
    assert {name.rpartition(".")[0] for name in speakers} == {"engine.log"}
