"""The pictures of the documents and the commands of the task pages. No browser: `make screenshots` needs one, this does not."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from engine.cli import flags
from engine.cli.verbs import VERBS
from tests.test_docs import DOCUMENTS, ROOT

PICTURES = ROOT / "docs" / "pictures"
TASKS = ROOT / "docs" / "tasks"
LARGEST_BYTES = 6_000_000
LAUNCHES = ("search", "retrain", "attack")


def named(document: Path) -> set[Path]:
    """Return the files of the pictures that a document shows."""
    sources = re.findall(r'(?:src|srcset)="([^"]+)"|!\[[^\]]*\]\(([^)]+)\)', document.read_text(encoding="utf-8"))
    return {(document.parent / (one or other)).resolve() for one, other in sources}


def commands() -> list[list[str]]:
    """Return the words of every command line of the task pages."""
    texts = [page.read_text(encoding="utf-8") for page in TASKS.glob("*.md")]
    blocks = [block for text in texts for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)]
    return [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]


def test_documents_show_every_picture_and_no_other() -> None:
    shown = set().union(*map(named, DOCUMENTS))
    assert shown == set(PICTURES.iterdir())
    assert sum(path.stat().st_size for path in shown) < LARGEST_BYTES


def test_every_page_has_a_picture_in_both_themes() -> None:
    """The pages are read from the source, because importing `app.main` would draw one."""
    pages = re.findall(r'url_path="([\w-]+)"', (ROOT / "app" / "main.py").read_text(encoding="utf-8"))
    assert len(pages) > 10
    wanted = [PICTURES / f"{page}-{theme}.png" for page in pages for theme in ("light", "dark")]
    assert not [path.name for path in wanted if not path.exists()]


@pytest.mark.parametrize("page", sorted(TASKS.glob("*.md")), ids=lambda path: path.stem)
def test_pages_of_tasks_are_short_and_listed(page: Path) -> None:
    assert len(page.read_text(encoding="utf-8").splitlines()) <= 60
    assert page.name == "README.md" or f"]({page.name})" in (TASKS / "README.md").read_text(encoding="utf-8")


def test_commands_of_the_tasks_exist() -> None:
    """Launches are parsed as the command line parses them; of the others, the verb must exist."""
    lines = commands()
    assert len(lines) > 40 and {words[0] for words in lines} == {"rampart"} and {words[1] for words in lines} <= set(VERBS)
    for _, verb, *options in lines:
        if verb in LAUNCHES and "--config" not in options:
            flags.parse(verb, shlex.split(re.sub(r"--(parent|against) \S+", "", shlex.join(options))))
