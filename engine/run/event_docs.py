"""The generator of docs/events.md, which documents the events declared in `engine.run.event_kinds`.

    python -m engine.run.event_docs > docs/events.md
"""

from __future__ import annotations

import json
from dataclasses import MISSING

from engine.run.event import Event, Stamp
from engine.run.event_fields import Field, Unless, fields_of
from engine.run.event_kinds import KINDS, SCHEMA, Progress

_INTRODUCTION = f"""# Events

Written by `python -m engine.run.event_docs`; edit `engine/run/event_kinds.py` or `attack_events.py` instead.

A run's `events.jsonl` holds one JSON object per line. The first line is the header,
`{{"event": "header", "schema": {SCHEMA}, "run": "<id>"}}`. Every other line has the field `event`, the fields below, and those of
its kind. NaN and infinity are stored as null. A line is complete or absent, and readers ignore everything after the last
newline. They ignore unknown fields too, so a field can be added without a new schema. An optional field may be missing or null. A
line that does not fit its kind becomes a row of the table `faults`, which the run page shows as an alert; other lines
still count.

The run log keeps the events in DuckDB tables. Every `_raw` table also has the columns `number` (of the run in this index), `seq`
(byte offset of the line), `t`, `attempt`, `step` and `epoch`. If a later attempt can supersede events, a view without `_raw`
holds each step once.
"""


def document() -> str:
    """Return the text of docs/events.md."""
    parts = [_INTRODUCTION, f"## Every line\n\n{_doc(Stamp)}\n\n{_field_table(Stamp)}\n"]
    return "\n".join([*parts, *(_section(kind) for kind in KINDS.values())])


def _section(kind: type[Event]) -> str:
    """Return the Markdown section about one kind of event: heading, description, fields and columns."""
    table = f"Table `{kind.table}`" if kind is Progress else f"Table `{kind.table}_raw`"
    parts = [f"## {kind.kind}", _doc(kind), _field_table(kind) if fields_of(kind) else "No fields of its own."]
    if kind.row is None:
        parts.append(f"{table}: " + ", ".join(f"`{name}` {duckdb}" for name, duckdb in kind.columns().items()) + ".")
    else:
        rows = [(field.name, *field.type.columns(field.name).values(), field.meaning) for field in fields_of(kind.row)]
        parts += [f"{table}. {_doc(kind.row)}", _table(("column", "type", "meaning"), rows)]
    return "\n\n".join(parts) + "\n"


def _field_table(declaration: type) -> str:
    return _table(("field", "value", "meaning"), [(field.name, _value(field), field.meaning) for field in fields_of(declaration)])


def _value(field: Field) -> str:
    """Return a description of a field's allowed values. For an optional field, it also names the default."""
    if field.default is MISSING or isinstance(field.type, Unless):
        return str(field.type)
    return f"{field.type}; optional" + ("" if field.default is None else f", {json.dumps(field.default)} if missing")


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *((f"`{row[0]}`", *row[1:]) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _doc(declaration: type) -> str:
    return " ".join((declaration.__doc__ or "").split())


if __name__ == "__main__":
    print(document(), end="")
