"""Official files are read, checked and prepared: every format packed, unpacked and damaged."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import resource
import subprocess
import sys
import tarfile
import threading
import zipfile
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from engine.data.catalogue import DATASETS
from engine.data.dataset import SPLITS, Dataset
from engine.data.fetching import fetch, fetch_official, presence, presences
from engine.data.loading import checked, load_split
from engine.data.prepared import absence, load, prepared_place, record_of
from engine.data.splits import splits_of
from engine.data.summary import data_hash
from engine.errors import DataError
from tests.engine.data.small import MAKERS, Small, described_source, small, tar_gz

OFFICIAL = [name for name, dataset in DATASETS.items() if dataset.sources]

# Python 3.11 has had it since 3.11.4 only; these archives are our own.
SAFELY = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAMPART_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture(params=OFFICIAL)
def made(request: pytest.FixtureRequest, home: Path, tmp_path: Path) -> Small:
    return small(request.param, tmp_path / "files")


def unpacked(one: Small, folder: Path) -> Path:
    """Return a folder in which the archives were unpacked by hand."""
    for path in one.folder.iterdir():
        if path.suffix == ".gz":
            with tarfile.open(path) as archive:
                archive.extractall(folder, **SAFELY)
        elif path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                archive.extractall(folder)
        else:
            folder.mkdir(exist_ok=True)
            (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_every_official_format_is_tested() -> None:
    assert set(MAKERS) == set(OFFICIAL)


def test_an_archive_becomes_the_arrays_that_are_in_it(made: Small) -> None:
    seen: list[tuple[str, int, int]] = []
    assert absence(made.dataset)
    fetch_official(made.dataset, made.folder, lambda *told: seen.append(told))
    assert not absence(made.dataset)
    images, labels = checked(made.dataset)
    assert images.dtype == np.uint8 and np.array_equal(images, made.images) and np.array_equal(labels, made.labels)
    assert seen[-1] == ("preparing", len(labels), len(labels))
    assert record_of(made.dataset.name)["hash"] == data_hash(made.dataset)
    assert data_hash(made.dataset) == hashlib.sha256(made.images.tobytes() + made.labels.astype("<i8").tobytes()).hexdigest()[:16]


def test_what_it_unpacks_to_is_as_good(made: Small, tmp_path: Path) -> None:
    folder = unpacked(made, tmp_path / "unpacked")
    fetch_official(made.dataset, folder)
    assert np.array_equal(checked(made.dataset)[0], made.images)
    inner = made.dataset.sources[0].unpacked
    if inner:  # the folder itself may be named too
        first = record_of(made.dataset.name)["hash"]
        fetch_official(made.dataset, folder / inner)
        assert record_of(made.dataset.name)["hash"] == first


def test_the_official_test_images_are_the_test_split_alone(made: Small) -> None:
    fetch_official(made.dataset, made.folder)
    splits = splits_of(made.dataset, seed=0)
    count = made.dataset.test_images
    x, y = load_split(made.dataset, splits, "test")
    assert np.array_equal(x[...].numpy(), made.images[-count:].astype(np.float32) / np.float32(255))
    assert np.array_equal(y.numpy(), made.labels[-count:])
    assert splits.indices(*(name for name in SPLITS if name != "test")).max() < len(made.labels) - count


def test_a_damaged_archive_is_refused_by_its_checksum(made: Small) -> None:
    path = made.folder / made.dataset.sources[0].file
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(DataError, match="must have the SHA-256 checksum"):
        fetch_official(made.dataset, made.folder)
    assert absence(made.dataset) and not list(prepared_place(made.dataset.name).glob("*.npy"))


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_what_is_no_archive_is_a_sentence(made: Small, content: bytes | None) -> None:
    source = made.dataset.sources[0]
    path = made.folder / source.file
    path.write_bytes(path.read_bytes()[:2000] if content is None else content)
    damaged = replace(made.dataset, sources=(described_source(source, path), *made.dataset.sources[1:]))
    with pytest.raises(DataError, match="must (be|hold)|cannot be read") as refusal:
        fetch_official(damaged, made.folder)
    assert "\n" not in str(refusal.value) and not list(prepared_place(made.dataset.name).glob("*.npy"))


def test_an_archive_with_other_images_than_the_facts_is_refused(made: Small) -> None:
    for wrong, words in ((replace(made.dataset, images=made.dataset.images + 1), "must hold 51|must hold [0-9]+ images"),
                         (replace(made.dataset, test_images=made.dataset.test_images - 1), "of them in its test set, got"),
                         (replace(made.dataset, classes=made.dataset.classes + 1), "must hold the labels 0 to")):
        with pytest.raises(DataError, match=words):
            fetch_official(wrong, made.folder)
    assert absence(made.dataset)


def test_a_folder_without_the_files_is_a_sentence(made: Small, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"must hold {made.dataset.sources[0].file}.*leave --from out to download it"):
        fetch_official(made.dataset, tmp_path)


def test_a_record_cut_of_cifar_is_refused(home: Path, tmp_path: Path) -> None:
    one = small("cifar10", tmp_path / "files")
    folder = unpacked(one, tmp_path / "unpacked")
    path = folder / "cifar-10-batches-bin" / "data_batch_2.bin"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match="data_batch_2.bin .* records of 3073 bytes"):
        fetch_official(one.dataset, folder)
    path.unlink()
    with pytest.raises(DataError, match="lacks data_batch_2.bin"):
        fetch_official(one.dataset, folder)


def test_nothing_of_an_archive_is_written_elsewhere(home: Path, tmp_path: Path) -> None:
    one = small("cifar10", tmp_path / "files")
    source, path = one.dataset.sources[0], tmp_path / "files" / one.dataset.sources[0].file
    with tarfile.open(path) as archive:
        files = {member.name.split("/")[1]: archive.extractfile(member).read() for member in archive}
    tar_gz(path, "../../escaped", files | {"../../../escaped.txt": b"x"})
    with pytest.raises(DataError, match="lacks"):
        fetch_official(replace(one.dataset, sources=(described_source(source, path),)), one.folder)
    assert not list(tmp_path.rglob("*escaped*"))


def test_a_dataset_is_downloaded_into_the_data_folder_and_prepared(home: Path, tmp_path: Path) -> None:
    one = small("svhn", tmp_path / "files")

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(one.folder))

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        dataset = replace(one.dataset, sources=tuple(
            described_source(source, one.folder / source.file, f"http://127.0.0.1:{server.server_port}/{source.file}")
            for source in one.dataset.sources))
        fetch_official(dataset)
        server.shutdown()
        thread.join()
    assert np.array_equal(checked(dataset)[0], one.images)
    assert {path.name for path in (home / "svhn").iterdir()} == {"train_32x32.mat", "test_32x32.mat"}
    fetch_official(dataset)  # it is there: nothing is asked of a server that is gone
    for path in prepared_place("svhn").iterdir():
        path.unlink()
    fetch_official(dataset)  # the files are still there
    assert np.array_equal(checked(dataset)[0], one.images)


def test_a_preparation_that_lost_a_file_counts_as_absent(made: Small) -> None:
    fetch_official(made.dataset, made.folder)
    place = prepared_place(made.dataset.name)
    images = next(place.glob("images-*.npy"))
    content = images.read_bytes()
    images.write_bytes(content[:-1])
    assert "must be prepared" in absence(made.dataset)
    with pytest.raises(DataError, match=f"rampart dataset fetch {made.dataset.name}"):
        load(made.dataset.name)
    images.write_bytes(content)
    assert not absence(made.dataset)
    (place / "dataset.json").write_text("{")
    assert absence(made.dataset)


def test_a_full_disk_while_preparing_leaves_what_was_there(home: Path, tmp_path: Path) -> None:
    one = small("cifar10", tmp_path / "files")
    fetch_official(one.dataset, one.folder)
    before = {path.name for path in prepared_place("cifar10").iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(DataError, match="could not be .*free some space"):
            fetch_official(one.dataset, one.folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name for path in prepared_place("cifar10").iterdir()} == before and not absence(one.dataset)


def test_two_processes_do_not_fetch_the_same(home: Path, tmp_path: Path) -> None:
    one = small("cifar10", tmp_path / "files")
    prepared_place("cifar10").mkdir(parents=True)
    with (prepared_place("cifar10") / ".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="Only one process at a time"):
            fetch_official(one.dataset, one.folder)
    fetch_official(one.dataset, one.folder)


def test_who_reads_an_old_preparation_keeps_it(home: Path, tmp_path: Path) -> None:
    one, other = small("cifar10", tmp_path / "files"), small("cifar10", tmp_path / "others")
    fetch_official(one.dataset, one.folder)
    images, _ = load("cifar10")
    folder = unpacked(other, tmp_path / "unpacked")
    path = folder / "cifar-10-batches-bin" / "test_batch.bin"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    fetch_official(one.dataset, folder)
    assert np.array_equal(images, one.images) and not np.array_equal(load("cifar10")[0], one.images)
    assert len(list(prepared_place("cifar10").glob("*.npy"))) == 2


def test_the_list_says_what_is_here_and_how_to_get_the_rest(home: Path) -> None:
    found = {one.name: one for one in presences()}
    assert found["digits"].present and not found["digits"].advice
    for name in OFFICIAL:
        assert not found[name].present and f"rampart dataset fetch {name}" in found[name].advice
        assert "MB to download" in found[name].advice and str(home) in found[name].advice
    assert presence(DATASETS["digits"]) == fetch("digits")


def test_the_listing_needs_neither_torch_nor_numpy() -> None:
    code = ("import sys; from engine.data.fetching import presences; from engine.data.catalogue import DATASETS\n"
            "presences(); list(DATASETS.items())\nsys.exit('torch' in sys.modules or 'numpy' in sys.modules)")
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": "."})


def test_a_side_is_no_matter_of_an_official_dataset(home: Path) -> None:
    with pytest.raises(DataError, match="leave --side out"):
        fetch("cifar10", side=64)


def test_records_are_plain_json(made: Small) -> None:
    fetch_official(made.dataset, made.folder)
    record = json.loads((prepared_place(made.dataset.name) / "dataset.json").read_text())
    facts: Dataset = made.dataset
    assert (record["images"], record["test_images"], record["image_shape"]) == (facts.images, facts.test_images,
                                                                                list(facts.image_shape))
    assert [source["sha256"] for source in record["sources"]] == [source.sha256 for source in facts.sources]
