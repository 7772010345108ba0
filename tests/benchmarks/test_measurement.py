"""Medians, tables and the record of where something was measured."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.measurement import Spread, Table, command, ratios, write_record


def test_ratios_are_those_of_neighbours() -> None:
    assert ratios([2, 9, 5], [1, 3, 1]) == Spread(3, 2, 5, 3)
    assert str(Spread.of([1.0, 4.0])) == "2.50 [1.00 - 4.00]"


def test_tables_for_a_terminal_and_for_a_document() -> None:
    table = Table("What", ("side", "s"), (("ours", "1"), ("published", "12")))
    assert table.text() == "What\n  side       s\n  ours       1\n  published  12"
    assert table.markdown().splitlines() == ["What:", "", "| side | s |", "| --- | --- |", "| ours | 1 |", "| published | 12 |"]


def test_the_command_names_no_file() -> None:
    arguments = ["--json", "/somewhere/x.json", "--pairs", "2", "--markdown", "--json=/y.json"]
    assert command("search_step", arguments) == "python -m benchmarks.search_step --pairs 2"


def test_equal_measurements_give_equal_records(tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        write_record(tmp_path / name, "x", ["--json", name], {"numbers": [1]})
    assert (tmp_path / "a.json").read_text() == (tmp_path / "b.json").read_text()
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["numbers"] == [1] and record["machine"]["cores"] >= 1 and set(record["versions"]) == {"python", "torch"}
