from __future__ import annotations

import os
import pickle
import resource
import shutil
from pathlib import Path

import pytest
import torch

from engine.errors import CheckpointError
from engine.run import checkpoint


def folder_with(path: Path, *steps: int) -> Path:
    folder = path / "a-run" / "checkpoint"
    folder.parent.mkdir()
    for step in steps:
        checkpoint.save(folder, {"step": step, "weights": torch.full((3,), float(step))})
    return folder


def test_last_and_previous_are_kept(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, 1, 2, 3)
    assert sorted(os.listdir(folder)) == ["last.pt", "previous.pt"]
    state, problems = checkpoint.load(folder)
    assert state["step"] == 3 and torch.equal(state["weights"], torch.full((3,), 3.0)) and problems == []
    assert checkpoint.read(folder / "previous.pt")["step"] == 2


def test_no_checkpoint_is_a_beginning(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path / "checkpoint") == (None, [])


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 torn", b"\x80\x04junk"])
def test_a_corrupt_last_falls_back_and_never_becomes_the_previous(tmp_path: Path, damage: bytes) -> None:
    folder = folder_with(tmp_path, 1, 2)
    (folder / "last.pt").write_bytes(damage)
    state, problems = checkpoint.load(folder)
    assert state["step"] == 1
    assert len(problems) == 1 and "last.pt is corrupt" in problems[0]
    checkpoint.save(folder, {"step": 2})
    assert checkpoint.read(folder / "previous.pt")["step"] == 1


def test_a_torn_copy_falls_back(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, 1, 2)
    whole = (folder / "last.pt").read_bytes()
    (folder / "last.pt").write_bytes(whole[: len(whole) // 2])
    assert checkpoint.load(folder)[0]["step"] == 1


def test_a_flipped_bit_falls_back(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, 1)
    checkpoint.save(folder, {"step": 2, "weights": torch.arange(50_000.0)})
    damaged = bytearray((folder / "last.pt").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (folder / "last.pt").write_bytes(damaged)
    assert checkpoint.load(folder)[0]["step"] == 1


def test_both_corrupt_is_a_sentence(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, 1, 2)
    for name in ("last.pt", "previous.pt"):
        (folder / name).write_bytes(b"x")
    with pytest.raises(CheckpointError, match="none of last.pt, previous.pt in a-run/checkpoint is"):
        checkpoint.load(folder)


def test_killed_between_the_two_renames(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, 1, 2)
    (folder / "last.pt").rename(folder / "next.pt")
    assert checkpoint.load(folder)[0]["step"] == 2
    assert checkpoint.read(folder / "last.pt")["step"] == 2 and not (folder / "next.pt").exists()  # other runs read last.pt


def test_killed_before_the_two_renames(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, 1, 2)
    shutil.copy(folder / "last.pt", folder / "next.pt")
    shutil.copy(folder / "previous.pt", folder / "last.pt")
    assert checkpoint.load(folder)[0]["step"] == 2
    assert [checkpoint.read(folder / name)["step"] for name in ("last.pt", "previous.pt")] == [2, 1]


def test_a_foreign_pickle_executes_nothing(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'executed'}",)

    folder = folder_with(tmp_path)
    folder.mkdir()
    (folder / "last.pt").write_bytes(pickle.dumps(Evil()))
    torch.save({"schema": 1, "evil": Evil()}, folder / "previous.pt")
    with pytest.raises(CheckpointError):
        checkpoint.load(folder)
    assert not (tmp_path / "executed").exists()


def test_a_full_disk_leaves_both_as_they_were(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, 1, 2)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(OSError):
            checkpoint.save(folder, {"step": 3, "weights": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(os.listdir(folder)) == ["last.pt", "previous.pt"]
    assert checkpoint.load(folder)[0]["step"] == 2


def test_hash_of_tensors_sees_names_shapes_and_values() -> None:
    one = {"a": torch.zeros(4), "b": torch.ones(2)}
    assert checkpoint.tensors_hash(one) == checkpoint.tensors_hash(dict(reversed(one.items())))
    for other in ({"a": torch.zeros(2, 2), "b": torch.ones(2)}, {"a": torch.zeros(4), "c": torch.ones(2)},
                  {"a": torch.zeros(4), "b": torch.full((2,), 1.0000001)}):
        assert checkpoint.tensors_hash(one) != checkpoint.tensors_hash(other)


def test_a_checkpoint_ahead_of_its_events_is_not_used(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    for step, length in ((1, 100), (2, 200)):
        checkpoint.save(folder, {"step": step, "events_bytes": length, "events_crc32": 7})
    assert checkpoint.load(folder, has_events=lambda events: events == (200, 7))[0]["step"] == 2
    state, (problem,) = checkpoint.load(folder, has_events=lambda events: events.length <= 150)
    assert state["step"] == 1
    assert problem == ("Events before checkpoint last.pt are missing: events.jsonl had 200 bytes then, and is shorter or "
                       "damaged. The run uses the previous one.")
    checkpoint.save(folder, {"step": 2, "events_bytes": 180})
    assert checkpoint.read(folder / "previous.pt")["step"] == 1  # the checkpoint that was not used never comes back


def test_a_run_begins_again_if_no_checkpoint_has_its_events(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    for step, length in ((1, 100), (2, 200)):
        checkpoint.save(folder, {"step": step, "events_bytes": length})
    state, problems = checkpoint.load(folder, has_events=lambda events: False)
    assert state is None and len(problems) == 2 and all("The run begins again at step 0" in one for one in problems)
    assert checkpoint.load(folder) == (None, [])


def test_a_checkpoint_of_an_older_version_tells_no_length_and_is_used(tmp_path: Path) -> None:
    assert checkpoint.load(folder_with(tmp_path, 1), has_events=lambda events: events == (0, None))[0]["step"] == 1


def test_a_damaged_directory_of_the_archive_falls_back_to_the_previous_checkpoint(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, 1, 2)
    intact = {name: (folder / name).read_bytes() for name in ("last.pt", "previous.pt")}
    directory = intact["last.pt"].index(b"PK\x01\x02")
    found = set()
    for at in range(directory, len(intact["last.pt"]), 7):
        for path in folder.iterdir():
            path.unlink()
        for name, data in intact.items():
            (folder / name).write_bytes(data)
        (folder / "last.pt").write_bytes(intact["last.pt"][:at] + b"\xff\xff" + intact["last.pt"][at + 2:])
        found.add(checkpoint.load(folder)[0]["step"])
    assert found <= {1, 2} and 1 in found
