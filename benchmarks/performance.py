"""Run all benchmarks of a search step and write their tables into docs/performance.md.

    python -m benchmarks.performance                                  # everything; most of an hour on an idle machine
    python -m benchmarks.performance --only memory --only growth      # only these sections
    python -m benchmarks.performance --json numbers.json              # also write every number to a file

Each section is written as soon as it is measured. It replaces the text between `<!-- begin NAME -->` and `<!-- end NAME -->`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import search_step, search_step_growth, search_step_memory, search_step_passes
from benchmarks.measurement import Table, machine_line, write_record

DOCUMENT = Path(__file__).parent.parent / "docs" / "performance.md"
Measured = tuple[dict[str, Any], Sequence[Table]]


def step(pairs: int) -> Measured:
    """Time whole search steps in all settings, and return the numbers and the tables.

    Args:
        pairs: number of rounds; each round times every implementation (the published code and our back ends) once.
    """
    measured = [search_step.measure(name, attack_steps=7, pairs=pairs) for name in search_step.SETTINGS]
    return {times.setting: times.record() for times in measured}, [search_step.table(measured)]


def passes(pairs: int) -> Measured:
    """Time each kind of pass of a search step in all settings, and return the numbers and the tables.

    Args:
        pairs: number of rounds; each round times every implementation (the published code and our back ends) once.
    """
    measured = [search_step_passes.measure(name, pairs=pairs) for name in search_step.SETTINGS]
    return {times.setting: times.record() for times in measured}, [search_step_passes.table(measured)]


def memory(pairs: int) -> Measured:
    """Measure the peak memory of a search step in the setting "paper". Return the numbers and the tables.

    Args:
        pairs: not used, because memory is measured once.
    """
    peaks = search_step_memory.measure("paper")
    return {"paper": peaks.record()}, [search_step_memory.table([peaks])]


def growth(pairs: int) -> Measured:
    """Measure how the time of a search step grows with its sizes, and return the numbers and the tables.

    Args:
        pairs: number of rounds, of which at most three are made. They suffice, because each curve has several points.
    """
    curves = search_step_growth.measure(rounds=min(pairs, 3))
    return {curve.axis: curve.record() for curve in curves}, search_step_growth.tables(curves)


SECTIONS: dict[str, Callable[[int], Measured]] = {"step": step, "passes": passes, "memory": memory, "growth": growth}


def with_section(document: str, name: str, tables: Sequence[Table], where: str) -> str:
    """Return a document with new tables in one of its sections.

    Args:
        document: Markdown text.
        name: name of the section.
        tables: new tables, which replace the contents of the section.
        where: line with the machine and the versions, which is added below the tables.

    Raises:
        ValueError: the begin mark or the end mark of the section does not occur exactly once.
    """
    begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
    if document.count(begin) != 1 or document.count(end) != 1:
        raise ValueError(f"the document must contain {begin.strip()} and {end} once each, got {document.count(begin)} and "
                         f"{document.count(end)}; put them where the tables belong")
    before, rest = document.split(begin)
    _, after = rest.split(end)
    body = "\n\n".join([*(table.markdown() for table in tables), f"Measured on: {where}."])
    return f"{before}{begin}\n{body}\n\n{end}{after}"


def main(arguments: list[str] | None = None) -> None:
    """Measure the chosen sections and write their tables into the document."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", choices=SECTIONS, action="append", help="may be given several times (default: all)")
    search_step.add_pairs_option(parser)
    parser.add_argument("--document", type=Path, default=DOCUMENT, help="document to update (default: docs/performance.md)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write every number to FILE")
    chosen = search_step.parse(parser, arguments)
    torch.set_num_threads(1)
    numbers: dict[str, Any] = {}
    for name in chosen.only or SECTIONS:
        numbers[name], tables = SECTIONS[name](chosen.pairs)
        chosen.document.write_text(with_section(chosen.document.read_text(), name, tables, machine_line()))
        print("\n\n".join(table.text() for table in tables), flush=True)
    if chosen.json:
        write_record(chosen.json, "performance", arguments, numbers)


if __name__ == "__main__":
    main()
