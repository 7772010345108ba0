"""The base class of all events, and their conversion from and to JSON.

Every event has a stamp: its time, the attempt (start of the worker) and the progress of the run. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from engine.run.event_fields import (
    LARGEST_INTEGER,
    Array,
    Cells,
    Column,
    FiniteNumber,
    Moment,
    Number,
    Reader,
    Record,
    Text,
    Unless,
    WholeNumber,
    columns_of,
    fields_of,
    readers_of,
)

Level = Literal["info", "warning", "error"]
Finding = Literal["passed", "warning", "failed", "skipped"]
Count = Annotated[int, WholeNumber()]
Integer = Annotated[int, WholeNumber(high=LARGEST_INTEGER)]
Real = Annotated[float, FiniteNumber()]
MaybeReal = Annotated[float | None, Number()]
String = Annotated[str, Text()]
MaybeString = Annotated[str | None, Text()]
SizeOfDerived = Annotated[int | None, Unless("hand_made", WholeNumber(high=LARGEST_INTEGER))]
Floats = Annotated[Array, Column("FLOAT[]")]


class Stamp(NamedTuple):
    """The circumstances of an event: its time, the attempt (start of the worker) that wrote it, and the progress of the run."""

    t: Annotated[float, Moment(), "Seconds since 1970."]
    attempt: Annotated[int, WholeNumber(low=1, high=1_000_000), "Number of the worker start that wrote the event, from 1."]
    step: Annotated[Count, "Steps completed."]
    epoch: Annotated[Integer, "Epoch of the latest step, from 1; 0 before the first step."]


class Event:
    """Base class of all events. Each kind of event is a subclass.

    Attributes:
        kind: name of the kind, which a line of events.jsonl stores in its field `event`.
        table: table of the run log for the rows of this kind, without the suffix `_raw`.
        row: class that declares the columns of the rows; None if the columns are the event's own fields.
    """

    kind: ClassVar[str]
    table: ClassVar[str]
    row: ClassVar[type | None] = None

    @classmethod
    def columns(cls) -> dict[str, str]:
        """Return the columns (name -> DuckDB type) of the table for this kind of event.

        The columns that every table has are left out: run number, position of the line in the file, and the stamp of the event
        (time, attempt and progress).
        """
        return columns_of(cls.row or cls)

    @classmethod
    def from_json(cls, record: Record) -> Self:
        """Return the event that the JSON object of a line of events.jsonl describes.

        Raises:
            RunLogError: a field is missing, has the wrong type, or contradicts another field.
        """
        values = {}
        for name, read_value, default in readers(cls):
            value = record.get(name)
            values[name] = default if value is None and default is not MISSING else read_value(name, value, record)
        event = cls.__new__(cls)
        vars(event).update(values)  # several times faster than the __init__ of a frozen dataclass
        event.check()
        return event

    def to_json(self) -> dict[str, Any]:
        """Return the fields in the form in which a line of events.jsonl stores them.

        A field whose value is None is left out if None is also its default.
        """
        record: dict[str, Any] = {}
        for name, of, _, default in fields_of(type(self)):
            value = getattr(self, name)
            if value is not None or default is not None:
                record |= of.to_json(name, value)
        return record

    def rows(self) -> Sequence[Cells]:
        """Return the rows that the event adds to its table, with one value for each of the `columns`."""
        return [tuple(cell for name, of, *_ in fields_of(type(self)) for cell in of.cells(getattr(self, name), self))]

    def check(self) -> None:
        """Check conditions that involve several fields.

        Raises:
            RunLogError: two fields contradict each other.
        """


_readers: dict[type, tuple[Reader, ...]] = {}


def readers(cls: type) -> tuple[Reader, ...]:
    """Return the readers (see `readers_of`) of the fields of `cls`, which is a kind of event or `Stamp`."""
    if cls not in _readers:
        _readers[cls] = readers_of(cls)
    return _readers[cls]
