"""Test images as small PNG pictures inside HTML: the natural image, the adversarial image, and their amplified difference."""

from __future__ import annotations

import base64
import io

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE = 96  # smallest width of a picture in pixels
# Colours of the difference: a pixel became darker, is unchanged, became brighter. Blue and orange differ for every reader.
DARKER, SAME, BRIGHTER = np.array([[33, 102, 172], [247, 247, 247], [217, 95, 14]], dtype=float)

Bytes = npt.NDArray[np.uint8]


def bytes_of(pixels: npt.NDArray[np.floating]) -> Bytes:
    """Convert an image [C, H, W] in 0..1 to bytes [H, W, 3]. The image has one or three channels."""
    image = np.moveaxis(np.clip(pixels, 0, 1), 0, -1)
    return np.asarray(np.broadcast_to(np.rint(255 * image), (*image.shape[:2], 3)), dtype=np.uint8)


def difference(natural: npt.NDArray[np.floating], adversarial: npt.NDArray[np.floating], scale: float) -> Bytes:
    """Return the difference of two images as bytes [H, W, 3]. A pixel is blue if it became darker, orange if it became brighter.

    The colour of a pixel is determined by the channel that changed most.

    Args:
        natural, adversarial: images [C, H, W].
        scale: difference that is drawn in full colour.
    """
    change = adversarial - natural
    largest = np.take_along_axis(change, np.abs(change).argmax(0, keepdims=True), axis=0)[0]
    share = np.clip(largest / scale if scale > 0 else np.zeros_like(largest), -1, 1)[..., None]
    colours = SAME + np.maximum(share, 0) * (BRIGHTER - SAME) + np.maximum(-share, 0) * (DARKER - SAME)
    return np.asarray(np.rint(colours), dtype=np.uint8)


def data_uri(image: Bytes) -> str:
    """Return a picture [H, W, 3] as a data URI with a PNG. The picture is enlarged by an integer factor without smoothing."""
    factor = max(1, -(-SIDE // image.shape[1]))
    picture = Image.fromarray(image).resize((image.shape[1] * factor, image.shape[0] * factor), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
