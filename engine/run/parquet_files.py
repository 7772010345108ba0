"""Functions that write and read the Parquet files of attack runs, in particular the stored adversarial images."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from engine.attack.catalogue import NATURAL
from engine.attack.evaluation import Evaluation
from engine.files import atomic_write_bytes


def samples_table(evaluation: Evaluation) -> pa.Table:
    """Return the stored images as a table with one row per attack and image. The metadata entry `shape` is "C,H,W".

    Columns:
        image: number of the image in the dataset.
        label: label of the image.
        attack: name of the attack. The name "natural" stands for the natural image.
        pixels: the image as bytes of float32 [C, H, W].
    """
    images = [evaluation.indices[position] for position in evaluation.sample.tolist()]
    labels = evaluation.y.cpu()[evaluation.sample].tolist()
    columns: dict[str, list[Any]] = {"image": [], "label": [], "attack": [], "pixels": []}
    for stage, adversarial in evaluation.adversarial.items():
        columns["image"] += images
        columns["label"] += labels
        columns["attack"] += [stage] * len(images)
        columns["pixels"] += [pixels.numpy().tobytes() for pixels in adversarial.contiguous()]
    shape = ",".join(map(str, evaluation.adversarial[NATURAL].shape[1:]))
    return pa.table(columns).replace_schema_metadata({"shape": shape})


def read_samples(path: Path) -> dict[str, Tensor]:
    """Return {name of an attack: its stored adversarial images, float32 [s, C, H, W]} from a file.

    The file holds the table that `samples_table` returns. The name "natural" stands for the natural images.

    Raises:
        OSError: the file cannot be read.
    """
    table = pq.read_table(path)
    shape = tuple(int(size) for size in table.schema.metadata[b"shape"].decode().split(","))
    pixels: dict[str, list[bytes]] = {}
    for attack, image in zip(table["attack"].to_pylist(), table["pixels"].to_pylist(), strict=True):
        pixels.setdefault(attack, []).append(image)
    return {attack: torch.from_numpy(np.frombuffer(b"".join(images), np.float32).reshape(-1, *shape).copy())
            for attack, images in pixels.items()}


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write a table as Parquet, in one atomic step, to a file in results/ of a run's folder.

    Raises:
        OSError: the file cannot be written, for example because the disk is full.
    """
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    atomic_write_bytes(path, buffer.getvalue(), inside=path.parents[1])
