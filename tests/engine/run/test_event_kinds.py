from __future__ import annotations

import subprocess
import sys
from dataclasses import MISSING
from pathlib import Path

import pytest

from engine.errors import RunLogError
from engine.run.attack_events import AttackResult
from engine.run.event import Stamp
from engine.run.event_docs import document
from engine.run.event_fields import fields_of
from engine.run.event_kinds import KINDS, Alert, Metric, NetworkBuilt, Progress, read
from engine.run.events import EventWriter, parse
from tests.engine.run.event_examples import EXAMPLES

STAMP = {"t": 1.0, "attempt": 1, "step": 2, "epoch": 3}


def test_there_is_an_example_of_every_kind() -> None:
    assert {event.kind for event in EXAMPLES.values()} == set(KINDS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_event_survives_its_line(tmp_path: Path, name: str) -> None:
    event = EXAMPLES[name]
    writer = EventWriter(tmp_path / "events.jsonl", "a-run", 2)
    writer.write(event, step=5, epoch=1)
    writer.close()
    header, line = (tmp_path / "events.jsonl").read_bytes().splitlines()
    assert read(parse(header)) is None
    entry = read(parse(line))
    assert entry is not None
    stamp, again = entry
    assert (stamp.attempt, stamp.step, stamp.epoch) == (2, 5, 1)
    assert type(again) is type(event) and again.to_json() == event.to_json()
    assert list(parse(line))[:5] == ["event", *STAMP]


def test_missing_optional_fields_have_their_defaults() -> None:
    entry = read({"event": "progress", **STAMP, "phase": "search", "done": 1, "total": 2, "unit": None})
    assert entry == (Stamp(1.0, 1, 2, 3), Progress(phase="search", done=1, total=2))
    entry = read({"event": "metric", **STAMP, "split": "select", "values": {"loss": None}})
    assert entry is not None and entry[1] == Metric(split="select", values={"loss": None})


def test_unknown_fields_are_ignored_and_absent_ones_are_not_written() -> None:
    entry = read({"event": "alert", **STAMP, "level": "info", "text": "hello", "colour": "red"})
    assert entry is not None and entry[1] == Alert(level="info", text="hello")
    assert "part_of" not in EXAMPLES["attack"].to_json() and "beta" not in EXAMPLES["alpha"].to_json()


def test_a_network_made_by_hand_ignores_the_fields_of_derived_ones() -> None:
    record = {"parameters": 1, "macs": 2, "hand_made": "resnet-18", "channels": "many", "genotype": {}}
    assert NetworkBuilt.from_json(record) == NetworkBuilt(parameters=1, macs=2, hand_made="resnet-18")


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_line_without_a_required_field_is_refused(name: str) -> None:
    kind, record = type(EXAMPLES[name]), EXAMPLES[name].to_json()
    for field in fields_of(kind):
        rest = {key: value for key, value in record.items() if key != field.name}
        if field.default is MISSING:
            with pytest.raises(RunLogError):
                kind.from_json(rest)
        elif name not in ("network", "network made by hand"):
            assert getattr(kind.from_json(rest), field.name) == field.default


def test_an_accuracy_outside_its_interval_is_refused() -> None:
    record = EXAMPLES["attack"].to_json() | {"low": 0.8}
    with pytest.raises(RunLogError, match="low <= accuracy <= high must be fractions"):
        AttackResult.from_json(record)


def test_the_documentation_is_that_of_the_declarations() -> None:
    path = Path(__file__).resolve().parents[3] / "docs" / "events.md"
    assert path.read_text(encoding="utf-8") == document(), "run `python -m engine.run.event_docs > docs/events.md`"


def test_every_field_has_one_line_of_documentation() -> None:
    rows = [kind.row for kind in KINDS.values() if kind.row]
    for field in (field for declaration in (Stamp, *KINDS.values(), *rows) for field in fields_of(declaration)):
        assert field.meaning.endswith(".") and "\n" not in field.meaning


def test_a_worker_loads_events_without_torch_and_numpy() -> None:
    code = "import sys, engine.run.session; sys.exit(bool({'torch', 'numpy', 'duckdb'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
