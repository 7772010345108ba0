"""Measures everything about a search step and writes its tables into docs/performance.md.

    python -m benchmarks.performance                                  # everything; most of an hour, on a quiet machine
    python -m benchmarks.performance --only memory --only growth      # these sections
    python -m benchmarks.performance --json numbers.json              # also every number

Sections are written one by one as they are measured. Each stands between `<!-- begin NAME -->` and `<!-- end NAME -->`.
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
    """Whole steps of all settings."""
    found = [search_step.measure(name, attack_steps=7, pairs=pairs) for name in search_step.SETTINGS]
    return {times.setting: times.record() for times in found}, [search_step.table(found)]


def passes(pairs: int) -> Measured:
    """Passes of all settings."""
    found = [search_step_passes.measure(name, pairs=pairs) for name in search_step.SETTINGS]
    return {times.setting: times.record() for times in found}, [search_step_passes.table(found)]


def memory(pairs: int) -> Measured:
    """Peak memory at the paper setting; measured once."""
    found = search_step_memory.measure("paper")
    return {"paper": found.record()}, [search_step_memory.table([found])]


def growth(pairs: int) -> Measured:
    """Along all axes; three rounds are enough, since each curve has several points."""
    found = search_step_growth.measure(rounds=min(pairs, 3))
    return {each.axis: each.record() for each in found}, search_step_growth.tables(found)


SECTIONS: dict[str, Callable[[int], Measured]] = {"step": step, "passes": passes, "memory": memory, "growth": growth}


def with_section(document: str, name: str, tables: Sequence[Table], where: str) -> str:
    """The document with a section's tables replaced.

    Args:
        where: the line about machine and versions that stands under them.

    Raises:
        ValueError: the document lacks the section's two marks.
    """
    begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
    if document.count(begin) != 1 or document.count(end) != 1:
        raise ValueError(f"the document must hold {begin.strip()} and {end} once each, and it does not; put them where the "
                         "tables belong")
    before, rest = document.split(begin)
    _, after = rest.split(end)
    body = "\n\n".join([*(table.markdown() for table in tables), f"Measured on: {where}."])
    return f"{before}{begin}\n{body}\n\n{end}{after}"


def main(arguments: list[str] | None = None) -> None:
    """Measures and writes."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", choices=SECTIONS, action="append", help="may be given several times (default: all)")
    search_step.add_pairs_option(parser)
    parser.add_argument("--document", type=Path, default=DOCUMENT, help="where the tables go (default: docs/performance.md)")
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
