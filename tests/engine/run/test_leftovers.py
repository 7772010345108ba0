"""What killed processes leave behind is removed at the next start; what belongs to others stays."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from engine.run import checkpoint
from engine.run.leftovers import OLD_S, remove_folders, remove_unfinished, scratch_folder, scratch_prefix


def aged(path: Path, seconds: float) -> Path:
    """Create a folder with a file, last changed this long ago."""
    path.mkdir()
    (path / "content").write_text("x")
    before = path.stat().st_mtime - seconds
    os.utime(path, (before, before))
    return path


def dead_pid() -> int:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def test_only_old_folders_of_ended_processes_are_removed(tmp_path: Path) -> None:
    gone = dead_pid()
    left = [aged(tmp_path / f"rampart-sql-{gone}-abc_1", 2 * OLD_S), aged(tmp_path / f"rampart-preflight-{gone}-k", 2 * OLD_S),
            aged(tmp_path / "rampart-import-old_name", 100 * OLD_S)]
    kept = [aged(tmp_path / f"rampart-sql-{os.getpid()}-abc", 2 * OLD_S), aged(tmp_path / f"rampart-export-{gone}-new", 1.0),
            aged(tmp_path / "rampart-import-recent", 2 * OLD_S), aged(tmp_path / f"rampart-kernels-{gone}", 100 * OLD_S),
            aged(tmp_path / "data", 100 * OLD_S)]
    (tmp_path / f"rampart-sql-{gone}-link").symlink_to(tmp_path / "data")
    remove_folders(tmp_path)
    assert not any(one.exists() for one in left) and all((one / "content").exists() for one in kept)


def test_a_killed_process_leaves_a_folder_that_the_next_one_removes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = ("import os, signal; from engine.run.leftovers import scratch_folder\n"
            "with scratch_folder('import') as folder: print(folder, flush=True); os.kill(os.getpid(), signal.SIGKILL)")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    folder = Path(done.stdout.strip())
    assert folder.parent == tmp_path and folder.is_dir()
    os.utime(folder, (0, 0))
    with scratch_folder("import") as own:
        assert own.name.startswith(scratch_prefix("import")) and not folder.exists()
    assert list(tmp_path.iterdir()) == []


def test_unfinished_files_of_a_killed_worker_are_removed(tmp_path: Path) -> None:
    for name in (f".next.pt.{dead_pid()}.a1b2c3", f".last.pt.{os.getpid()}.a1b2c3", "last.pt", ".reserve", ".hidden.pt"):
        (tmp_path / name).write_text("x")
    remove_unfinished(tmp_path)
    assert {one.name for one in tmp_path.iterdir()} == {f".last.pt.{os.getpid()}.a1b2c3", "last.pt", ".reserve", ".hidden.pt"}
    remove_unfinished(tmp_path / "missing")


def test_a_damaged_zip_directory_falls_back_to_the_previous_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "20261118-0906-arnas-digits-7f3a" / "checkpoint"
    folder.mkdir(parents=True)
    checkpoint.save(folder, {"step": 1, "weights": torch.ones(4)})
    checkpoint.save(folder, {"step": 2, "weights": torch.ones(4)})
    intact = (folder / "last.pt").read_bytes()
    end = max(0, intact.rfind(b"PK\x06\x06"))
    harmless = 0
    for place in range(end, len(intact)):  # the records that say where the directory is, byte by byte
        (folder / "last.pt").write_bytes(intact[:place] + b"\xff" + intact[place + 1:])
        state, problems = checkpoint.load(folder)
        assert state is not None and state["step"] == (1 if problems else 2)
        harmless += not problems
        (folder / "last.corrupt").unlink(missing_ok=True)
    assert harmless < (len(intact) - end) / 2
