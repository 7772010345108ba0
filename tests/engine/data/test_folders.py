"""Image folders: scanning, resizing, class numbers, refusals, and use like any other dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.configuring import build
from engine.data.catalogue import DATASETS
from engine.data.dataset import SPLITS
from engine.data.fetching import fetch, presences
from engine.data.loading import checked, load_split
from engine.data.pictures import square
from engine.data.prepared import prepared_place
from engine.data.splits import split_sizes, splits_of
from engine.errors import ConfigError, DataError
from engine.run.admission import check_config

COLOURS = {"a rose": (200, 10, 10), "daisy": (250, 250, 240), "iris": (40, 10, 180)}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAMPART_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def painted(folder: Path, count: int = 25, colours: dict[str, tuple[int, int, int]] = COLOURS) -> Path:
    """Write a folder of class folders with pictures of many sizes and formats, one colour per class."""
    for name, colour in colours.items():
        for number in range(count):
            deeper = folder / name / ("more" if number % 5 == 0 else "")
            deeper.mkdir(parents=True, exist_ok=True)
            ending = ("png", "jpg", "bmp", "PNG")[number % 4]
            Image.new("RGB", (20 + number % 30, 33 - number % 20), colour).save(deeper / f"{number:03}.{ending}")
    (folder / next(iter(colours)) / "notes.txt").write_text("no picture")
    (folder / "readme.txt").write_text("no class")
    (folder / ".hidden").mkdir(exist_ok=True)
    return folder


def test_a_folder_becomes_a_dataset_with_sorted_classes(tmp_path: Path) -> None:
    found = fetch("flowers", source=painted(tmp_path / "pictures"), side=12)
    assert found.present and found.image_shape == (3, 12, 12) and (found.images, found.classes) == (75, 3)
    dataset = DATASETS["flowers"]
    images, labels = checked(dataset)
    assert np.array_equal(labels, np.repeat([0, 1, 2], 25))
    for label, colour in enumerate(COLOURS[name] for name in sorted(COLOURS)):
        assert np.abs(images[labels == label].astype(int) - np.array(colour)[:, None, None]).max() <= 2  # JPEG
    assert "flowers" in DATASETS and list(DATASETS)[-1] == "flowers" and len(DATASETS) == len(DATASETS.items())
    splits = splits_of(dataset, seed=0)
    assert sorted(splits.indices(*SPLITS)) == list(range(75))
    for split in SPLITS:
        x, y = load_split(dataset, splits, split)
        assert len(x) == split_sizes(dataset)[split] and set(y.tolist()) == {0, 1, 2}


def test_equal_folders_give_equal_hashes_and_others_do_not(tmp_path: Path) -> None:
    def fingerprint(folder: Path, side: int) -> str:
        fetch("flowers", source=folder, side=side)
        return next(prepared_place("flowers").glob("images-*.npy")).name

    first, again = (fingerprint(painted(tmp_path / name), 16) for name in ("one", "two"))
    assert first == again
    assert fingerprint(tmp_path / "one", 20) != first
    Image.new("RGB", (9, 9), (1, 2, 3)).save(tmp_path / "one" / "iris" / "zzz.png")
    assert fingerprint(tmp_path / "one", 16) != first


def test_a_train_and_a_test_folder_are_official_splits(tmp_path: Path) -> None:
    painted(tmp_path / "pictures" / "train")
    painted(tmp_path / "pictures" / "test", count=7)
    for path in (tmp_path / "pictures").glob("*/.hidden"):
        path.rmdir()
    fetch("flowers", source=tmp_path / "pictures", side=8)
    dataset = DATASETS["flowers"]
    assert (dataset.images, dataset.test_images) == (96, 21)
    assert list(splits_of(dataset, seed=4).test) == list(range(75, 96))
    Image.new("RGB", (9, 9)).save((tmp_path / "pictures" / "test" / "extra").mkdir() or
                                  tmp_path / "pictures" / "test" / "extra" / "one.png")
    with pytest.raises(DataError, match="must hold the same classes, got .*extra"):
        fetch("flowers", source=tmp_path / "pictures", side=8)


def test_a_folder_below_the_data_folder_waits_in_the_list(home: Path) -> None:
    painted(home / "folders" / "flowers")
    waiting = {one.name: one for one in presences()}["flowers"]
    assert not waiting.present and "dataset fetch flowers --side 32" in waiting.advice
    assert "flowers" not in DATASETS
    assert fetch("flowers").image_shape == (3, 32, 32)
    assert [one.name for one in presences()].count("flowers") == 1
    assert fetch("flowers", side=16).image_shape == (3, 16, 16) == fetch("flowers").image_shape  # the side is remembered


def test_the_largest_centred_square_is_kept_upright(tmp_path: Path) -> None:
    pixels = np.zeros((10, 30, 3), dtype=np.uint8)
    pixels[:, 10:20] = 255
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    assert (square((tmp_path / "wide.png").read_bytes(), 10, "wide") == 255).all()
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    corner = np.zeros((16, 16, 3), dtype=np.uint8)
    corner[:8, :8] = 255
    Image.fromarray(corner).save(tmp_path / "turned.jpg", exif=exif, quality=100)
    upright = square((tmp_path / "turned.jpg").read_bytes(), 16, "turned")[0]
    assert upright[:8, 8:].min() > 200 and upright[:8, :8].max() < 50


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK"])
def test_every_mode_becomes_three_channels(tmp_path: Path, mode: str) -> None:
    Image.new("RGB", (9, 7), (250, 250, 250)).convert(mode).save(tmp_path / "one.tiff")
    got = square((tmp_path / "one.tiff").read_bytes(), 8, "one")
    assert got.shape == (3, 8, 8) and got.dtype == np.uint8 and got.min() > 200


def test_a_picture_of_the_right_size_is_taken_pixel_by_pixel(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(256, size=(24, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "one.png")
    assert np.array_equal(square((tmp_path / "one.png").read_bytes(), 24, "one"), pixels.transpose(2, 0, 1))


def test_what_cannot_be_a_dataset_is_a_sentence(tmp_path: Path) -> None:
    folder = painted(tmp_path / "pictures")
    for arguments, words in (
            ({"name": "flowers", "source": tmp_path / "nowhere"}, "must be a folder of class folders, and .* does not exist"),
            ({"name": "flowers", "source": folder / "iris"}, "at least two class folders"),
            ({"name": "flowers", "source": folder, "side": 4}, "must be 8 to 512 pixels, got 4"),
            ({"name": "../flowers", "source": folder}, "must be 1 to 40 lower-case letters, digits, hyphens or"),
            ({"name": "Flowers", "source": folder}, "must be 1 to 40 lower-case letters"),
            ({"name": "cifar-10"}, "There is no dataset 'cifar-10'.*Did you mean 'cifar10'.*--from DIR")):
        with pytest.raises(DataError, match=words):
            fetch(**arguments)
    (folder / "iris" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"broken\.png must be a picture .* restore or remove it"):
        fetch("flowers", source=folder)
    few = painted(tmp_path / "few", count=5)
    with pytest.raises(DataError, match="at least 20 pictures, 'a rose' holds 5"):
        fetch("flowers", source=few)
    assert "flowers" not in DATASETS


def test_the_door_lets_in_what_a_supernet_can_halve_twice(tmp_path: Path) -> None:
    folder = painted(tmp_path / "pictures", count=100)
    fetch("flowers", source=folder, side=30)
    with pytest.raises(ConfigError, match="multiples of 4 .*got 30x30 of flowers.*--side 32"):
        check_config("search", build("search", "arnas", "flowers", "smoke"))
    check_config("retrain", build("retrain", None, "flowers", "smoke"))
    fetch("flowers", source=folder, side=32)
    check_config("search", build("search", "arnas", "flowers", "smoke"))


def test_a_name_that_is_none_never_touches_the_disk() -> None:
    for name in ("../../etc", "", "a/b", "A", "x" * 60, 7, None):
        assert name not in DATASETS
