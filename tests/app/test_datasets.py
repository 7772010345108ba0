"""The Datasets page: states, samples, splits and hashes as runs record them, and a download that is refused with a sentence."""

from __future__ import annotations

import base64
import io
import re
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.drawing.sample_grid import GAP, grid_png
from app.fetching import Fetch, fetches
from engine.data.catalogue import DATASETS
from engine.data.fetching import fetch
from engine.data.splits import splits_of
from engine.data.summary import data_hash, summary
from tests.app.pages import open_page, text_of
from tests.engine.data.test_folders import painted


def test_the_default_dataset_shows_samples_splits_and_hashes(empty: Path) -> None:
    page = open_page("datasets")
    text = text_of(page)
    assert not page.exception and "Digits 8x8" in text and "✓ here" in text and "needs a download of 170 MB" in text
    assert splits_of("digits", 0).hash in text and data_hash(DATASETS["digits"]) in text
    assert "data:image/png;base64," in text and "0.15 (L-infinity radius" in text and "Alpaydin" in text
    assert "split_seed 0" in text and text.count("<code>") == 4
    assert not page.button


def test_the_summary_counts_every_image_once_and_shows_no_test_image() -> None:
    found = summary(DATASETS["digits"])
    images, labels = DATASETS["digits"].load()
    per_class = np.sum([split.per_class for split in found.splits], axis=0)
    assert per_class.tolist() == np.bincount(labels).tolist() and [split.images for split in found.splits] == [611, 611, 216, 359]
    assert found.samples.shape == (10, 5, 1, 8, 8)
    test = {image.tobytes() for image in np.rint(255 * images[splits_of("digits", 0).test]).astype(np.uint8)}
    assert not {sample.tobytes() for sample in found.samples.reshape(50, 1, 8, 8)} & test
    assert summary(DATASETS["digits"], 1).split_hash != found.split_hash


def test_the_grid_holds_every_sample_enlarged() -> None:
    samples = np.arange(2 * 3 * 1 * 8 * 8, dtype=np.uint8).reshape(2, 3, 1, 8, 8)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(grid_png(samples).partition(",")[2]))))
    assert picture.shape == (3 * (56 + GAP) - GAP, 2 * (56 + GAP) - GAP, 4)
    assert (picture[56 + GAP:2 * 56 + GAP:7, 56 + GAP::7, 0] == samples[1, 1, 0]).all() and picture[57, 0, 3] == 0


def test_a_download_without_a_network_ends_in_a_sentence(empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAMPART_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    page = open_page("datasets", name="cifar10")
    assert "The dataset" not in text_of(page) and page.button(key="datasets.fetch").label == "Fetch (170 MB)"
    page.button(key="datasets.fetch").click().run()
    wait_for(fetches()["cifar10"])
    page.run()
    assert not page.exception and "cannot be reached" in text_of(page) and "the partial download is kept" in text_of(page)
    assert page.button(key="datasets.fetch") and "dataset fetch cifar10" in page.code[0].value


def test_an_image_folder_is_prepared_by_the_button(empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAMPART_DATA", str(tmp_path / "data"))
    painted(tmp_path / "data" / "folders" / "flowers")
    page = open_page("datasets", name="flowers")
    assert page.button(key="datasets.fetch").label == "Prepare" and "needs to be prepared" in text_of(page)
    page.button(key="datasets.fetch").click().run()
    wait_for(fetches()["flowers"])
    assert fetches()["flowers"].what == "preparing" and fetches()["flowers"].done == 75
    text = text_of(page.run())
    assert str(summary(DATASETS["flowers"]).data_hash) in text and re.search(r"<span>\w+</span><span>", text)
    assert fetch("flowers").present


def wait_for(started: Fetch) -> None:
    deadline = time.monotonic() + 60
    while not started.over:
        assert time.monotonic() < deadline, "the fetch did not end"
        time.sleep(0.05)
