"""Every error that Rampart raises on purpose: one base class and a handful of children.

A message has three parts: what was expected, what came, what to do. Pages and the command line print `str(error)` and
nothing else; a traceback is for faults of ours, never for input of theirs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping


def shortened(value: object, most: int = 60) -> str:
    """What came, as a message shows it: `repr(value)`, cut to `most` characters."""
    text = repr(value)
    return text if len(text) <= most else text[: most - 3] + "..."


def first_line(message: object, most: int = 160) -> str:
    """Return the first line of another program's message without terminal colors, cut to `most` characters."""
    lines = re.sub(r"\x1b\[[0-9;?]*[ -/]*[@-~]", "", str(message)).strip().splitlines()
    return (lines[0] if lines else "")[:most]


class RampartError(Exception):
    """Base class. Whatever is raised on purpose derives from it; `str(error)` is a sentence for the user."""


class ConfigError(RampartError, ValueError):
    """A setting, preset, method, dataset or attack that does not exist or does not fit.

    A ValueError, so that pydantic reports one raised in a validator together with those of the other fields.

    Attributes:
        problems: one sentence per refused field, by field name; the name "" stands for the configuration as a whole.

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
    """A dataset that is not there, cannot be downloaded, or is not what it must be."""


class RunLogError(RampartError):
    """The run log (DuckDB index or an events file) cannot be read or is owned by somebody else."""


class StopRequested(Exception):
    """Not an error: raised between forward passes when a stop was asked for. The step in progress is abandoned."""
