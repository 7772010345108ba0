"""Break runs in every way that we know, and compare what becomes of them with uninterrupted runs, bit for bit.

    python -m benchmarks.faults --kills 200                    # 25 minutes on a quiet machine
    python -m benchmarks.faults --writes 60 --damage 60        # ten minutes
    python -m benchmarks.faults --writes all --damage all      # hours: every write with every error, every file in every way

`--kills` kills real workers, supervisors and dashboards at random moments (`tests/faults/kills.py`), `--writes` lets writes of
workers fail (`tests/faults/failing_writes.py`), and `--damage` damages files, deletes folders and sets the clock
(`tests/faults/damage.py`). A failure ends the command with the case; the same seed chooses the same cases.
`python -m tests.faults.power_cut` cuts the power of a disk.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from tests.faults import damage, failing_writes, kills


def number_or_all(text: str) -> int | None:
    """Return the number of cases, or None for "all"."""
    return None if text == "all" else int(text)


def main() -> None:
    """Parse the command line, break runs and print the number of cases by outcome."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=0, help="least number of kills")
    parser.add_argument("--writes", type=number_or_all, default=0, help="number of failing writes, or all")
    parser.add_argument("--damage", type=number_or_all, default=0, help="number of damaged files, or all")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random moments and cases")
    options = parser.parse_args()
    found: dict[str, Any] = {"seed": options.seed}
    if options.writes != 0 or options.damage != 0:
        with failing_writes.whole_runs() as whole:
            found["writes"] = dict(failing_writes.prove(whole, options.writes, options.seed))
            found["damage"] = dict(damage.prove(whole, options.damage, options.seed))
    if options.kills:
        found["kills"] = dict(kills.prove(options.kills, options.seed))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
