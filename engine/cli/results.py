"""The verbs `table`, `compare` and `report`, which print or write results of attacked networks."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from engine import api
from engine.attack.statistics import accuracy_words
from engine.errors import ConfigError
from engine.files import atomic_write_bytes
from engine.report.formats import FORMATS
from engine.report.records import comparison_json
from engine.report.words import badge_text, plural_text

__all__ = ["FORMATS", "compare", "report", "table"]


def compare(ids: Sequence[str], attack: str, runs: str | None, as_json: bool) -> int:
    """Print the paired comparison of attack runs: one line per network, and then one sentence per pair of networks.

    The line of a network gives its accuracy, its letters and its reliability badge. Networks that share a letter do not differ
    significantly.
    """
    table, compared = api.compare(ids, attack=attack, runs=runs)
    if as_json:
        print(json.dumps({"protocol": table.protocol, **comparison_json(table, compared)}))
        return 0
    title = next(column.title for column in table.columns if column.name == compared.column)
    print(f"{title} on {plural_text(compared.images, 'image')}, protocol {table.protocol} ({table.title})\n")
    for row in (one for one in table.rows if one.run in compared.letters):
        measured = row.results[compared.column]
        print(f"{row.label}: {accuracy_words(measured.correct, measured.images)}, {compared.letters[row.run]}, "
              f"{badge_text(row.badge)}")
    print("\n" + "\n".join(f"{one.sentence()}." for one in compared.comparisons))
    print("\nNetworks that share a letter cannot be told apart at level 0.05, Holm-adjusted over these pairs.")
    return 0


def table(protocol: str | None, form: str | None, out: Path | None, runs: str | None, as_json: bool, older: bool = False) -> int:
    """Print a robustness table, or write it to a file. `older` adds the other attack runs of each network.

    Raises:
        ConfigError: the protocol or the format is unknown, the file cannot be written, or the format is Parquet and no file is
            given.
    """
    if out is not None and form is None and _form_of(out) is None:
        raise ConfigError(f"--out must end in {', '.join(one.suffix for one in FORMATS.values())}, got {out.name}; rename it or "
                          "name the format with --format.")
    chosen = form or _form_of(out) or ("json" if as_json else "markdown")
    if out is None:
        if as_json and chosen != "json":
            raise ConfigError(f"--json prints the table as JSON, got --format {chosen} too; leave one out or give --out FILE.")
        if chosen == "parquet":
            raise ConfigError("A Parquet file cannot be printed, so --format parquet needs a file to write; give --out FILE.")
        sys.stdout.buffer.write(api.table(chosen, protocol=protocol, older=older, runs=runs))
        return 0
    return _write(out, api.table(chosen, protocol=protocol, older=older, runs=runs), as_json)


def report(run: str, out: Path, runs: str | None, as_json: bool) -> int:
    """Write the report of an attacked network.

    Raises:
        ConfigError: the run is not an attack, or the file cannot be written.
        RunLogError: the run does not exist, or its images cannot be read.
    """
    return _write(out, api.report(run, runs=runs), as_json)


def _form_of(out: Path | None) -> str | None:
    """Return the format that the extension of a file indicates, or None if the extension is unknown or `out` is None."""
    return next((name for name, form in FORMATS.items() if out is not None and form.suffix == out.suffix.lower()), None)


def _write(out: Path, content: bytes, as_json: bool) -> int:
    try:
        atomic_write_bytes(out, content)
    except OSError as problem:
        raise ConfigError(f"The file could not be written to {out} ({problem.strerror or problem}); choose another --out."
                          ) from None
    print(json.dumps({"file": str(out)}) if as_json else out)
    return 0
