"""Decoding of image files to square arrays of bytes with Pillow.

Only common formats are accepted, because the files may come from untrusted sources.
"""

from __future__ import annotations

import io
from typing import Any

from engine.errors import DataError

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})


def square(content: bytes, side: int, told: str) -> Any:
    """Decode a picture and return its largest centred square, resized, as uint8 [3, side, side].

    The picture is rotated as its metadata requires, and is converted to RGB colours without transparency.

    Args:
        content: content of the file.
        side: height and width of the result in pixels. A picture that already has this size is not resampled.
        told: name of the file, for error messages.

    Raises:
        DataError: the file cannot be decoded as a picture.
    """
    import numpy as np
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as file:
            if file.format == "JPEG" and min(file.size) > 2 * side:
                file.draft("RGB", (2 * side, 2 * side))  # decode a large photograph at a fraction of its size
            picture = ImageOps.exif_transpose(file).convert("RGB")
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as problem:
        raise DataError(f"{told} must be a picture ({', '.join(FORMATS)}) and cannot be decoded ({problem}); restore or remove "
                        "it.") from None
    if picture.size != (side, side):
        picture = ImageOps.fit(picture, (side, side), Image.Resampling.BICUBIC)
    return np.asarray(picture, dtype=np.uint8).transpose(2, 0, 1)
