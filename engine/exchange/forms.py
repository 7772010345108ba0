"""What can be imported, as the page and the command line know it: forms, and which one a file's ending stands for. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

FORMS: Mapping[str, str] = {
    "genotype": "JSON, or Python with NAME = Genotype(...)",
    "log": "the log.txt of a search, one genotype an epoch",
    "curves": "alphas_normal.npy of E2RNAS's search, with alphas_reduce.npy beside it",
    "checkpoint": "a network of the DARTS family, as torch.save writes it",
}
ENDINGS: Mapping[str, str] = {".json": "genotype", ".py": "genotype", ".txt": "log", ".log": "log", ".npy": "curves",
                              ".pt": "checkpoint", ".pth": "checkpoint", ".tar": "checkpoint"}
# The two files of the form "curves", by cell kind.
CURVES: Mapping[str, str] = {"normal": "alphas_normal.npy", "reduce": "alphas_reduce.npy"}


def form_of(name: str) -> str | None:
    """The form that the ending of a file's name stands for; None where it says nothing."""
    return ENDINGS.get(Path(name).suffix.lower())
