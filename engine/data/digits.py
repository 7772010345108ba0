"""The dataset "digits", with 1,797 grey 8x8 images of handwritten digits in ten classes, and the same images at 16x16 and 32x32.

The images are part of scikit-learn and come from the UCI dataset "optical recognition of handwritten digits" (Alpaydin and Kaynak
1998). This is the default dataset, because it needs no download.

"digits16" and "digits32" are the same images, resized by bilinear interpolation. They contain no further detail, but let the
networks for larger images be tried without a download. All three datasets have the same labels in the same order, so a split seed
divides them alike.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from engine.data.dataset import Dataset
from engine.data.packages import Package

FILE = "datasets/data/digits.csv.gz"  # the table that sklearn.datasets.load_digits reads
PACKAGE = Package("sklearn", "scikit-learn", (FILE,))


def load() -> tuple[Any, Any]:
    """Load the images and labels as numpy arrays.

    Returns:
        images: float32 [1797, 1, 8, 8] in 0..1.
        labels: int64 [1797].

    Raises:
        DataError: scikit-learn, which contains the images, is not installed, or its file is damaged.
    """
    import numpy as np

    table = PACKAGE.table(FILE, "float64")
    # Pixels have 17 grey levels, 0..16. The last column is the label.
    return (table[:, :-1].reshape(-1, 1, 8, 8) / 16.0).astype(np.float32), table[:, -1].astype(np.int64)


def load_resized(side: int) -> tuple[Any, Any]:
    """Load the images at another size, and the labels, as numpy arrays.

    A new pixel is a weighted mean of up to four old ones (bilinear interpolation, pixel centres aligned as in PyTorch with
    align_corners=False).

    Args:
        side: height and width in pixels, at least 8.

    Returns:
        images: float32 [1797, 1, side, side] in 0..1.
        labels: int64 [1797].

    Raises:
        DataError: see `load`.
    """
    import numpy as np

    images, labels = load()
    old = images.shape[-1]
    places = np.clip((np.arange(side) + 0.5) * old / side - 0.5, 0, old - 1)  # centres of the new pixels among the old ones
    first = np.minimum(np.floor(places).astype(int), old - 2)
    means = np.zeros((side, old))
    means[np.arange(side), first] = 1 - (places - first)
    means[np.arange(side), first + 1] = places - first
    return (means @ images.astype(np.float64) @ means.T).astype(np.float32), labels


DIGITS = Dataset(
    name="digits",
    title="Digits 8x8",
    description="1,797 handwritten digits of 8x8 grey pixels; ships with scikit-learn, works offline.",
    classes=10,
    image_shape=(1, 8, 8),
    images=1797,
    # The usual 8/255 is half of one of the 17 grey levels, too small to have an effect.
    epsilon=0.15,
    step_size=0.15 / 4,
    split_fractions=(0.34, 0.34, 0.12, 0.20),
    load=load,
    origin="Alpaydin and Kaynak 1998, UCI: optical recognition of handwritten digits",
    package=PACKAGE,
    # A mirrored digit is a different symbol, a shift of one pixel in eight corresponds to four in thirty-two on CIFAR, and
    # 2x2 maps are too small for the auxiliary head.
    defaults={"crop_padding": 1, "flip": False, "cutout": 0, "auxiliary_weight": 0.0},
)

DIGITS16 = replace(
    DIGITS,
    name="digits16",
    title="Digits 16x16",
    description="The 1,797 digits of 8x8 pixels, resized to 16x16 (bilinear); works offline.",
    image_shape=(1, 16, 16),
    load=partial(load_resized, 16),
    # Resizing takes means of pixels, so the resized form of a perturbation of 8x8 pixels has at most the same largest value.
    # Therefore the radius of digits is kept: every perturbation that it allows at 8x8 is allowed here too.
    defaults=DIGITS.defaults | {"crop_padding": 2},
    # An image costs four times as much as one of 8x8 pixels. A search takes about as many steps as there, in smaller batches.
    quick={"search": {"batch_size": 16, "steps_per_epoch": 15}, "retrain": {"epochs": 7},
           "attack": {"autoattack_images": 100, "sweep_images": 50}},
)

DIGITS32 = replace(
    DIGITS16,
    name="digits32",
    title="Digits 32x32",
    description="The 1,797 digits of 8x8 pixels, resized to 32x32 (bilinear); works offline.",
    image_shape=(1, 32, 32),
    load=partial(load_resized, 32),
    # As on CIFAR, but without cutout and flips, like the other sizes. The auxiliary head fits, with its published weight.
    defaults={"crop_padding": 4, "flip": False, "cutout": 0},
    quick={"search": {"batch_size": 8, "steps_per_epoch": 12}, "retrain": {"epochs": 4},
           "attack": {"images": 100, "autoattack_images": 50, "sweep_images": 50}},
)
