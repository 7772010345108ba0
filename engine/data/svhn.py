"""The dataset SVHN, with 99,289 colour images of single digits from house numbers, 32x32 pixels (Netzer et al. 2011).

These are the cropped digits, without the "extra" set. They are read from the authors' MATLAB files. In these files, the digit 0
has the label 10, which is changed to 0.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from engine.data import prepared
from engine.data.dataset import OFFICIAL_FRACTIONS, Block, ChannelStatistics, Dataset, Source, few_images
from engine.errors import DataError

PAGE = "https://ufldl.stanford.edu/housenumbers"


def read(places: Sequence[Path]) -> Iterator[Block]:
    """Yield two blocks: all training images, then all test images.

    Args:
        places: paths of train_32x32.mat and test_32x32.mat, in this order.

    Raises:
        DataError: a file cannot be read, or does not contain the expected arrays.
    """
    for place, test in zip(places, (False, True), strict=True):
        images, labels = _arrays(place)
        yield Block(images, labels, test)


def _arrays(place: Path) -> tuple[Any, Any]:
    """Read one MATLAB file.

    Returns:
        images: uint8 [N, 3, 32, 32].
        labels: int64 [N] in 0..9.
    """
    import numpy as np
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content = loadmat(place, variable_names=("X", "y"))
        images, labels = content["X"], content["y"].reshape(-1)
    except (OSError, EOFError, KeyError, ValueError, TypeError, NotImplementedError, MatReadError, zlib.error) as problem:
        raise DataError(f"{place} must be a MATLAB file with X and y and cannot be read ({problem}); restore it.") from None
    if images.dtype != np.uint8 or images.shape[:-1] != (32, 32, 3) or images.shape[-1] != len(labels):
        raise DataError(f"X in {place} must hold bytes [32, 32, 3, N] and y as many labels, got {images.dtype} {images.shape} "
                        f"and {len(labels)} labels; restore it.")
    return np.ascontiguousarray(images.transpose(3, 2, 0, 1)), labels.astype(np.int64) % 10


SVHN = Dataset(
    name="svhn", title="SVHN",
    description="99,289 house-number digits of 32x32 colour pixels; tested on its official test set of 26,032.",
    classes=10, image_shape=(3, 32, 32), images=99_289, test_images=26_032,
    epsilon=8 / 255, step_size=None, split_fractions=OFFICIAL_FRACTIONS, load=partial(prepared.load, "svhn"), published=True,
    # From the E2RNAS code, utils.py.
    channel_statistics=ChannelStatistics((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    out_of_distribution="cifar10",
    # The papers' code has no settings for SVHN. The learning rate is that of AdvRush. All other settings are those of CIFAR-10.
    retraining={"learning_rate": 0.01},
    quick=few_images(128, 16),
    origin="Netzer et al. 2011",
    # Checksums and sizes from tensorflow/datasets, tensorflow_datasets/url_checksums/svhn_cropped.txt.
    sources=(Source("train_32x32.mat", f"{PAGE}/train_32x32.mat",
                    "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8", 182_040_794),
             Source("test_32x32.mat", f"{PAGE}/test_32x32.mat",
                    "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b", 64_275_384)),
    read=read)
