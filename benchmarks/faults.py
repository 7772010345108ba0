"""Break runs in every way that we know, and compare what becomes of them with uninterrupted runs, bit for bit.

    python -m benchmarks.faults --all                          # every write with every error, every file in every way, 200 kills
    python -m benchmarks.faults --all --record FILE            # the same; after an interruption, it goes on where it was
    python -m benchmarks.faults --kills 200                    # 25 minutes on a quiet machine
    python -m benchmarks.faults --writes 60 --damage 60        # ten minutes

`--kills` kills real workers, supervisors and dashboards at random moments (`tests/faults/kills.py`), `--writes` lets writes of
workers fail (`tests/faults/failing_writes.py`), and `--damage` damages files, deletes folders and sets the clock
(`tests/faults/damage.py`). The command ends with a table of all outcomes, and with exit code 1 if one of them is wrong. The same
seed chooses the same cases. `python -m tests.faults.power_cut` cuts the power of a disk.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.faults import damage, failing_writes, kills
from tests.faults.power_cut import KINDS
from tests.faults.record import Record

KILLS = 200


def number_or_all(text: str) -> int | None:
    """Return the number of cases, or None for "all"."""
    return None if text == "all" else int(text)


def main() -> None:
    """Parse the command line, break runs and print the table of outcomes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help=f"all failing writes, all damaged files, and {KILLS} kills")
    parser.add_argument("--kills", type=int, default=0, help="least number of kills")
    parser.add_argument("--writes", type=number_or_all, default=0, help="number of failing writes, or all")
    parser.add_argument("--damage", type=number_or_all, default=0, help="number of damaged files, or all")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS,
                        help="kinds of runs with failing writes and damaged files, in the order in which they are tried")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random moments and cases")
    parser.add_argument("--record", type=Path, help="file of outcomes; cases that have one are not tried again")
    options = parser.parse_args()
    if options.all:
        options.kills, options.writes, options.damage = KILLS, None, None
    record = Record(options.record)
    if options.writes != 0 or options.damage != 0:
        with failing_writes.whole_runs() as whole:
            failing_writes.prove(whole, options.kinds, options.writes, options.seed, record)
            damage.prove(whole, options.kinds, options.damage, options.seed, record)
    if options.kills:
        kills.prove(options.kills, options.seed, record)
    print(record.table())
    if wrong := record.wrong():
        sys.exit("\n".join([f"{len(wrong)} wrong:", *wrong]))


if __name__ == "__main__":
    main()
