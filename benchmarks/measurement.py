"""Functions that all benchmarks share: they measure CPU time, summarise it, print tables, and write the numbers to a file."""

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
    """Call a function and return the CPU seconds of the call."""
    start = time.process_time()
    run()
    return time.process_time() - start


@dataclass(frozen=True)
class Spread:
    """The median and range of repeated measurements."""

    median: float
    least: float
    greatest: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Return the median and range of at least one value."""
        numbers = list(values)
        return cls(median(numbers), min(numbers), max(numbers), len(numbers))

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.least:.2f} - {self.greatest:.2f}]"


def ratios(dividends: Sequence[float], divisors: Sequence[float]) -> Spread:
    """Return the median and range of the ratios dividends[k] / divisors[k].

    The k-th dividend and the k-th divisor should be measured right after each other, so that the load of the machine is the same.
    """
    return Spread.of(a / b for a, b in zip(dividends, divisors, strict=True))


@dataclass(frozen=True)
class Table:
    """A table of results.

    Attributes:
        caption: one line that says what was measured.
        header: titles of the columns.
        rows: rows, each with one cell per column.
    """

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def text(self) -> str:
        """Return the caption and the table as text for a terminal."""
        lines = (self.header, *self.rows)
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join([self.caption, *(
            "  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)])

    def markdown(self) -> str:
        """Return the caption and the table as Markdown."""
        lines = (self.header, ("---",) * len(self.header), *self.rows)
        return "\n".join([f"{self.caption}:", "", *("| " + " | ".join(line) + " |" for line in lines)])


def machine() -> dict[str, Any]:
    """Return a description of this machine: {"processor", "cores", "vector_instructions", "threads"}.

    The cores are those available to this process. The vector instructions and threads are those that torch uses.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"processor": _processor(), "cores": cores,
            "vector_instructions": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads()}


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")  # Linux, where `platform` gives less detail
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Return the versions of Python and torch."""
    return {"python": platform.python_version(), "torch": torch.__version__}


def machine_line(threads: str = "") -> str:
    """Return the machine and the versions of Python and torch in one line of text.

    Args:
        threads: text about the number of threads; "" to give the number of threads that torch uses in this process.
    """
    here, installed = machine(), versions()
    threads = threads or f"{here['threads']} thread" + ("s" if here["threads"] > 1 else "")
    return (f"{here['processor']}, {here['cores']} cores, {here['vector_instructions']}; {threads}; torch "
            f"{installed['torch']}, Python {installed['python']}")


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add the options `--json` and `--markdown` to a parser."""
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write every number to FILE, with machine and versions")
    parser.add_argument("--markdown", action="store_true", help="print the tables ready for docs/performance.md")


def publish(chosen: argparse.Namespace, name: str, arguments: Sequence[str], found: Mapping[str, Any],
            tables: Sequence[Table]) -> None:
    """Print the tables. If the option `--json FILE` is given, also write all numbers to that file.

    Args:
        chosen: parsed options, including those of `add_output_options`.
        name: name of the command, for example "search_step".
        arguments: command-line arguments.
        found: all measured numbers as JSON data.
        tables: the tables to print.
    """
    print("\n\n".join(table.markdown() if chosen.markdown else table.text() for table in tables))
    print(f"\n{machine_line()}")
    if chosen.json:
        write_record(chosen.json, name, arguments, found)


def write_record(path: Path, name: str, arguments: Sequence[str], found: Mapping[str, Any]) -> None:
    """Write measured numbers to a JSON file, together with the machine, the versions and the command.

    The file contains no date and no path, so that equal results give equal files.

    Args:
        path: file to write.
        name: name of the command, for example "search_step".
        arguments: command-line arguments.
        found: all measured numbers as JSON data.
    """
    record = {"command": command(name, arguments), "machine": machine(), "versions": versions(), **found}
    path.write_text(json.dumps(record, indent=1) + "\n")


def command(name: str, arguments: Sequence[str]) -> str:
    """Return the command line that repeats a measurement. Options that concern only the output are left out."""
    kept, rest = [], iter(arguments)
    for argument in rest:
        if argument == "--json":
            next(rest, None)
        elif argument != "--markdown" and not argument.startswith("--json="):
            kept.append(argument)
    return shlex.join(["python", "-m", f"benchmarks.{name}", *kept])
