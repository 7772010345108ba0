"""The hierarchical bootstrap of the difference of two arms. It resamples search seeds, retrain seeds and images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Floats = NDArray[np.float64]

_CHUNK = 1_000_000  # image draws that are held in memory at once


def hierarchical_bootstrap(first: Sequence[ArrayLike], second: Sequence[ArrayLike], level: float = 0.95, resamples: int = 2000,
                           seed: int = 0) -> tuple[float, float] | None:
    """Return a bootstrap confidence interval of the difference of two arms, for new seeds and new images.

    Each resample draws search seeds with replacement, then retrain seeds within every drawn search seed, and then images. The
    drawn images are the same for both arms and all networks. The Welch interval, in contrast, holds for the study's images only.

    The interval of plain percentiles is too short with few search seeds, and resampling on every level counts the variance of the
    lower levels more than once. Two corrections are applied:

    * The deviations are rescaled to the unbiased variance from `variance_of_difference` (in the spirit of the rescaling
      bootstrap, Rao and Wu 1988, JASA 83:231-241).
    * The ends of the interval move outwards by the ratio of the t quantile to the normal quantile (expanded percentiles,
      Hesterberg 2015, The American Statistician 69:371-386).

    Differs: Hesterberg expands the probabilities of the percentiles. With few search seeds these probabilities are smaller than
    one resample in 2,000. The deviations are multiplied instead.

    Args:
        first, second: the arms. An arm has one boolean array [retrain seeds, images] per search seed, True for a correctly
            classified image. The images are the same in all arrays. The number of retrain seeds may differ.
        level: confidence level in 0..1.
        resamples: number of resamples.
        seed: seed of the resampling. Equal arguments give equal results.

    Returns:
        (low, high) of first minus second, as fractions. None if an arm has fewer than two search seeds, if there are fewer than
        two images, or if the resampled differences do not vary.

    Raises:
        ValueError: the networks have different numbers of images, or a search seed has no network.
    """
    arms = [[np.atleast_2d(np.asarray(unit, dtype=np.float64)) for unit in arm] for arm in (first, second)]
    images = _common_images(arms)
    if min(map(len, arms)) < 2 or images < 2:
        return None
    variance, freedom = variance_of_difference(*(np.array([unit.mean(axis=0) for unit in arm]) for arm in arms))
    generator = np.random.default_rng(seed)
    networks = np.concatenate([unit for arm in arms for unit in arm])
    accuracies = np.concatenate([weights @ networks.T for weights in _drawn_images(images, resamples, generator)])
    split = sum(len(unit) for unit in arms[0])
    difference = float(np.mean([unit.mean() for unit in arms[0]]) - np.mean([unit.mean() for unit in arms[1]]))
    deviations = (_drawn_means(accuracies[:, :split], [len(unit) for unit in arms[0]], generator)
                  - _drawn_means(accuracies[:, split:], [len(unit) for unit in arms[1]], generator) - difference)
    spread = float(deviations.std())
    if spread < 1e-12 or variance <= 0:
        return None
    tail = (1 - level) / 2
    stretch = sqrt(variance) / spread * float(special.stdtrit(freedom, tail) / special.ndtri(tail))
    low, high = np.quantile(deviations, [tail, 1 - tail])
    return difference + stretch * float(low), difference + stretch * float(high)


def variance_of_difference(first: Floats, second: Floats) -> tuple[float, float]:
    """Return an unbiased estimate of the variance of the difference of two arms, and its degrees of freedom.

    Each search seed belongs to one arm, and all search seeds share the images. In the analysis of variance for this design, the
    variance is the part due to search seeds plus the part due to images, minus their interaction, which both parts contain
    (Cornfield and Tukey 1956; Hillis 2007, Stat. Med. 26:596-619, where readers and cases take the place of seeds and images).
    The degrees of freedom follow Satterthwaite (1946).

    Args:
        first, second: one array [search seeds, images] per arm. An entry is the fraction of the search seed's networks (one per
            retrain seed) that classify the image correctly.

    Returns:
        variance: the estimate.
        degrees: degrees of freedom of the estimate.
    """
    images = first.shape[1]
    seeds, freedom, interaction = 0.0, 0.0, 0.0
    for arm in (first, second):
        units = len(arm)
        part = float(arm.mean(axis=1).var(ddof=1)) / units
        seeds += part
        freedom += part**2 / (units - 1)
        residual = arm - arm.mean(axis=1, keepdims=True) - arm.mean(axis=0) + arm.mean()
        interaction += float((residual**2).sum()) / ((units - 1) * (images - 1)) / (units * images)
    over_images = float((first.mean(axis=0) - second.mean(axis=0)).var(ddof=1)) / images
    # The interaction can exceed the variance over images by chance. A negative component counts as 0.
    component = max(0.0, over_images - interaction)
    freedom += component**2 / (images - 1)
    total = seeds + component
    return total, total**2 / freedom if freedom > 0 else float(len(first) + len(second) - 2)


def _common_images(arms: Sequence[Sequence[Floats]]) -> int:
    """Return the number of images, which must be the same for all networks.

    Args:
        arms: arms, each with one array [networks, images] per search seed.

    Raises:
        ValueError: the numbers differ, or a search seed has no network.
    """
    shapes = [unit.shape for arm in arms for unit in arm]
    if not all(networks for networks, _ in shapes):
        raise ValueError("Every search seed must have at least one network, got a search seed without any; leave it out")
    counts = {images for _, images in shapes}
    if len(counts) > 1:
        raise ValueError(f"Networks must be compared on the same images, got {sorted(counts)} images; keep the common ones")
    return counts.pop() if counts else 0


def _drawn_images(images: int, resamples: int, generator: np.random.Generator) -> Iterator[Floats]:
    """Draw images with replacement for each resample, and yield the share of each image in the draws.

    The shares are yielded in chunks of several resamples, as arrays [resamples in the chunk, images]. Each row sums to 1.
    """
    step = max(1, _CHUNK // images)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        draws = generator.integers(images, size=(rows, images)) + images * np.arange(rows)[:, None]
        yield np.bincount(draws.ravel(), minlength=rows * images).reshape(rows, images) / images


def _drawn_means(accuracies: Floats, retrainings: Sequence[int], generator: np.random.Generator) -> Floats:
    """Draw search seeds and their retrain seeds with replacement, and return the mean of one arm in every resample.

    Args:
        accuracies: array [resamples, networks] with the accuracies on the drawn images. The networks of one search seed are
            adjacent.
        retrainings: number of networks of each search seed.
        generator: random number generator.

    Returns:
        An array [resamples].
    """
    counts = np.asarray(retrainings)
    starts = np.cumsum(counts) - counts
    units = generator.integers(len(counts), size=(len(accuracies), len(counts)))
    sizes = counts[units][..., None]
    chosen = (generator.random((*units.shape, int(counts.max()))) * sizes).astype(np.intp) + starts[units][..., None]
    counted = np.arange(counts.max()) < sizes
    drawn = np.take_along_axis(accuracies, chosen.reshape(len(accuracies), -1), axis=1).reshape(chosen.shape)
    return np.asarray(((drawn * counted).sum(axis=2) / sizes[..., 0]).mean(axis=1))
