"""Images that a run has stored, read by DuckDB: pyarrow's reader of Parquet files would add 20 MB to the dashboard's memory."""

from __future__ import annotations

from math import prod
from pathlib import Path

import duckdb

from engine.errors import RunLogError


def read_images(path: Path) -> tuple[tuple[int, ...], list[tuple[int, str, bytes]]]:
    """Read results/samples.parquet of an attack run.

    Returns:
        shape: (channels, height, width) of every image.
        rows: (position of the image in the dataset, attack, pixels as float32 in little-endian order).

    Raises:
        RunLogError: the file is missing, is no table of images, or does not say their right shape.
    """
    with duckdb.connect(config={"threads": 1}) as con:
        try:
            if not path.is_file():  # DuckDB would wait for the other end of a pipe
                raise ValueError(f"{path} must be a file")
            rows = con.execute("select image, attack, pixels from read_parquet($1)", [str(path)]).fetchall()
            (text,), = con.execute("select value from parquet_kv_metadata($1) where key = 'shape'::blob", [str(path)]).fetchall()
            shape = tuple(int(side) for side in text.split(b","))
            if any(len(pixels) != 4 * prod(shape) for _, _, pixels in rows):
                raise ValueError(f"Images must have the shape {shape}")
            return shape, rows
        except (duckdb.Error, TypeError, ValueError) as error:
            raise RunLogError("results/samples.parquet must be a table of stored images, but it is missing or cannot be read; "
                              "attack the network again to see its images.") from error
