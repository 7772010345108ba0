"""The forms of files that can be imported and exported, and the file endings that indicate them.

This module does not import torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Export:
    """A form in which a network or a run can be exported.

    Attributes:
        title: name on a button.
        ending: ending of the file's name, with the dot; "" if the export is a folder.
        text: description in one phrase, for help texts.
        mime: media type of the file; the media type of ZIP files if the export consists of several files.
        of_run: True if the export describes a whole run or the results of one, and not only a network.
    """

    title: str
    ending: str
    text: str
    mime: str
    of_run: bool = False

    def name_for(self, what: str) -> str:
        """Return a file name for the export of a network or run called `what`. The name of a Python module is importable."""
        if self.ending == ".py":
            return f"network_{re.sub('[^A-Za-z0-9]+', '_', what).strip('_')}.py"
        return f"{re.sub('[^A-Za-z0-9.-]+', '-', what).strip('-.')}{self.ending or f'-{self.title.lower()}'}"


EXPORTS: Mapping[str, Export] = {
    "genotype": Export("Genotype (JSON)", ".json", "the genotype as one line of JSON", "application/json"),
    "weights": Export("Weights (.pt)", ".pt", "the trained weights as a state dict; torch.load reads it with weights_only=True",
                      "application/octet-stream"),
    "safetensors": Export("Weights (safetensors)", ".safetensors",
                          "the same weights in a format without pickle, which many frameworks read", "application/octet-stream"),
    "module": Export("Module (.py)", ".py", "a PyTorch module in one file that needs torch and nothing else, and its weights",
                     "application/zip"),
    "onnx": Export("ONNX", ".onnx", "an ONNX graph with its weights (needs requirements-onnx.txt)", "application/octet-stream"),
    "report": Export("Report (HTML)", ".html", "the report of the newest attack on the network as one HTML file", "text/html",
                     of_run=True),
    "tensorboard": Export("TensorBoard", "", "every scalar of one or several runs in TensorBoard's event files",
                          "application/zip", of_run=True),
    "mlflow": Export("MLflow", "", "settings, scalars and tags of one or several runs as an MLflow folder", "application/zip",
                     of_run=True),
}
