"""The command line. Each verb parses its options, calls the function of `engine.api` that a script would call, and prints.

If a request is rejected, the command prints one sentence to stderr and exits with code 2. If a run fails, the exit code is 1.
"""

from __future__ import annotations

from engine.cli.verbs import main

__all__ = ["main"]
