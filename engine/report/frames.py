"""Tables and the data of charts as files: CSV and Parquet with every row and column, at full precision."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pandas as pd
import pyarrow as pa

from engine.report.records import cell_text

MIMES = {"csv": "text/csv", "parquet": "application/vnd.apache.parquet"}


def frame_bytes(frame: pd.DataFrame, form: str) -> bytes:
    """Return a table as the content of a file.

    Args:
        frame: the table. Its index is left out.
        form: "csv" or "parquet". In CSV, unknown values are empty, lists and objects are JSON, and a text that a spreadsheet
            could run as a formula gets an apostrophe in front.
    """
    if form == "parquet":
        import pyarrow.parquet as pq  # takes memory that most pages do not need

        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pandas(_plain(frame), preserve_index=False).replace_schema_metadata(), buffer)
        return buffer.getvalue()
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(map(str, frame.columns))
    writer.writerows([cell_text(_known(value)) for value in row] for row in frame.itertuples(index=False, name=None))
    return text.getvalue().encode()


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose columns Parquet can store: objects of several types become JSON."""
    mixed = [name for name in frame.columns if frame[name].dtype == object
             and not all(isinstance(one, str) for one in frame[name].dropna())]
    return frame.assign(**{str(name): [None if _known(one) is None else json.dumps(one, default=str) for one in frame[name]]
                           for name in mixed})


def _known(value: Any) -> Any:
    """Return a value as a plain Python object, or None if it is missing."""
    if isinstance(value, (list, tuple, dict)):
        return json.dumps(value, default=str) if isinstance(value, dict) else list(value)
    if value is None or value is pd.NaT or value != value:
        return None
    return value.item() if hasattr(value, "item") else value
