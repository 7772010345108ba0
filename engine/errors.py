"""The errors that Rampart raises on purpose, all derived from `RampartError`, and functions that format their messages.

A message has three parts: the expected value, the actual value, and advice. Pages and the command line print only `str(error)`,
so a traceback always means a bug and never invalid input.
"""

from __future__ import annotations

import re
from collections.abc import Mapping


def shortened(value: object, most: int = 60) -> str:
    """Return `repr(value)`, cut to `most` characters, for use in a message."""
    text = repr(value)
    return text if len(text) <= most else text[: most - 3] + "..."


def in_sentence(title: str) -> str:
    """Return a title with a lower-case first letter, for use within a sentence."""
    return title[:1].lower() + title[1:]


def first_line(message: object, most: int = 160) -> str:
    """Return the first line of another program's message, without terminal colours and cut to `most` characters."""
    lines = re.sub(r"\x1b\[[0-9;?]*[ -/]*[@-~]", "", str(message)).strip().splitlines()
    return (lines[0] if lines else "")[:most]


class RampartError(Exception):
    """Base class of all errors that Rampart raises on purpose. `str(error)` is a sentence for the user.

    A message may quote any text. Half of a surrogate pair, which cannot be printed, becomes a question mark.
    """

    def __init__(self, sentence: str = "") -> None:
        super().__init__(sentence.encode(errors="replace").decode())


class ConfigError(RampartError, ValueError):
    """An error about a setting, preset, method, dataset or attack that does not exist or does not fit.

    The class is also a ValueError. If a validator of pydantic raises this error, pydantic reports it together with the errors of
    other fields.

    Attributes:
        problems: {name of an invalid field: sentence for the user}. The name "" stands for the whole configuration.

    Example:
        raise ConfigError(problems={"epochs": "epochs must be at least 1, got 0; give 1 or more."})
    """

    def __init__(self, sentence: str = "", *, problems: Mapping[str, str] | None = None) -> None:
        self.problems = {name: text.encode(errors="replace").decode() for name, text in (problems or {"": sentence}).items()}
        super().__init__(" ".join(self.problems.values()))


class GenotypeError(RampartError):
    """An error about a genotype that is not a valid architecture of its search space."""


class RunError(RampartError):
    """An error about a run. The run does not exist or is in the wrong state, or the run's folder cannot be used."""


class CheckpointError(RampartError):
    """An error about a checkpoint or state dict that is corrupt, belongs to another program, or does not fit the network."""


class DataError(RampartError):
    """An error about a dataset that is missing, cannot be downloaded, or has unexpected content."""


class RunLogError(RampartError):
    """An error about a run log (DuckDB index or events.jsonl) that cannot be read or is used by another process."""


class StopRequested(Exception):
    """An exception that is raised between two forward passes when the run has to stop. The step in progress is abandoned.

    The exception does not signal an error, so it is not a RampartError.
    """
