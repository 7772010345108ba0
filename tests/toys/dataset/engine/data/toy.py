"""A toy dataset: grey squares of ten brightnesses."""

from __future__ import annotations

from typing import Any

from engine.data.dataset import Dataset


def load() -> tuple[Any, Any]:
    """Return (images float32 [1000, 1, 8, 8] in 0..1, labels int64 [1000])."""
    import numpy as np

    labels = np.arange(1000, dtype=np.int64) % 10
    return np.tile((labels / 10).astype(np.float32)[:, None, None, None], (1, 1, 8, 8)), labels


TOY = Dataset(
    name="toy",
    title="Toy dataset",
    description="1,000 grey squares of 8x8 pixels in ten brightnesses.",
    classes=10,
    image_shape=(1, 8, 8),
    images=1000,
    epsilon=0.02,
    step_size=0.005,
    split_fractions=(0.34, 0.34, 0.12, 0.20),
    load=load,
    defaults={"crop_padding": 1, "flip": False, "cutout": 0, "auxiliary_weight": 0.0},
)
