"""`rampart` and `python -m engine`: the command line."""

from __future__ import annotations

import signal
import sys

from engine import cli


def main() -> int:
    """Run one command; return its exit code."""
    # A verb that is asked to end leaves by raising SystemExit, so that it removes what it has not finished.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
