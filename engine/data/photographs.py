"""The dataset "photographs", with patches of two colour photographs from scikit-learn. It needs no download.

The photographs show a garden temple and a flower, and are by the Flickr users danielbuechele and vultilion (CC BY 2.0).

The dataset is for searches that need images outside the classes of their own dataset. It is not a classification dataset. The
label of a patch, 0 or 1, is the number of its photograph. Labels only ensure that every split contains patches of both.
"""

from __future__ import annotations

import io
from typing import Any

from engine.data.dataset import Dataset
from engine.data.packages import Package

FILES = ("datasets/images/china.jpg", "datasets/images/flower.jpg")
PACKAGE = Package("sklearn", "scikit-learn", FILES)
SIDE = 32


def load() -> tuple[Any, Any]:
    """Load the patches and their labels as numpy arrays.

    The patches of a photograph are ordered row by row. They do not overlap, so no two splits share a pixel.

    Returns:
        patches: uint8 [520, 3, 32, 32].
        labels: number of the photograph of each patch, 0 or 1, int64 [520].

    Raises:
        DataError: scikit-learn, which contains the photographs, is not installed.
    """
    import numpy as np
    from PIL import Image

    parts = []
    for name in FILES:
        with Image.open(io.BytesIO(PACKAGE.read(name))) as file:
            picture = np.asarray(file.convert("RGB"))
        rows, columns = (size // SIDE for size in picture.shape[:2])
        grid = picture[: rows * SIDE, : columns * SIDE].reshape(rows, SIDE, columns, SIDE, 3)
        parts.append(np.ascontiguousarray(grid.transpose(0, 2, 4, 1, 3)).reshape(-1, 3, SIDE, SIDE))
    return np.concatenate(parts), np.repeat(np.arange(len(parts)), [len(part) for part in parts]).astype(np.int64)


PHOTOGRAPHS = Dataset(
    name="photographs", title="Photographs",
    description="520 patches of 32x32 colour pixels from two photographs; ships with scikit-learn, works offline.",
    classes=len(FILES), image_shape=(3, SIDE, SIDE), images=520, epsilon=8 / 255, step_size=None,
    split_fractions=(0.34, 0.34, 0.12, 0.20), load=load, package=PACKAGE)
