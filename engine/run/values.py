"""The check of values that were read from a file: text that can be shown and written, and numbers that programs can compute with.

JSON can hold values that nothing writes on purpose:

- half of a surrogate pair, which no file or page can store as UTF-8,
- numbers of thousands of digits, NaN and infinity,
- objects nested so deeply that Python cannot write them again.

Files of runs are read through this check, so that such a value affects only one run. Imports no other module of Rampart.
"""

from __future__ import annotations

import math
import re
from typing import Any

LARGEST = 2**63  # the first whole number that does not fit 64 bits
DEEPEST = 64
LATEST = 1e11  # unix seconds, in the year 5138
# Bytes without which JSON text, unless it is nested, holds no such value. Nearly all files are read without looking further.
_SUSPICIOUS = re.compile(rb"\\u[dD]|[0-9]{18}|[eE]\+?[0-9]{3}|NaN|Infinity")


def flaw_in(value: Any) -> str:
    """Return the flaw of a value that was read from JSON, as the end of a sentence; "" if it has none."""
    rest: list[tuple[Any, int]] = [(value, 0)]
    while rest:
        one, depth = rest.pop()
        if depth > DEEPEST:
            return f"it is nested more than {DEEPEST} levels deep"
        if isinstance(one, dict):
            rest += [(part, depth + 1) for pair in one.items() for part in pair]
        elif isinstance(one, (list, tuple)):
            rest += [(part, depth + 1) for part in one]
        elif flaw := _flaw(one):
            return flaw
    return ""


def _flaw(value: Any) -> str:
    """Return the flaw of a single value; "" if it has none."""
    if isinstance(value, str):
        return "" if is_text(value) else "it holds half of a surrogate pair, which is not a character"
    if isinstance(value, float):
        return "" if math.isfinite(value) else f"it holds {value}, which is not a finite number"
    if isinstance(value, int):
        return "" if -LARGEST <= value < LARGEST else "it holds a whole number that does not fit 64 bits"
    return ""


def flaw_in_json(data: bytes, value: Any) -> str:
    """Return the result of `flaw_in` for `value`, which was read from the JSON text `data`. This is faster for usual text."""
    nested = data.count(b"[") + data.count(b"{") > DEEPEST
    return flaw_in(value) if nested or _SUSPICIOUS.search(data) else ""


def printable(text: str) -> str:
    """Return text with a question mark in place of each half of a surrogate pair.

    If the name of a file is not UTF-8, Python returns a text with such halves, which no file or page can store.
    """
    return text.encode(errors="replace").decode()


def is_text(value: Any) -> bool:
    """Return True for text that can be written as UTF-8."""
    if not isinstance(value, str):
        return False
    try:
        return value.isascii() or bool(value.encode()) or not value
    except UnicodeEncodeError:
        return False


def is_number(value: Any) -> bool:
    """Return True for a finite number. True and False do not count as numbers."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -LARGEST <= value <= LARGEST


def is_whole(value: Any, low: int = -LARGEST, high: int = LARGEST - 1) -> bool:
    """Return True for a whole number from `low` to `high`. True and False do not count as numbers."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def is_time(value: Any) -> bool:
    """Return True for a time in unix seconds, up to the year 5138."""
    return is_number(value) and 0 <= value <= LATEST
