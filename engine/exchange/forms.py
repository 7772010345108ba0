"""The forms of files that can be imported, and the file endings that indicate them. This module does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

FORMS: Mapping[str, str] = {
    "genotype": "JSON, or Python with NAME = Genotype(...)",
    "log": "log.txt of a search, one genotype per epoch",
    "curves": "alphas_normal.npy of E2RNAS's search, with alphas_reduce.npy in the same folder",
    "checkpoint": "state dict of a network of the DARTS family, as torch.save writes it",
}
ENDINGS: Mapping[str, str] = {".json": "genotype", ".py": "genotype", ".txt": "log", ".log": "log", ".npy": "curves",
                              ".pt": "checkpoint", ".pth": "checkpoint", ".tar": "checkpoint"}
# Names of the two files that make up the form "curves", for each cell kind.
CURVES: Mapping[str, str] = {"normal": "alphas_normal.npy", "reduce": "alphas_reduce.npy"}


def form_of(name: str) -> str | None:
    """Return the form that the ending of a file's name indicates (one of `FORMS`), or None if the ending is unknown."""
    return ENDINGS.get(Path(name).suffix.lower())
