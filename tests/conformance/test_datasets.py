"""What every registered dataset promises. Those that must be downloaded keep it with small files of their official formats."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.config import PRESETS
from engine.configuring import build
from engine.data.catalogue import DATASETS
from engine.data.dataset import SPLITS, Dataset
from engine.data.fetching import fetch_official
from engine.data.loading import checked, load_split
from engine.data.splits import split_sizes, splits_of
from engine.run.admission import check_config
from engine.search.methods.registry import METHODS
from tests.engine.data.small import small


@pytest.fixture(params=list(DATASETS), scope="module")
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def dataset(name: str, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The dataset itself, or one with the same facts but for the sizes, prepared in a data folder of its own."""
    if not DATASETS[name].sources:
        return DATASETS[name]
    folder: Path = tmp_path_factory.mktemp(name)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAMPART_DATA", str(folder))
        made = small(name, folder / "files")
        fetch_official(made.dataset, made.folder)
        images, labels = made.dataset.load()
    return replace(made.dataset, load=lambda: (images, labels))


def test_content_fits_the_description(dataset: Dataset) -> None:
    images, labels = checked(dataset)  # raises unless shape, type, range and labels fit
    assert images.shape == (dataset.images, *dataset.image_shape) and images.dtype in (np.float32, np.uint8)
    assert labels.dtype == np.int64 and set(labels) == set(range(dataset.classes))
    assert 0 <= images.min() < images.max() <= (1 if images.dtype == np.float32 else 255)


def test_loading_twice_gives_the_same(dataset: Dataset) -> None:
    first, second = dataset.load(), dataset.load()
    assert np.array_equal(first[0], second[0]) and np.array_equal(first[1], second[1])


def test_splits_are_disjoint_complete_and_hold_every_class(dataset: Dataset) -> None:
    splits = splits_of(dataset, seed=0)
    assert sorted(splits.indices(*SPLITS)) == list(range(dataset.images))
    for split in SPLITS:
        x, y = load_split(dataset, splits, split)
        assert len(x) == split_sizes(dataset)[split]
        assert set(y.tolist()) == set(range(dataset.classes))
        assert 0 <= x[...].min() < x[...].max() <= 1


def test_an_official_test_set_is_in_no_other_split(dataset: Dataset) -> None:
    if dataset.test_images is not None:
        first = dataset.images - dataset.test_images
        assert list(splits_of(dataset, seed=0).test) == list(range(first, dataset.images))


def test_facts_make_sense(name: str) -> None:
    dataset = DATASETS[name]
    assert dataset.name == name and dataset.title and dataset.description
    assert len(dataset.split_fractions) == (4 if dataset.test_images is None else 3)
    assert sum(dataset.split_fractions) == pytest.approx(1) and sum(split_sizes(dataset).values()) == dataset.images
    assert 0 < (dataset.step_size or dataset.epsilon) <= dataset.epsilon <= 1
    assert all(size % 4 == 0 for size in dataset.image_shape[1:]), "a supernet halves them twice"
    assert bool(dataset.sources) == (dataset.read is not None)
    for source in dataset.sources:
        assert len(source.sha256) == 64 and source.bytes > 0 and source.url.startswith("https://") and "/" not in source.file


@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_preset_fits_it(name: str, preset: str) -> None:
    for kind, method in (*(("search", method) for method in METHODS), ("retrain", None), ("attack", None)):
        config = build(kind, method, dataset=name, preset=preset)
        check_config(kind, config)
        assert config.dataset == name
        assert not hasattr(config, "epsilon") or config.epsilon == DATASETS[name].epsilon  # DARTS attacks nothing
