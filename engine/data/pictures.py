"""Image files as square arrays of bytes, decoded by Pillow. Untrusted files are decoded only in the usual formats."""

from __future__ import annotations

import io
from typing import Any

from engine.errors import DataError

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})


def square(content: bytes, side: int, told: str) -> Any:
    """Decode a picture to uint8 [3, side, side]: upright, in colour without transparency, its largest centred square resized.

    Args:
        content: content of the file.
        side: pixels. A picture that already has this size is not resampled.
        told: name of the file in error messages.

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
