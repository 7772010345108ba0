"""Hostile inputs: documents as the program writes them with something wrong in them, and anything else."""

from __future__ import annotations

import json
import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tests.faults.poisons import POISONS, leaves, poisoned

# Number of inputs of all tests together; `make fuzz` sets more.
INPUTS = int(os.environ.get("RAMPART_FUZZ", "500"))
TARGETS = 11

# In `make test` the inputs are the same every time, so that a test fails for what has changed. `make fuzz` draws new ones.
fuzz = settings(max_examples=max(1, INPUTS // TARGETS), derandomize=INPUTS <= 500, deadline=None, database=None,
                suppress_health_check=list(HealthCheck))

ODD_TEXTS = ("", "\0", "\x1b[31m", "../../etc/passwd", "\ud800", "nan", "1e400", "9" * 5000, "-0", "１２", "² ", "null", "[x](y)",
             "<b>", "20261118-0906-arnas-digits-7f3a", "a,b,,c", "%00", "\u202e", "__class__", "!!python/object:os.system")
texts = st.text(max_size=40) | st.sampled_from(ODD_TEXTS)
numbers = (st.integers() | st.floats() | st.integers(-10**400, 10**400) | st.sampled_from(
    [2**63, -2**63 - 1, 10**400, 1e308, -1e308, 5e-324, 0, -1, True, False]))
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | texts | numbers | st.sampled_from(list(POISONS.values())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6)


@st.composite
def records(draw: st.DrawFn, base: Any) -> Any:
    """Draw a copy of a JSON value with up to three fields that hold something else, and fields that it should not have."""
    record = base
    for _ in range(draw(st.integers(0, 3))):
        places = list(leaves(record))
        if places:
            record = poisoned(record, draw(st.sampled_from(places)), draw(values))
    if isinstance(record, dict) and draw(st.booleans()):
        record = record | draw(st.dictionaries(texts, values, max_size=2))
    return record


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Draw a copy of some bytes with up to four pieces that are removed, doubled or replaced."""
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 200)))
        piece = draw(st.binary(max_size=20) | st.just(data[start:end] * 2) | st.just(b""))
        data = data[:start] + piece + data[end:]
    return data


def json_texts(base: Any) -> st.SearchStrategy[bytes]:
    """Return a strategy for JSON texts that are wrong in a field, as text, or altogether."""
    text = json.dumps(base).encode()
    wrong = records(base).map(lambda record: json.dumps(record).encode())
    return wrong | damaged(text) | st.binary(max_size=60) | st.sampled_from(
        [b"[" * 100_000, b'{"a":' * 500 + b"1" + b"}" * 500, b"\xff\xfe", b"9" * 5000, b'"\\ud800"', b"{}", b"[]", b"null"])
