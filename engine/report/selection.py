"""The choice of a robustness table, and of networks to compare, from the names that a user gives on the command line."""

from __future__ import annotations

from collections.abc import Sequence

from engine.attack.catalogue import WORST
from engine.errors import ConfigError
from engine.log.runlog import RunLog
from engine.registry import unknown_name
from engine.report.robustness import Distinctions, RobustnessTable, distinctions, robustness_tables

LISTED = 10  # most runs of a protocol that a message names


def table_of(log: RunLog, protocol: str | None = None) -> RobustnessTable:
    """Return the robustness table of a protocol.

    `protocol` is the hash of the protocol or the beginning of the hash. It may be None if there is only one table.

    Raises:
        ConfigError: there is no such table, or more than one.
    """
    tables = robustness_tables(log)
    if not tables:
        raise ConfigError("A table needs an attacked network, and there is none yet; launch one by `rampart attack --parent ID`.")
    fitting = [table for table in tables if table.protocol.startswith(protocol or "")]
    if len(fitting) == 1:
        return fitting[0]
    known = "; ".join(f"{table.protocol} ({table.title})" for table in fitting or tables)
    if not fitting:
        raise ConfigError(f"There is no protocol {protocol!r}; known are: {known}.")
    asked = f"{protocol!r} fits" if protocol else "there are"
    raise ConfigError(f"A table has one protocol, and {asked} {len(fitting)}; name one by --protocol: {known}.")


def compared(log: RunLog, runs: Sequence[str], attack: str = WORST) -> tuple[RobustnessTable, Distinctions]:
    """Compare attacked networks on the same images.

    Args:
        log: the run log.
        runs: ids of at least two attack runs under one protocol.
        attack: "natural", the name of an attack of the protocol, or "worst-case".

    Returns:
        The robustness table of the protocol.
        The paired comparison of the runs. The p-values of all pairs are adjusted by Holm's method.

    Raises:
        ConfigError: fewer than two runs are given; a run is unknown or is not a complete attack run; the runs have different
            protocols; or the protocol does not contain the attack.
        RunLogError: results/outcomes.parquet of a run cannot be read.
    """
    wanted = list(dict.fromkeys(runs))
    tables = robustness_tables(log)
    if len(wanted) < 2:
        raise ConfigError(f"A comparison needs at least two attack runs, got {', '.join(wanted) or 'none'}; {_choices(tables)}.")
    homes = {run: _home(log, tables, run) for run in wanted}
    if len({table.protocol for table in homes.values()}) > 1:
        listed = "; ".join(f"{run} has {table.protocol} ({table.title})" for run, table in homes.items())
        raise ConfigError(f"Only networks attacked under one protocol can be compared: {listed}; attack them alike.")
    table = homes[wanted[0]]
    names = [column.name for column in table.columns if column.images]
    if attack not in names:
        raise ConfigError(unknown_name("result", attack, names))
    return table, distinctions(log, table, attack, wanted)


def _choices(tables: Sequence[RobustnessTable]) -> str:
    """Return advice that names the runs that can be compared, grouped by protocol."""
    groups = [[f"{row.run} ({row.label})" for row in table.rows if row.complete] for table in tables]
    listed = [", ".join(runs[:LISTED]) + (", ..." if len(runs) > LISTED else "") for runs in groups if len(runs) > 1]
    if not listed:
        return "no two networks have been attacked under one protocol yet, so attack another one under the same settings"
    return f"name two of these, which have one protocol: {'; or of '.join(listed)}"


def _home(log: RunLog, tables: Sequence[RobustnessTable], run: str) -> RobustnessTable:
    """Return the table that contains the row of a complete attack run."""
    for table in tables:
        row = table.row(run)
        if row is not None and row.complete:
            return table
        if row is not None:
            raise ConfigError(f"A comparison needs complete attacks, and {run} is not complete; wait for it or resume it.")
    kind = log.run(run)["kind"]
    if kind != "attack":
        raise ConfigError(f"A comparison needs attack runs, and {run} is a {kind}; name the attack that follows it.")
    raise ConfigError(f"A comparison needs the newest attack of a network under its protocol, and {run} has no row in a table: "
                      "it has no result yet, or the same network was attacked again; `rampart table` shows the rows.")
