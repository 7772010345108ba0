"""Stored images come back as they were written, and damage is a sentence."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import RunLogError
from engine.report.samples import read_samples


def test_images_come_back_exactly(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    pixels = {name: generator.random((3, 2, 4, 5), dtype=np.float32) for name in ("natural", "suite/part")}
    table = pa.concat_tables([pa.table({"image": [7, 3, 9], "label": [0, 1, 2], "attack": [name] * 3,
                                        "pixels": [one.tobytes() for one in images]}) for name, images in pixels.items()])
    pq.write_table(table.replace_schema_metadata({"shape": "2,4,5"}), tmp_path / "samples.parquet")
    samples = read_samples(tmp_path / "samples.parquet")
    assert samples.images == (7, 3, 9)
    for name, images in pixels.items():
        np.testing.assert_array_equal(samples.pixels[name], images)
    natural, adversarial = samples.pair(3, "suite/part")
    np.testing.assert_array_equal(natural, pixels["natural"][1])
    np.testing.assert_array_equal(adversarial, pixels["suite/part"][1])


@pytest.mark.parametrize("content", [None, b"", b"PAR1 no longer"])
def test_a_file_that_cannot_be_read_is_a_sentence(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "samples.parquet").write_bytes(content)
    with pytest.raises(RunLogError, match="attack the network again"):
        read_samples(tmp_path / "samples.parquet")


def test_a_pipe_is_a_sentence(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "samples.parquet")
    with pytest.raises(RunLogError, match="missing or cannot be read"):
        read_samples(tmp_path / "samples.parquet")


@pytest.mark.parametrize("metadata", [{}, {"shape": "2,4,5"}])
def test_a_table_without_the_right_shape_is_a_sentence(tmp_path: Path, metadata: dict[str, str]) -> None:
    table = pa.table({"image": [1], "attack": ["natural"], "pixels": [b"0000"]})
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "samples.parquet")
    with pytest.raises(RunLogError, match="missing or cannot be read"):
        read_samples(tmp_path / "samples.parquet")
