"""Splits are disjoint, complete, stratified and a function of the seed; sizes and batches are known without the data."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from engine.configuring import build, check_batch
from engine.data.catalogue import DATASETS
from engine.data.dataset import OFFICIAL_FRACTIONS, SPLITS
from engine.data.splits import make_splits, split_sizes, splits_of, stable_seed, steps_in_epoch, stratified_subset
from engine.errors import ConfigError

FRACTIONS = (0.34, 0.34, 0.12, 0.20)


@pytest.mark.parametrize("classes, total", [(2, 40), (10, 1797), (7, 333), (100, 5000)])
def test_every_image_is_in_exactly_one_split(classes: int, total: int) -> None:
    labels = np.random.default_rng(1).integers(classes, size=total)
    splits = make_splits(labels, FRACTIONS, seed=3)
    together = splits.indices(*SPLITS)
    assert sorted(together) == list(range(total))
    assert together.dtype == np.int64


def test_every_class_is_shared_out_in_proportion() -> None:
    labels = np.repeat(np.arange(10), np.arange(60, 160, 10))
    splits = make_splits(labels, FRACTIONS, seed=0)
    for name, fraction in zip(SPLITS, FRACTIONS, strict=True):
        counts = np.bincount(labels[splits.indices(name)], minlength=10)
        assert np.abs(counts - fraction * np.bincount(labels)).max() <= 2


def test_the_seed_decides_and_nothing_else() -> None:
    labels = np.random.default_rng(0).integers(10, size=500)
    one, again, other = (make_splits(labels, FRACTIONS, seed=seed) for seed in (5, 5, 6))
    assert one.hash == again.hash and np.array_equal(one.test, again.test)
    assert one.hash != other.hash and not np.array_equal(one.test, other.test)


@pytest.mark.parametrize("images", [None, 50])
def test_an_official_test_set_is_the_test_split_and_nothing_else(images: int | None) -> None:
    labels = np.random.default_rng(0).integers(10, size=1200)
    splits = make_splits(labels, OFFICIAL_FRACTIONS, seed=1, images=images, test_images=200)
    rest = splits.indices("weights", "alphas", "select")
    assert len(set(rest)) == len(rest) and rest.max() < 1000 <= splits.test.min()
    assert np.bincount(labels[splits.test], minlength=10).min() >= (3 if images else 10)
    if images is None:
        assert list(splits.test) == list(range(1000, 1200)) and sorted(rest) == list(range(1000))
        assert [len(splits.indices(name)) for name in SPLITS] == [475, 475, 50, 200]
        other = make_splits(labels, OFFICIAL_FRACTIONS, seed=2, test_images=200)
        assert np.array_equal(other.test, splits.test) and not np.array_equal(other.weights, splits.weights)
    else:
        assert [len(splits.indices(name)) for name in SPLITS] == [50, 50, 50, 50]


def test_the_sizes_of_official_splits_are_known_without_the_files() -> None:
    assert split_sizes("cifar10") == {"weights": 23_750, "alphas": 23_750, "select": 2_500, "test": 10_000}
    assert split_sizes("svhn")["test"] == 26_032 and sum(split_sizes("svhn").values()) == 99_289
    assert split_sizes("tiny-imagenet", 64) == dict.fromkeys(SPLITS, 64)


def test_the_splits_of_digits_are_those_of_earlier_runs() -> None:
    # A changed hash would put images that old runs trained on into the test split of new ones.
    assert splits_of("digits", seed=0).hash == "4f01232bdf6bde23"


@pytest.mark.parametrize("images", [8, 64, 216, 500, None])
def test_sizes_are_known_without_opening_the_dataset(images: int | None) -> None:
    splits = splits_of("digits", seed=1, images=images)
    assert {name: len(splits.indices(name)) for name in SPLITS} == split_sizes("digits", images)


def test_few_images_are_in_proportion_and_from_their_own_split() -> None:
    labels = DATASETS["digits"].load()[1]
    whole, few = splits_of("digits", seed=2), splits_of("digits", seed=2, images=64)
    for name in SPLITS:
        assert set(few.indices(name)) <= set(whole.indices(name))
        assert np.bincount(labels[few.indices(name)], minlength=10).min() >= 4


def test_a_subset_is_fixed_and_in_proportion() -> None:
    labels = np.repeat(np.arange(10), 36)
    subset = stratified_subset(labels, 64, seed=2)
    assert len(set(subset)) == 64 and np.array_equal(subset, np.sort(subset))
    assert set(np.bincount(labels[subset])) <= {6, 7}
    assert np.array_equal(subset, stratified_subset(labels, 64, seed=2))
    assert np.array_equal(stratified_subset(labels, 1000, seed=2), np.arange(360))


def test_seeds_are_the_same_in_a_process_with_another_hash_seed() -> None:
    code = "from engine.data.splits import stable_seed; print(stable_seed(2, 'order', 7))"
    printed = {subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": salt, "PYTHONPATH": "."},
                              capture_output=True, text=True, check=True).stdout for salt in ("1", "2")}
    assert printed == {f"{stable_seed(2, 'order', 7)}\n"}


def test_keys_give_different_seeds() -> None:
    keys = [("order", 1), ("order", 2), ("attack", 1), ("order", 1, 1), ("order", "1"), (1, "order")]
    assert len({stable_seed(2, *key) for key in keys} | {stable_seed(3, "order", 1)}) == len(keys) + 1


def test_a_batch_larger_than_its_split_is_refused_with_a_sentence() -> None:
    with pytest.raises(ConfigError, match="batch_size must be at most 611.*got 700; use 611 or less"):
        check_batch(build("search", "arnas", changes={"batch_size": 700}), "search")
    with pytest.raises(ConfigError, match="at most 1222"):
        check_batch(build("retrain", changes={"batch_size": 1300}), "retrain")
    with pytest.raises(ConfigError, match="autoattack_images must be at most 359"):
        check_batch(build("attack", changes={"autoattack_images": 400}), "attack")


def test_the_page_can_ask_without_torch_or_numpy() -> None:
    code = ("import sys; from engine.configuring import build, check_batch; from engine.data.splits import split_sizes\n"
            "split_sizes('digits', 64); check_batch(build('retrain'), 'retrain')\n"
            "assert 'torch' not in sys.modules and 'numpy' not in sys.modules, 'imported'")
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_last_batch_of_one_is_left_out() -> None:
    assert steps_in_epoch(64, 32) == 2
    assert steps_in_epoch(65, 32) == 2
    assert steps_in_epoch(66, 32) == 3
    assert steps_in_epoch(66, 32, limit=1) == 1
