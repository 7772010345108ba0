"""The entry point of the command line, for `rampart` and for `python -m engine`."""

from __future__ import annotations

import signal
import sys

from engine import cli


def main() -> int:
    """Run one command of the command line and return its exit code."""
    # On SIGTERM, the command ends by SystemExit, so that clean-up code runs and removes unfinished files.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
