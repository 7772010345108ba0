"""The command line: parse, call the function of `engine.api` that a script would call, print the result.

A refused request is one sentence on stderr and exit code 2; a failed run is exit code 1.
"""

from __future__ import annotations

from engine.cli.verbs import main

__all__ = ["main"]
