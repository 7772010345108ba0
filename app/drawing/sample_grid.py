"""Sample images of a dataset as one picture: one column per class, with its images below each other."""

from __future__ import annotations

import base64
import io

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE, GAP = 56, 6  # smallest side of an image, and transparent space between images, in pixels


def grid_png(samples: npt.NDArray[np.uint8]) -> str:
    """Return the images as a data URI with a PNG. Each is enlarged by an integer factor without smoothing.

    Args:
        samples: images [classes, images, C, H, W] with one or three channels.
    """
    classes, images, _, height, width = samples.shape
    factor = max(1, SIDE // width)
    high, wide = height * factor + GAP, width * factor + GAP
    canvas = np.zeros((images * high - GAP, classes * wide - GAP, 4), dtype=np.uint8)
    for column, row in np.ndindex(classes, images):
        tile = np.broadcast_to(np.moveaxis(samples[column, row], 0, -1), (height, width, 3)).repeat(factor, 0).repeat(factor, 1)
        place = canvas[row * high:row * high + height * factor, column * wide:column * wide + width * factor]
        place[..., :3], place[..., 3] = tile, 255
    buffer = io.BytesIO()
    Image.fromarray(canvas).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
