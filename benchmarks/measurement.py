"""What the commands of this folder share: CPU time, median and range, tables, and a record of where they were measured."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch


def cpu_seconds(run: Callable[[], object]) -> float:
    """CPU time of one call."""
    start = time.process_time()
    run()
    return time.process_time() - start


@dataclass(frozen=True)
class Spread:
    """Median and range of what was measured several times."""

    median: float
    least: float
    greatest: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """values: at least one."""
        found = list(values)
        return cls(median(found), min(found), max(found), len(found))

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.least:.2f} - {self.greatest:.2f}]"


def ratios(dividends: Sequence[float], divisors: Sequence[float]) -> Spread:
    """Of neighbours: the k-th dividend by the k-th divisor, which met the same load of the machine."""
    return Spread.of(a / b for a, b in zip(dividends, divisors, strict=True))


@dataclass(frozen=True)
class Table:
    """What a command prints.

    Attributes:
        caption: what was measured, in a line.
        header: one title per column.
        rows: cells, as many as titles.
    """

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def text(self) -> str:
        """Aligned columns under the caption, for a terminal."""
        lines = (self.header, *self.rows)
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join([self.caption, *(
            "  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)])

    def markdown(self) -> str:
        """The same for a document."""
        lines = (self.header, ("---",) * len(self.header), *self.rows)
        return "\n".join([f"{self.caption}:", "", *("| " + " | ".join(line) + " |" for line in lines)])


def machine() -> dict[str, Any]:
    """Processor, cores that this process may use, and its vector instructions as torch sees them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"processor": _processor(), "cores": cores,
            "vector_instructions": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads()}


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")  # Linux only; `platform` knows less there
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Of Python and torch."""
    return {"python": platform.python_version(), "torch": torch.__version__}


def machine_line(threads: str = "") -> str:
    """Machine and versions in one sentence, to stand over a table; threads: those of this process unless it says others."""
    here, of = machine(), versions()
    threads = threads or f"{here['threads']} thread" + ("s" if here["threads"] > 1 else "")
    return (f"{here['processor']}, {here['cores']} cores, {here['vector_instructions']}; {threads}; torch {of['torch']}, "
            f"Python {of['python']}")


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """`--json` and `--markdown`."""
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write every number to FILE, with machine and versions")
    parser.add_argument("--markdown", action="store_true", help="print the tables ready for docs/performance.md")


def publish(chosen: argparse.Namespace, name: str, arguments: Sequence[str], found: Mapping[str, Any],
            tables: Sequence[Table]) -> None:
    """Prints the tables, and writes `found` where `--json` says.

    Args:
        chosen: parsed options, those of `add_output_options` among them.
        name: of the command, like "search_step".
        arguments: as they were typed.
        found: all numbers, as JSON can hold them.
    """
    print("\n\n".join(table.markdown() if chosen.markdown else table.text() for table in tables))
    print(f"\n{machine_line()}")
    if chosen.json:
        write_record(chosen.json, name, arguments, found)


def write_record(path: Path, name: str, arguments: Sequence[str], found: Mapping[str, Any]) -> None:
    """Writes `found` with machine, versions and command; no date and no path, so that equal runs give equal files."""
    record = {"command": command(name, arguments), "machine": machine(), "versions": versions(), **found}
    path.write_text(json.dumps(record, indent=1) + "\n")


def command(name: str, arguments: Sequence[str]) -> str:
    """What to type to measure the same again; where the output went is left out."""
    kept, rest = [], iter(arguments)
    for argument in rest:
        if argument == "--json":
            next(rest, None)
        elif argument != "--markdown" and not argument.startswith("--json="):
            kept.append(argument)
    return shlex.join(["python", "-m", f"benchmarks.{name}", *kept])
