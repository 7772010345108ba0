"""Damaged copies of a finished run: one copy per value that no file should hold, in one field of one of its files."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.run.events import encode
from tests.engine.run.event_examples import EXAMPLES

# Whole numbers of 400 digits, NaN and infinity can be written as JSON by Python, but nothing of ours writes them.
POISONS: dict[str, Any] = {
    "half of a surrogate pair": "\ud800", "huge": 10**400, "as text": "0.15", "infinite": float("inf"), "no number": float("nan"),
    "negative": -1, "a list": [[]], "an object": {"a": {}}, "underscores": "a_b_c", "64 bits": 2**63, "nothing": None,
    "nearly infinite": 1e308, "true": True, "a fraction": 0.5, "empty": ""}
FILES = ("run.json", "process.json", "exit.json", "environment.json", "results/ended.json", "marks.json", "control/resume",
         "results/genotype.json")
FURTHER = {"marks.json": {"tags": ["a"], "note": "n", "archived": False}, "control/resume": {"after_attempt": 1, "at": 1.0},
           "results/ended.json": {"attempt": 1, "status": "finished", "cause": "", "ended": 1_795_000_000.0},
           "environment.json": {"threads": 1, "device": "cpu", "device_name": "x86_64", "versions": {"torch": "2.13.0"}}}


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of every field of a JSON value, and of the first two entries of every list."""
    if path:
        yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, one in inside:
        yield from leaves(one, (*path, key))


def poisoned(value: Any, path: tuple[str | int, ...], poison: Any) -> Any:
    """Return a copy of a JSON value with `poison` in the field at `path`."""
    changed = copy.deepcopy(value)
    holder = changed
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = poison
    return changed


class Planter:
    """A writer of damaged copies of the run `model`, whose name begins like that of the model and ends with a number."""

    def __init__(self, model: Path) -> None:
        self.model = model
        self.planted: dict[str, str] = {}

    def copy(self, what: str) -> Path:
        """Return the folder of a new, still intact copy. `what` says what will be wrong with it."""
        name = f"{self.model.name[:-4]}{len(self.planted) + 0x1000:04x}"
        folder = self.model.with_name(name)
        shutil.copytree(self.model, folder, copy_function=os.link)
        self.replace(folder / "run.json", {**json.loads((self.model / "run.json").read_text()), "id": name})
        self.planted[name] = what
        return folder

    @staticmethod
    def replace(path: Path, value: Any) -> None:
        """Write JSON to a file of a copy. The copies share unchanged files with the model."""
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(json.dumps(value))

    def plant_documents(self, poisons: Mapping[str, Any], files: tuple[str, ...] = FILES) -> None:
        """Write a copy for each poison in each field of each small file."""
        for name in files:
            path = self.model / name
            value = json.loads(path.read_text()) if path.exists() else FURTHER.get(name)
            for at in leaves(value) if value else ():
                for title, poison in poisons.items():
                    folder = self.copy(f"{name} {'.'.join(map(str, at))}: {title}")
                    before = json.loads((folder / name).read_text()) if name == "run.json" else value
                    self.replace(folder / name, poisoned(before, at, poison))

    def plant_events(self, poisons: Mapping[str, Any]) -> None:
        """Write one copy whose events.jsonl holds, besides the model's lines, one line for each poison in each field."""
        folder = self.copy("events.jsonl: every field of every event")
        stamp = {"t": 1_795_000_100.0, "attempt": 1, "step": 50, "epoch": 1}
        lines = [(self.model / "events.jsonl").read_bytes()]
        for event in EXAMPLES.values():
            record = json.loads(encode({"event": event.kind, **stamp, **event.to_json()}))
            lines += [json.dumps(poisoned(record, at, poison)).encode() + b"\n"
                      for at in leaves(record) if at[-1] != "event" for poison in poisons.values()]
        path = folder / "events.jsonl"
        path.unlink()
        path.write_bytes(b"".join(lines))

    def plant_bytes(self, files: tuple[str, ...]) -> None:
        """Write copies with files that are empty, cut off, deeply nested, folders or of arbitrary bytes, and with odd names."""
        odd = {"empty": b"", "cut off": b'{"attempt": 1, ', "nested": b"[" * 100_000, "deep": b'{"a":' * 400 + b"1" + b"}" * 400,
               "bytes": bytes(range(256)), "long number": b'{"attempt": ' + b"9" * 100_000 + b"}"}
        for name in files:
            for title, content in odd.items():
                path = self.copy(f"{name}: {title}") / name
                path.parent.mkdir(exist_ok=True)
                path.unlink(missing_ok=True)
                path.write_bytes(content)
            path = self.copy(f"{name}: a folder") / name
            path.unlink(missing_ok=True)
            path.mkdir(parents=True)
        folder = self.copy("names that are not UTF-8")
        for place in (folder, folder / "results", folder / "control"):
            place.mkdir(exist_ok=True)
            (Path(os.fsdecode(os.fsencode(place) + b"/\xff\xfe.json"))).write_text("{}")
