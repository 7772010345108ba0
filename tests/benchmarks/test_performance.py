"""The document keeps its text and receives the tables; every section has a place in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import performance
from benchmarks.measurement import Table

TABLE = Table("What", ("a", "b"), (("1", "2"),))


def test_replaces_a_section_and_nothing_else() -> None:
    text = "words\n<!-- begin step -->\nold\n<!-- end step -->\nmore\n"
    once = performance.with_section(text, "step", [TABLE], "a machine")
    assert once == ("words\n<!-- begin step -->\n\nWhat:\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\nMeasured on: a machine.\n\n"
                    "<!-- end step -->\nmore\n")
    assert performance.with_section(once, "step", [TABLE], "a machine") == once


def test_refuses_a_document_without_the_section() -> None:
    with pytest.raises(ValueError, match="begin step"):
        performance.with_section("words", "step", [TABLE], "a machine")


@pytest.mark.parametrize("name", performance.SECTIONS)
def test_the_document_has_a_place_for_each_section(name: str) -> None:
    performance.with_section(performance.DOCUMENT.read_text(), name, [TABLE], "a machine")


def test_command_measures_the_sections_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(performance.SECTIONS, "memory", lambda pairs: ({"pairs": pairs}, [TABLE]))
    document, numbers = tmp_path / "performance.md", tmp_path / "numbers.json"
    document.write_text("<!-- begin memory -->\n<!-- end memory -->\n")
    performance.main(["--only", "memory", "--pairs", "2", "--document", str(document), "--json", str(numbers)])
    assert "| 1 | 2 |" in document.read_text()
    assert json.loads(numbers.read_text())["memory"] == {"pairs": 2}
