"""Types of event fields that hold matrices and vectors.

NumPy is imported inside the functions that need it, so a worker starts without loading NumPy. Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.architecture.genotype import EDGES
from engine.errors import RunLogError, shortened
from engine.run.event_fields import Array, FieldType, Record, number_list

LARGEST_WEIGHT = 1e30  # the run log stores architecture weights with 32 bits

@dataclass(frozen=True)
class SquareMatrix(FieldType):
    """A square matrix of numbers with as many rows and columns as another field has entries. `like` names that field."""

    like: str

    def read(self, name: str, value: Any, record: Record) -> list[list[float | None]]:
        count = len(record[self.like])
        if not isinstance(value, list) or len(value) != count:
            raise RunLogError(f"{name} must be {count} rows of {count} numbers, got {shortened(value)}")
        return [number_list(name, row, count) for row in value]

    def __str__(self) -> str:
        return f"a row per entry of `{self.like}`, each with one number per entry"


@dataclass(frozen=True)
class EdgeMatrix(FieldType):
    """A matrix of finite numbers with one row for each of the 14 edges of the search space.

    It has as many columns as another field has entries. `like` names that field.
    """

    like: str

    def read(self, name: str, value: Any, record: Record) -> Array:
        """Return `value` as an array [edges, width], where width is the number of entries of the field `like`.

        Raises:
            RunLogError: `value` has another shape, or one of its entries is not a finite number.
        """
        import numpy as np

        width = len(record[self.like])
        try:
            matrix = np.asarray(value)
        except ValueError:
            matrix = np.empty(0)
        is_matrix = matrix.shape == (len(EDGES), width) and matrix.dtype.kind in "fi"
        if not is_matrix or not (np.abs(matrix) < LARGEST_WEIGHT).all():
            raise RunLogError(f"{name} must be rows of {width} finite numbers, one for each of the {len(EDGES)} edges, "
                              f"got {shortened(value)}")
        return matrix

    def to_json(self, name: str, value: Array) -> dict[str, Any]:
        """Return the matrix as a list of lists, because JSON cannot store NumPy arrays."""
        return {name: value.tolist()}

    def __str__(self) -> str:
        return f"a row per edge, each with one finite number per entry of `{self.like}`"


@dataclass(frozen=True)
class EdgeVector(FieldType):
    """A vector with one finite number per edge of the search space. `like` names a matrix field that has one row per edge."""

    like: str

    def read(self, name: str, value: Any, record: Record) -> Array:
        import numpy as np

        edges = len(record[self.like])
        vector = np.array([np.nan if item is None else item for item in number_list(name, value, edges)])
        if edges != len(EDGES) or not (np.abs(vector) < LARGEST_WEIGHT).all():
            raise RunLogError(f"{name} must be {len(EDGES)} finite numbers, one per edge, got {shortened(value)}")
        return vector

    def to_json(self, name: str, value: Array) -> dict[str, Any]:
        """Return the vector as a list."""
        return {name: value.tolist()}

    def __str__(self) -> str:
        return f"list of {len(EDGES)} finite numbers, one per edge"
