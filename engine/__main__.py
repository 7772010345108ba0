"""`rampart` and `python -m engine`: the command line."""

from __future__ import annotations

import signal
import sys

from engine import cli


def main() -> int:
    """Run one command and return its exit code; SIGTERM unwinds it, so that nothing half-written stays."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
