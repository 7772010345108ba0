"""The outcome of a method's chain reaches its place in the document, and every method has one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import quick_methods
from benchmarks.performance import with_section
from engine.architecture.catalogue import find_genotype
from engine.search.methods.registry import METHODS


def test_writes_what_a_chain_came_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = tmp_path / "methods.md"
    document.write_text("words\n<!-- begin darts -->\n<!-- end darts -->\n")
    quick_methods.main(["--only", "darts", "--preset", "smoke", "--document", str(document)])
    text = document.read_text()
    assert re.search(r"Preset `smoke` on digits, minutes: search \d\.\d, retraining \d\.\d, attack \d\.\d\.", text)
    accuracies = re.findall(r"\| (?:Natural|FGSM|PGD-20) \| (\S+) \| (\S+) - (\S+) \| 64 \| `\w+` \|", text)
    assert len(accuracies) == 3
    assert all(0 <= float(low) <= float(middle) <= float(high) <= 1 for middle, low, high in accuracies)
    assert "| normal | " in text and "| reduce | " in text
    assert "Genotype" in capsys.readouterr().out


def test_a_genotype_is_told_node_by_node() -> None:
    table = quick_methods.genotype_table(find_genotype("ARNAS"))
    assert [row[0] for row in table.rows] == ["accurate", "reduce", "robust"]
    assert table.rows[0][1:3] == ("skip_connect of c_{k-2} + skip_connect of c_{k-1}",
                                  "sep_conv_5x5 of c_{k-2} + sep_conv_3x3 of c_{k-1}")
    assert table.header == ("cell", "node 0", "node 1", "node 2", "node 3")


@pytest.mark.parametrize("name", METHODS)
def test_the_document_has_a_section_for_each_method(name: str) -> None:
    text = quick_methods.DOCUMENT.read_text()
    assert f"## {METHODS[name].title}\n" in text
    with_section(text, name, [quick_methods.genotype_table(find_genotype("ARNAS"))], "a machine")
