"""The images that an attack run has stored, as PNG inside HTML: natural and adversarial images with predictions."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from engine.attack.catalogue import ATTACKS, NATURAL
from engine.errors import RunLogError

Pixels = npt.NDArray[np.float32]
LARGEST_BYTES = 1_500_000  # of all images of a gallery in a report
AMPLIFIED = 0.5  # grey, half of the range, to which the largest difference of an image is stretched


@dataclass(frozen=True)
class Sample:
    """One image under one attack.

    Attributes:
        image: number of the image in the dataset.
        label: true class of the image.
        attack: name of the attack.
        natural, adversarial: pixels [C, H, W] in 0..1.
        prediction: class that the network predicts for the adversarial image, or None if not recorded.
        confidence: softmax probability of this class, in 0..1, or None if not recorded.
        correct: True if the image withstands the attack. None if not recorded.
    """

    image: int
    label: int
    attack: str
    natural: Pixels
    adversarial: Pixels
    prediction: int | None
    confidence: float | None
    correct: bool | None


def read_samples(path: Path, outcomes: pd.DataFrame) -> list[Sample]:
    """Return one `Sample` for each stored image and each attack that changed the image.

    All samples of one image follow each other. If the run stored no images, return [].

    Args:
        path: results/samples.parquet of the run.
        outcomes: outcome of each attack on each image, from `RunLog.outcomes`.

    Raises:
        RunLogError: the file exists but cannot be read.
    """
    if not path.is_file():
        return []
    import pyarrow.parquet as pq  # takes memory that most pages do not need

    try:
        kept = pq.read_table(path)
        shape = tuple(int(side) for side in (kept.schema.metadata or {})[b"shape"].split(b","))
        rows = [row | {"pixels": np.frombuffer(row["pixels"], np.float32).reshape(shape)} for row in kept.to_pylist()]
    except (pa.ArrowException, KeyError, ValueError, OSError):
        raise RunLogError(f"{path} must be a Parquet table of images with their shape, but it cannot be read; attack the network "
                          "again.") from None
    found = {(one["image"], one["attack"]): one for one in outcomes.to_dict("records")}
    natural = {row["image"]: row["pixels"] for row in rows if row["attack"] == NATURAL}
    place = {image: position for position, image in enumerate(natural)}
    attacked = [row for row in rows if row["attack"] != NATURAL and row["image"] in natural
                and not np.array_equal(row["pixels"], natural[row["image"]])]
    return [_sample(row, natural[row["image"]], found.get((row["image"], row["attack"]), {}))
            for row in sorted(attacked, key=lambda row: place[row["image"]])]


def _sample(row: dict[str, object], natural: Pixels, outcome: dict[str, object]) -> Sample:
    prediction, confidence, correct = (None if pd.isna(value := outcome.get(name)) else value
                                       for name in ("prediction", "confidence", "correct"))
    pixels = row["pixels"]
    assert isinstance(pixels, np.ndarray)
    return Sample(int(str(row["image"])), int(str(row["label"])), str(row["attack"]), natural, pixels,
                  None if prediction is None else int(str(prediction)), None if confidence is None else float(str(confidence)),
                  None if correct is None else bool(correct))


def difference(sample: Sample) -> Pixels:
    """Return the difference of the adversarial and the natural image as an image [C, H, W] in 0..1.

    Unchanged pixels are grey. The difference is scaled so that the largest change becomes black or white.
    """
    change = sample.adversarial - sample.natural
    largest = float(np.abs(change).max())
    return AMPLIFIED + change * (AMPLIFIED / largest if largest else 0.0)


def png(pixels: Pixels) -> bytes:
    """Encode an image [C, H, W] in 0..1 as PNG (ISO/IEC 15948) with 8 bits per channel. The image has 1 or 3 channels."""
    levels = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
    height, width, channels = levels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in levels)
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows, 9)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def gallery_html(samples: list[Sample]) -> str:
    """Return a gallery of samples as HTML. Each sample is shown as natural image, difference and adversarial image side by side.

    Samples at the end are left out if the HTML would exceed `LARGEST_BYTES`.
    """
    figures = list(_within(LARGEST_BYTES, (_figure(sample) for sample in samples)))
    return f'<div class="gallery">{"".join(figures)}</div>' if figures else ""


def _within(limit: int, texts: Iterator[str]) -> Iterator[str]:
    for text in texts:
        limit -= len(text)
        if limit < 0:
            return
        yield text


def _figure(sample: Sample) -> str:
    name = f"image {sample.image}"
    images = ((sample.natural, f"{name}, natural"), (difference(sample), f"{name}, amplified difference"),
              (sample.adversarial, f"{name}, adversarial"))
    pictures = " ".join(f'<img alt="{text}" src="data:image/png;base64,{base64.b64encode(png(pixels)).decode()}">'
                        for pixels, text in images)
    certain = "" if sample.confidence is None else f" with confidence {100 * sample.confidence:.1f} %"
    predicted = "" if sample.prediction is None else f", predicted {sample.prediction}{certain}"
    held = "" if sample.correct is None else " (withstands)" if sample.correct else " (falls)"
    return (f"<figure>{pictures}<figcaption>Image {sample.image}, class {sample.label}: {attack_title(sample.attack)}{predicted}"
            f"{held}</figcaption></figure>")


def attack_title(name: str) -> str:
    """Return the title of an attack. For a part of a suite, the title also names the suite: "APGD-CE of AutoAttack"."""
    cascade, _, part = name.rpartition("/")
    title = ATTACKS[part].title if part in ATTACKS else part
    return f"{title} of {ATTACKS[cascade].title}" if cascade in ATTACKS else title
