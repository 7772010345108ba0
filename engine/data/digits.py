"""The dataset "digits", with 1,797 grey 8x8 images of handwritten digits in ten classes.

The images are part of scikit-learn and come from the UCI dataset "optical recognition of handwritten digits" (Alpaydin and Kaynak
1998). This is the default dataset, because it needs no download.
"""

from __future__ import annotations

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
    package=PACKAGE,
    # A mirrored digit is a different symbol, a shift of one pixel in eight corresponds to four in thirty-two on CIFAR, and
    # 2x2 maps are too small for the auxiliary head.
    defaults={"crop_padding": 1, "flip": False, "cutout": 0, "auxiliary_weight": 0.0},
)
