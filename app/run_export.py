"""The list of runs as a JSON file: exactly the runs that are shown, in their order, with every column at full precision."""

from __future__ import annotations

import json

import pandas as pd


def as_json(kept: pd.DataFrame) -> bytes:
    """Return runs as a JSON list of objects with every column of `RunLog.runs`. Missing numbers are null."""
    rows = json.loads(kept.drop(columns="group").to_json(orient="records", double_precision=15))
    return json.dumps(rows, indent=1, ensure_ascii=False).encode()
