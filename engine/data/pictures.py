"""Image files as squares of bytes, through Pillow. A file from elsewhere is only ever decoded, and only in the usual formats."""

from __future__ import annotations

import io
from typing import Any

from engine.errors import DataError

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})


def square(content: bytes, side: int, told: str) -> Any:
    """uint8 [3, side, side]: the picture upright, in colour without transparency, its largest centred square resized.

    Args:
        content: of the file.
        side: pixels. A picture that has this size already is not resampled.
        told: what the file is called in a message.

    Raises:
        DataError: it is no picture that can be decoded.
    """
    import numpy as np
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as file:
            if file.format == "JPEG" and min(file.size) > 2 * side:
                file.draft("RGB", (2 * side, 2 * side))  # decodes a large photograph at a fraction of its size
            picture = ImageOps.exif_transpose(file).convert("RGB")
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as problem:
        raise DataError(f"{told} must be a picture ({', '.join(FORMATS)}), and cannot be decoded ({problem}); restore or "
                        "remove it."
                        ) from None
    if picture.size != (side, side):
        picture = ImageOps.fit(picture, (side, side), Image.Resampling.BICUBIC)
    return np.asarray(picture, dtype=np.uint8).transpose(2, 0, 1)
