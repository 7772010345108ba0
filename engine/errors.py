"""The errors that Rampart raises on purpose, under one base class.

A message has three parts: what was expected, what came, what to do. Pages and the command line print only `str(error)`; a
traceback means a bug, never invalid input.
"""

from __future__ import annotations

import re
from collections.abc import Mapping


def shortened(value: object, most: int = 60) -> str:
    """Return `repr(value)` for a message, cut to `most` characters."""
    text = repr(value)
    return text if len(text) <= most else text[: most - 3] + "..."


def first_line(message: object, most: int = 160) -> str:
    """Return the first line of another program's message without terminal colors, cut to `most` characters."""
    lines = re.sub(r"\x1b\[[0-9;?]*[ -/]*[@-~]", "", str(message)).strip().splitlines()
    return (lines[0] if lines else "")[:most]


class RampartError(Exception):
    """Base class of all errors raised on purpose; `str(error)` is a sentence for the user."""


class ConfigError(RampartError, ValueError):
    """A setting, preset, method, dataset or attack that does not exist or does not fit.

    A ValueError, so that pydantic reports it together with the errors of other fields if a validator raises it.

    Attributes:
        problems: one sentence per invalid field, by field name; the name "" means the whole configuration.

    Example:
        raise ConfigError(problems={"epochs": "epochs must be at least 1, got 0; give 1 or more."})
    """

    def __init__(self, sentence: str = "", *, problems: Mapping[str, str] | None = None) -> None:
        self.problems: dict[str, str] = dict(problems) if problems else {"": sentence}
        super().__init__(" ".join(self.problems.values()))


class GenotypeError(RampartError):
    """A genotype that is not a valid architecture of its space."""


class RunError(RampartError):
    """A run that does not exist, is in the wrong state, or whose folder cannot be used."""


class CheckpointError(RampartError):
    """A checkpoint or state dict that is corrupt, foreign, or does not fit the network."""


class DataError(RampartError):
    """A dataset that is missing, cannot be downloaded, or has unexpected content."""


class RunLogError(RampartError):
    """A run log (DuckDB index or events file) that cannot be read or is used by another process."""


class StopRequested(Exception):
    """A stop request, not an error: raised between forward passes to abandon the step in progress."""
