"""`python -m engine`: the command line."""

from __future__ import annotations

import signal
import sys

from engine.cli import main

if __name__ == "__main__":
    # Asked to end, a verb leaves by its way out, which takes away what it has not finished.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    sys.exit(main())
