"""The documents: short where they promise to be, without broken links, and complete about the command line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from engine.cli.verbs import VERBS

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "benchmarks" / "README.md", ROOT / "runs" / "README.md"]


@pytest.mark.parametrize(("name", "lines"), [("README.md", 120), ("CONTRIBUTING.md", 200)])
def test_what_a_newcomer_reads_first_is_short(name: str, lines: int) -> None:
    assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) < lines


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_to_files(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8"))
    assert not [target for target in targets if "://" not in target and not (document.parent / target).exists()]


def test_every_verb_is_documented() -> None:
    rows = re.findall(r"^\| (.*?) \|", (ROOT / "docs" / "commands.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert set(VERBS) == set(re.findall(r"`([a-z]+)`", " ".join(rows)))


def test_modules_of_the_map_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").replace("NAME", "darts")
    paths = [path for path in re.findall(r"`((?:engine|app|tests|benchmarks|docs)/[\w/.]*)`", text) if "darts" not in path]
    assert len(paths) > 20 and not [path for path in paths if not (ROOT / path).exists()]


def test_the_structure_names_every_package_and_only_what_exists() -> None:
    text = (ROOT / "docs" / "structure.md").read_text(encoding="utf-8")
    rows = [re.findall(r"`([\w./]+)`", row) for row in re.findall(r"^\| `(?:engine|app)/.*", text, flags=re.MULTILINE)]
    assert not [name for row in rows for name in row if not (ROOT / name).exists() and not (ROOT / row[0] / name).exists()]
    packages = {path.parent.relative_to(ROOT).as_posix() + "/" for path in ROOT.glob("*/*/__init__.py")}
    assert {name for name in packages if name.startswith(("engine/", "app/"))} <= {name for row in rows for name in row}


def test_hooks_are_the_linters_of_make_lint() -> None:
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\nlint:")[2].partition("\n\n")[0]
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    linters = re.findall(r"\$\(BIN\)/(\w+)", recipe)
    assert linters == re.findall(r"- id: (\w+)", hooks) == re.findall(r"entry: \.venv/bin/(\w+)", hooks)
