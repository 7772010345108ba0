"""The verbs `table`, `compare` and `report`, which print or write results of attacked networks."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import api
from engine.attack.statistics import accuracy_words
from engine.errors import ConfigError, RunError
from engine.files import atomic_write_bytes
from engine.report.formats import FORMATS
from engine.report.records import comparison_json
from engine.report.words import badge_text, plural_text
from engine.run.folder import RunFolder

if TYPE_CHECKING:
    from engine.report.robustness import Distinctions, RobustnessTable

__all__ = ["FORMATS", "compare", "report", "table"]


def compare(ids: Sequence[str], attack: str, runs: str | None, as_json: bool) -> int:
    """Print the results of runs and the settings in which the runs differ. If all runs are attacks, test the accuracies in pairs.

    The tests give one line per network, and then one sentence per pair of networks. The line of a network gives its accuracy, its
    letters and its reliability badge. Networks that share a letter do not differ significantly.
    """
    tests = None if _has_other_kind(ids, runs) else api.compare(ids, attack=attack, runs=runs)
    record = api.differences(ids, runs=runs)
    if as_json:
        of_tests = {} if tests is None else {"protocol": tests[0].protocol, **comparison_json(*tests)}
        print(json.dumps({**of_tests, **record}))
        return 0
    if tests is None:
        _print_results(record)
    else:
        _print_tests(*tests)
    _print_settings(record)
    return 0


def _has_other_kind(ids: Sequence[str], runs: str | None) -> bool:
    """Return True if at least two runs are given, all of them exist, and at least one is not an attack."""
    try:
        kinds = [RunFolder(api.runs_root(runs), one).read_run()["kind"] for one in ids]
    except RunError:  # the paired test names the unknown run
        return False
    return len(kinds) > 1 and set(kinds) != {"attack"}


def _print_tests(table: RobustnessTable, compared: Distinctions) -> None:
    title = next(column.title for column in table.columns if column.name == compared.column)
    print(f"{title} on {plural_text(compared.images, 'image')}, protocol {table.protocol} ({table.title})\n")
    for row in (one for one in table.rows if one.run in compared.letters):
        measured = row.results[compared.column]
        print(f"{row.label}: {accuracy_words(measured.correct, measured.images)}, {compared.letters[row.run]}, "
              f"{badge_text(row.badge)}")
    print("\n" + "\n".join(f"{one.sentence()}." for one in compared.comparisons))
    print("\nNetworks that share a letter cannot be told apart at level 0.05, Holm-adjusted over these pairs.")


def _print_results(record: Mapping[str, Any]) -> None:
    """Print one line per run. Accuracies of searches and retrainings are marked "not a result"."""
    for one in record["results"]:
        shares = [f"{name} {_share(one, name)}" for name in ("natural", "adversarial") if one[f"{name}_accuracy"] is not None]
        where = f" ({one['accuracy_of']}{'' if one['kind'] == 'attack' else ', not a result'})" if shares else ""
        print(f"{one['label']}: {one['kind']} {one['id']}, {one['status']}{''.join(f', {share}' for share in shares)}{where}")


def _share(result: Mapping[str, Any], name: str) -> str:
    value, low, high = (result[f"{name}_{end}"] for end in ("accuracy", "low", "high"))
    if low is None or high is None:
        return f"{100 * value:.1f} %"
    return f"{100 * value:.1f} % ({100 * low:.1f} to {100 * high:.1f}), {plural_text(int(result[f'{name}_images']), 'image')}"


def _print_settings(record: Mapping[str, Any]) -> None:
    labels = {one["id"]: one["label"] for one in record["results"]}
    print("\nSettings that differ:" if record["settings"] else "\nNo recorded setting differs.")
    for one in record["settings"]:
        values = "; ".join(f"{labels[run]}: {'-' if value is None else value}" for run, value in one["values"].items())
        print(f"  {one['kind']} {one['name']}: {values}")


def table(protocol: str | None, form: str | None, out: Path | None, runs: str | None, as_json: bool, older: bool = False) -> int:
    """Print a robustness table, or write it to a file. If `older` is True, the table also has rows for older attack runs.

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
