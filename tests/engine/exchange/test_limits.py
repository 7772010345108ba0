"""Small files that stand for gigabytes: refused before they fill the memory, with a sentence."""

from __future__ import annotations

import resource
import tracemalloc
import zipfile
from pathlib import Path

import pytest
import torch

from engine.data.archives import LARGEST_MEMBER, read_files
from engine.errors import CheckpointError, DataError, GenotypeError
from engine.exchange.curves import read_weights
from engine.exchange.limits import bounded_memory
from engine.exchange.reading import MOST_EPOCHS, epochs_in
from engine.exchange.weights import network_tensors
from engine.log.ingest import CHUNK_BYTES, LONGEST_LINE, chunks
from engine.run import checkpoint
from tests.engine.exchange.public_files import printed
from tests.sample_runs import genotype_at


def sparse(path: Path, size: int, beginning: bytes = b"") -> Path:
    """Write a file that claims a size without using the disk."""
    with path.open("wb") as file:
        file.write(beginning)
        file.truncate(size)
    return path


def compressed(path: Path) -> Path:
    """Write a checkpoint of a few kilobytes whose tensors have 64 MB."""
    torch.save({"schema": 1, "stem.0.weight": torch.zeros(2**24)}, path)
    with zipfile.ZipFile(path) as archive:
        content = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    assert path.stat().st_size < 200_000
    return path


def test_a_compressed_checkpoint_is_refused_unread(tmp_path: Path) -> None:
    path = compressed(tmp_path / "small.pt")
    tracemalloc.start()
    for read in (network_tensors, checkpoint.read):
        with pytest.raises(CheckpointError, match=r"is compressed"):
            read(path)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_a_tensor_that_repeats_one_entry_is_refused(tmp_path: Path) -> None:
    torch.save({"stem.0.weight": torch.zeros(1).expand(2**34)}, tmp_path / "view.pt")
    with pytest.raises(CheckpointError, match=r"must hold all their entries, got a repeated one for 'stem.0.weight'; save"):
        network_tensors(tmp_path / "view.pt")


def test_files_that_claim_gigabytes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"alphas.npy must have at most 64 MiB, got 8,192 MiB; is it the right file"):
        read_weights(sparse(tmp_path / "alphas.npy", 2**33))
    with pytest.raises(CheckpointError, match=r"weights.pt must have at most 4,096 MiB, got 8,192 MiB"):
        network_tensors(sparse(tmp_path / "weights.pt", 2**33))
    sparse(tmp_path / "wnids.txt", LARGEST_MEMBER + 1)
    with pytest.raises(DataError, match=r"must have at most \d+ bytes, got \d+; restore it"):
        read_files(tmp_path, ["wnids.txt"])


def test_a_log_of_too_many_epochs_is_refused() -> None:
    line = f"genotype = {printed(genotype_at(1))}\n"
    with pytest.raises(GenotypeError, match=r"must have at most 10,000 epochs, got 10,001; import only the last part"):
        epochs_in(line * (MOST_EPOCHS + 1))


def test_a_line_without_an_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = sparse(tmp_path / "events.jsonl", 2**32, b'{"event":"header"}\n')
    tracemalloc.start()
    assert list(chunks(path, 0, CHUNK_BYTES))[0] == (0, b'{"event":"header"}\n')
    assert tracemalloc.get_traced_memory()[1] < 3 * LONGEST_LINE
    tracemalloc.stop()


def test_reading_has_a_bound_that_ends_with_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(MemoryError), bounded_memory(tmp_path / "file"):
        bytearray(2**34)
    assert resource.getrlimit(resource.RLIMIT_AS) == before
