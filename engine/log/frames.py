"""From a cursor to a pandas table whose columns and types are the same with and without rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import pandas as pd

# Types of columns: text, whole number, number that may be missing, yes or no.
TEXT, INT, NUMBER, FLAG = "str", "int64", "float64", "bool"


def frame(cursor: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[Any] | Mapping[str, Any],
          columns: Mapping[str, str]) -> pd.DataFrame:
    """Runs a query and returns exactly `columns` (name -> type), in that order.

    Args:
        cursor: of the caller's own.
        sql: must yield every name of `columns`.
        parameters: for the question marks or the $names of `sql`.
    """
    found = cursor.execute(sql, parameters).df()
    return found[list(columns)].astype(dict(columns))


def number_of(cursor: duckdb.DuckDBPyConnection, run: str) -> int:
    """Row number of a run inside this index; -1, which no row has, for one that is not there."""
    row = cursor.execute("select number from folder where run = ?", [run]).fetchone()
    return -1 if row is None else int(row[0])
