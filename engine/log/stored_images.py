"""A reader of the images that a run has stored. It uses DuckDB, because pyarrow would take 20 MB of the dashboard's memory."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import duckdb

from engine.errors import RunLogError
from engine.files import open_to_read


def read_images(path: Path) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Read results/samples.parquet of a run.

    Returns:
        about: {name: text} for facts about all images. "shape" is "channels,height,width". A search or retraining adds "title"
            (name of the attack) and "step" (number of completed steps of the training).
        rows: one {column: value} per image, with the columns image (position in the dataset), label, attack, pixels (bytes of
            little-endian float32 numbers) and, in a search or retraining, prediction and confidence.

    Raises:
        RunLogError: the file is missing, is not a table of images, or has a wrong "shape".
    """
    with duckdb.connect(config={"threads": 1}) as con:
        try:
            open_to_read(path).close()  # DuckDB would wait for the other end of a pipe
            table = con.execute("select * from read_parquet($1)", [str(path)])
            names = [column[0] for column in table.description]
            rows = [dict(zip(names, row, strict=True)) for row in table.fetchall()]
            about = {key.decode(): text.decode() for key, text in con.execute(
                "select key, value from parquet_kv_metadata($1)", [str(path)]).fetchall()}
            values = prod(int(side) for side in about["shape"].split(","))
            if any(len(row["pixels"]) != 4 * values or "image" not in row or "label" not in row for row in rows):
                raise ValueError(f"Images must have the shape {about['shape']}")
            return about, rows
        except (duckdb.Error, OSError, KeyError, TypeError, ValueError) as error:
            raise RunLogError("results/samples.parquet must be a table of stored images, but it is missing or cannot be read; "
                              "attack the network again to see its images.") from error
