"""Types of event fields. A type defines the allowed values, checks a value, and defines the columns that store it in the run log.

`engine.run.event_kinds` declares each field as `name: Annotated[type, FieldType(), "meaning"]`. NumPy is imported inside the
functions that need it, so a worker starts without loading NumPy. Imports no torch.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, get_type_hints

from engine.architecture.genotype import Genotype
from engine.attack.statistics import wilson
from engine.errors import GenotypeError, RunLogError, shortened
from engine.registry import unknown_name
from engine.run.values import LATEST, flaw_in

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
else:
    Array = Any

Record = Mapping[str, Any]  # the JSON object of one line
Cells = tuple[Any, ...]  # values of consecutive columns of a row

LARGEST = 2**53  # the largest whole number that all JSON readers agree on
LARGEST_INTEGER = 2**31 - 1  # the largest value of DuckDB's INTEGER


class FieldType:
    """Base class of field types. By default, the run log stores a value in one text column named after the field."""

    column_type: ClassVar[str] = "VARCHAR"

    def read(self, name: str, value: Any, record: Record) -> Any:
        """Check the value that a line of events.jsonl holds for a field, and return it.

        Args:
            name: name of the field, for the error message.
            value: the value in the line; None if the line does not have the field.
            record: all fields of the line. The fields declared before this field have been checked already.

        Raises:
            RunLogError: the value is missing or not of this type.
        """
        raise NotImplementedError

    def to_json(self, name: str, value: Any) -> dict[str, Any]:
        """Return the keys and values that a line of events.jsonl stores for the field `name`."""
        return {name: value}

    def columns(self, name: str) -> dict[str, str]:
        """Return the columns (name -> DuckDB type) for a field called `name` in the run log."""
        return {name: self.column_type}

    def cells(self, value: Any, event: object) -> Cells:
        """Return a tuple with one value for each column that the field has in the run log (see `columns`).

        Args:
            value: value of the field.
            event: the event that the field belongs to. Some types also need other fields of the event.
        """
        return (value,)

    def __str__(self) -> str:
        """Return a text that describes the allowed values. It is shown in docs/events.md."""
        raise NotImplementedError


@dataclass(frozen=True)
class Column(FieldType):
    """A column of the run log with a computed value, which no line of events.jsonl holds. `duckdb` is the DuckDB type."""

    duckdb: str

    def columns(self, name: str) -> dict[str, str]:
        return {name: self.duckdb}


def number(name: str, value: Any) -> float | None:
    """Return `value` as a float, or None if it is NaN, infinite or None. (The worker writes NaN and infinity as None.)

    Raises:
        RunLogError: the value is neither a number nor None, or is too large for a 64-bit float.
    """
    if type(value) is float:
        return value if math.isfinite(value) else None
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RunLogError(f"{name} must be a number, got {value!r}")
    try:
        return float(value)
    except OverflowError:
        raise RunLogError(f"{name} must be a number that fits 64 bits, got a longer one") from None


def number_list(name: str, value: Any, count: int) -> list[float | None]:
    """Check that `value` is a list of `count` numbers, and return them converted by `number`.

    Raises:
        RunLogError: the value is not a list, has another length, or has an entry that is not a number.
    """
    if not isinstance(value, list) or len(value) != count:
        raise RunLogError(f"{name} must be a list of {count} numbers, got {shortened(value)}")
    return [number(name, item) for item in value]


@dataclass(frozen=True)
class WholeNumber(FieldType):
    """A whole number from `low` to `high`, both included."""

    low: int = 0
    high: int = LARGEST

    def read(self, name: str, value: Any, record: Record) -> int:
        if type(value) is not int or not self.low <= value <= self.high:
            bounds = f"of at least {self.low}" if self.high == LARGEST else f"in {self.low}..{self.high}"
            raise RunLogError(f"{name} must be a whole number {bounds}, got {shortened(value)}")
        return value

    def columns(self, name: str) -> dict[str, str]:
        """Return one column (name -> DuckDB type). Its type is the smallest integer type that holds every allowed value."""
        return {name: "INTEGER" if self.high <= LARGEST_INTEGER else "BIGINT"}

    def __str__(self) -> str:
        bounds = f"{self.low} or more" if self.high in (LARGEST, LARGEST_INTEGER) else f"{self.low}..{self.high}"
        return f"whole number, {bounds}"


@dataclass(frozen=True)
class Part(FieldType):
    """A whole number from 0 to the value of another field. The attribute `of` is the name of that field."""

    of: str
    column_type: ClassVar[str] = "BIGINT"

    def read(self, name: str, value: Any, record: Record) -> int:
        return WholeNumber(high=record[self.of]).read(name, value, record)

    def __str__(self) -> str:
        return f"whole number, 0..`{self.of}`"


class PartWithInterval(Part):
    """A number of correctly classified images, in a field named `<prefix>_correct`.

    The attribute `of` is the name of the field that holds the number of all images. The run log also stores the 95 % Wilson
    interval of the accuracy.
    """

    def columns(self, name: str) -> dict[str, str]:
        """Return three columns (name -> DuckDB type).

        They hold the number of correct images, the lower end of the accuracy's interval, and the upper end.
        """
        prefix = name.removesuffix("_correct")
        return super().columns(name) | {f"{prefix}_low": "DOUBLE", f"{prefix}_high": "DOUBLE"}

    def cells(self, value: int | None, event: object) -> Cells:
        """Return three values: the number of correct images, and the ends of the 95 % Wilson interval of the accuracy.

        All three are None if the number is None.
        """
        return (None, None, None) if value is None else (value, *wilson(value, getattr(event, self.of)))


class FiniteNumber(FieldType):
    """A number that is neither NaN nor infinite."""

    column_type = "DOUBLE"

    def read(self, name: str, value: Any, record: Record) -> float:
        if type(value) is float and math.isfinite(value):  # nearly always
            return value
        checked = number(name, value)
        if checked is None:
            raise RunLogError(f"{name} must be a finite number, got {value!r}")
        return checked

    def __str__(self) -> str:
        return "finite number"


class Moment(FieldType):
    """A time in unix seconds, up to the year 5138."""

    column_type = "DOUBLE"

    def read(self, name: str, value: Any, record: Record) -> float:
        if type(value) not in (float, int) or not 0 <= value <= LATEST:
            raise RunLogError(f"{name} must be a time in unix seconds, got {shortened(value)}")
        return float(value)

    def __str__(self) -> str:
        return "unix seconds"


class Number(FieldType):
    """A number, or null for NaN."""

    column_type = "DOUBLE"

    def read(self, name: str, value: Any, record: Record) -> float | None:
        return number(name, value)

    def __str__(self) -> str:
        return "number; null for NaN"


class Flag(FieldType):
    """True or false."""

    column_type = "BOOLEAN"

    def read(self, name: str, value: Any, record: Record) -> bool:
        """Return True if the value is `true`. Any other value, even a missing one, counts as False."""
        return value is True

    def __str__(self) -> str:
        return "true or false"


class Text(FieldType):
    """A string."""

    def read(self, name: str, value: Any, record: Record) -> str:
        if not isinstance(value, str):
            raise RunLogError(f"{name} must be text, got {value!r}")
        return value

    def __str__(self) -> str:
        return "text"


@dataclass(frozen=True)
class OneOf(FieldType):
    """One of several fixed names. `noun` is the word for such a name in error messages, for example "alert level"."""

    noun: str
    names: tuple[str, ...]

    def read(self, name: str, value: Any, record: Record) -> str:
        if not isinstance(value, str) or value not in self.names:
            raise RunLogError(unknown_name(self.noun, value, self.names).removesuffix("."))
        return value

    def __str__(self) -> str:
        return "one of " + ", ".join(f"`{name}`" for name in self.names)


@dataclass(frozen=True)
class Names(FieldType):
    """A list of one or more strings. `noun` is the word for these strings in error messages, for example "operation names"."""

    noun: str
    column_type: ClassVar[str] = "VARCHAR[]"

    def read(self, name: str, value: Any, record: Record) -> list[str]:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value) or not value:
            raise RunLogError(f"{name} must be a list of {self.noun}, got {shortened(value)}")
        return value

    def __str__(self) -> str:
        return f"list of {self.noun}"


class NamedNumbers(FieldType):
    """A JSON object that maps one or more names to numbers."""

    def read(self, name: str, value: Any, record: Record) -> dict[str, float | None]:
        if not isinstance(value, dict) or not value:
            raise RunLogError(f"{name} must be an object of names and numbers, got {shortened(value)}")
        return {key: number(key, item) for key, item in value.items()}

    def __str__(self) -> str:
        return "object of names and numbers; null for NaN"


@dataclass(frozen=True)
class NumberList(FieldType):
    """A list of numbers, one for each entry of another field of the event. `like` is the name of that field."""

    like: str

    def read(self, name: str, value: Any, record: Record) -> list[float | None]:
        return number_list(name, value, len(record[self.like]))

    def __str__(self) -> str:
        return f"list of numbers, one per entry of `{self.like}`"


class GenotypeObject(FieldType):
    """A genotype, stored together with its hash.

    The field `hash` of the event and the column `hash` of the run log hold the hash. When a line of events.jsonl is read, the
    stored hash is ignored and the hash is computed again.
    """

    def read(self, name: str, value: Any, record: Record) -> Genotype:
        try:
            return Genotype.from_dict(value)
        except GenotypeError as problem:
            raise RunLogError(str(problem).removesuffix(".")) from None

    def to_json(self, name: str, value: Genotype) -> dict[str, Any]:
        """Return {name: genotype as a JSON object, "hash": hash of the genotype}."""
        return {name: value.to_dict(), "hash": value.hash}

    def columns(self, name: str) -> dict[str, str]:
        """Return two columns (name -> DuckDB type): one for the genotype as JSON text, and one for the hash of the genotype."""
        return {name: self.column_type, "hash": self.column_type}

    def cells(self, value: Genotype | None, event: object) -> Cells:
        """Return (genotype as JSON text, hash of the genotype), or (None, None) if there is no genotype."""
        return (None, None) if value is None else (value.to_json(), value.hash)

    def __str__(self) -> str:
        return "object as of `Genotype.to_dict`, and its `hash` in a field of that name"


class JsonObject(FieldType):
    """Any JSON object. The run log stores it as text with sorted keys."""

    def read(self, name: str, value: Any, record: Record) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise RunLogError(f"{name} must be an object, got {shortened(value)}")
        if flaw := flaw_in(value):
            raise RunLogError(f"{name} must be as the worker writes it, and {flaw}")
        return value

    def cells(self, value: Mapping[str, Any] | None, event: object) -> Cells:
        """Return a tuple with one value, the object as JSON text. A missing object becomes "{}"."""
        return (json.dumps(value or {}, sort_keys=True),)

    def __str__(self) -> str:
        return "object"


@dataclass(frozen=True)
class Unless(FieldType):
    """A value that is required if the event has no field named `other`, and ignored if the event has this field.

    Attributes:
        other: name of the other field.
        type: type of the value.
    """

    other: str
    type: FieldType

    def read(self, name: str, value: Any, record: Record) -> Any:
        """Return the checked value, or None if the line of events.jsonl has a value in the field `self.other`."""
        return None if record.get(self.other) is not None else self.type.read(name, value, record)

    def to_json(self, name: str, value: Any) -> dict[str, Any]:
        return self.type.to_json(name, value)

    def columns(self, name: str) -> dict[str, str]:
        return self.type.columns(name)

    def cells(self, value: Any, event: object) -> Cells:
        return self.type.cells(value, event)

    def __str__(self) -> str:
        return f"{self.type}; not with `{self.other}`"


class Field(NamedTuple):
    """A declared field of an event, or a declared column of a row.

    Attributes:
        name: name of the attribute in the class. The key in a line of events.jsonl and the column have the same name.
        type: type of the values.
        meaning: one line of documentation.
        default: value for events without the field; `dataclasses.MISSING` if every event must have the field.
    """

    name: str
    type: FieldType
    meaning: str
    default: Any


_fields: dict[type, tuple[Field, ...]] = {}


def fields_of(declaration: type) -> tuple[Field, ...]:
    """Return the fields that a class declares with `Annotated`, in the order of declaration."""
    if declaration not in _fields:
        defaults = {field.name: field.default for field in dataclasses.fields(declaration)} \
            if dataclasses.is_dataclass(declaration) else {}
        hints = get_type_hints(declaration, include_extras=True)
        declared = {name: hint.__metadata__ for name, hint in hints.items() if hasattr(hint, "__metadata__")}
        _fields[declaration] = tuple(Field(name, of, meaning, defaults.get(name, dataclasses.MISSING))
                                     for name, (of, meaning) in declared.items())
    return _fields[declaration]


def columns_of(row: type) -> dict[str, str]:
    """Return the columns (name -> DuckDB type) of all fields that the class `row` declares."""
    return {column: kind for field in fields_of(row) for column, kind in field.type.columns(field.name).items()}


Reader = tuple[str, Callable[[str, Any, Record], Any], Any]


def readers_of(declaration: type) -> tuple[Reader, ...]:
    """Return one tuple (name, `read` method of the field's type, default) for each field that a class declares.

    The default is `dataclasses.MISSING` if the field has no default or if the `read` method handles missing values.
    """
    return tuple((field.name, field.type.read, dataclasses.MISSING if isinstance(field.type, Unless) else field.default)
                 for field in fields_of(declaration))
