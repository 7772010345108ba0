"""The hash of the code that determines results: kept between processes, and computed anew when a source file changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.run import provenance


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small copy of the engine's code, beside which the hash is kept."""
    folder = tmp_path / "engine"
    for name, text in {"train/schedule.py": "rate = 0.1\n", "run/provenance.py": "", "run/__pycache__/other.pyc": ""}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.setattr(provenance, "ENGINE", folder)
    monkeypatch.setattr(provenance, "__file__", str(folder / "run" / "provenance.py"))
    return folder


def numerics() -> str:
    """Return the hash as a new process computes or finds it."""
    provenance.numerics.cache_clear()
    return provenance.numerics()


def test_the_hash_of_the_code_is_kept_until_the_code_changes(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[Path] = []
    without_prose = provenance._without_prose
    monkeypatch.setattr(provenance, "_without_prose", lambda path: parsed.append(path) or without_prose(path))
    source = engine / "train" / "schedule.py"
    first = numerics()
    assert numerics() == first and parsed == [source]
    source.write_text("rate = 0.10  # the same number\n")
    assert numerics() == first and parsed == [source, source]
    source.write_text("rate = 0.25\n")
    changed = numerics()
    assert changed != first
    (kept,) = (engine / "run" / "__pycache__").glob("*.numerics")
    kept.write_text("damaged")
    assert numerics() == changed


def test_without_a_folder_of_compiled_files_the_hash_is_computed_each_time(engine: Path) -> None:
    (engine / "run" / "__pycache__" / "other.pyc").unlink()
    (engine / "run" / "__pycache__").rmdir()
    assert numerics() == numerics()
    assert not list(engine.rglob("*.numerics"))
