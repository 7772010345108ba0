"""What every registered dataset promises."""

from __future__ import annotations

import numpy as np
import pytest

from engine.config import METHODS, PRESETS, build
from engine.data import DATASETS, SPLITS
from engine.data.loading import checked, load_split
from engine.data.splits import split_sizes, splits_of
from engine.run.admission import check_config


@pytest.fixture(params=list(DATASETS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_content_fits_the_description(name: str) -> None:
    dataset = DATASETS[name]
    images, labels = checked(dataset)  # raises unless shape, type, range and labels fit
    assert images.shape == (dataset.images, *dataset.image_shape) and images.dtype == np.float32
    assert labels.dtype == np.int64 and set(labels) == set(range(dataset.classes))
    assert 0 <= images.min() < images.max() <= 1


def test_loading_twice_gives_the_same(name: str) -> None:
    first, second = DATASETS[name].load(), DATASETS[name].load()
    assert np.array_equal(first[0], second[0]) and np.array_equal(first[1], second[1])


def test_splits_are_disjoint_complete_and_hold_every_class(name: str) -> None:
    dataset = DATASETS[name]
    splits = splits_of(dataset, seed=0)
    assert sorted(splits.indices(*SPLITS)) == list(range(dataset.images))
    for split in SPLITS:
        x, y = load_split(dataset, splits, split)
        assert len(x) == split_sizes(dataset)[split]
        assert set(y.tolist()) == set(range(dataset.classes))


def test_facts_make_sense(name: str) -> None:
    dataset = DATASETS[name]
    assert dataset.name == name and dataset.title and dataset.description
    assert sum(dataset.split_fractions) == pytest.approx(1)
    assert 0 < dataset.step_size <= dataset.epsilon <= 1


@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_preset_fits_it(name: str, preset: str) -> None:
    for kind, method in (*(("search", method) for method in METHODS), ("retrain", None), ("attack", None)):
        config = build(kind, method, dataset=name, preset=preset)
        check_config(kind, config)
        assert config.dataset == name and config.epsilon == DATASETS[name].epsilon
