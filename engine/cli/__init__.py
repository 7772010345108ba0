"""The command line. Each verb (such as `search`) parses options, calls functions of the engine and prints the result.

If a request is rejected, the command prints one sentence to stderr and exits with code 2. If a run fails, the exit code is 1.
"""

from __future__ import annotations

from engine.cli.verbs import main

__all__ = ["main"]
