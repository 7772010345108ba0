"""Reading of dataset files that come with installed Python packages.

The packages are located but never imported, because importing one takes long and may need further packages. This module imports
numpy only inside a function.
"""

from __future__ import annotations

import gzip
import importlib.resources
import zlib
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from importlib.util import find_spec, module_from_spec
from typing import Any

from engine.errors import DataError


@dataclass(frozen=True)
class Package:
    """A Python package that contains the files of a dataset.

    Attributes:
        name: name under which Python imports the package, for example "sklearn".
        title: name under which the package is known, for example "scikit-learn".
        files: paths of the files inside the package.
        command: shell command that installs the package.
    """

    name: str
    title: str
    files: tuple[str, ...]
    command: str = "make setup"

    def absence(self) -> str:
        """Return a clause that says why the files cannot be read and how to get them, or "" if all of them are there."""
        root = self._root()
        if root is None:
            return f"the Python package {self.title}, which is not installed; run `{self.command}`"
        missing = [file for file in self.files if not root.joinpath(file).is_file()]
        if missing:
            return f"the Python package {self.title}, whose installation lacks {', '.join(missing)}; run `{self.command}` again"
        return ""

    def read(self, file: str) -> bytes:
        """Return the content of one of the files.

        Raises:
            DataError: the package or the file is missing, or the file cannot be read.
        """
        root, absence = self._root(), self.absence()
        if root is None or absence:
            raise DataError(f"The file {file} is read from {absence}.")
        try:
            return root.joinpath(file).read_bytes()
        except OSError as problem:
            raise DataError(f"The file {file} of the package {self.title} cannot be read ({problem}); change its "
                            "permissions.") from None

    def table(self, file: str, dtype: str) -> Any:
        """Return the numbers in a gzipped CSV file, as a numpy array [rows, columns].

        Args:
            file: path of the file inside the package.
            dtype: type of the numbers, for example "float64".

        Raises:
            DataError: the package or the file is missing, or the file is damaged.
        """
        import numpy as np

        content = self.read(file)
        try:
            return np.loadtxt(gzip.decompress(content).decode("ascii").splitlines(), dtype=dtype, delimiter=",", ndmin=2)
        except (OSError, EOFError, zlib.error, ValueError) as problem:
            raise DataError(f"The file {file} of the package {self.title} must be a gzipped table of numbers and cannot be read "
                            f"({problem}); install the package again.") from None

    def _root(self) -> Traversable | None:
        """Return the folder of the package, or None if the package is not installed."""
        spec = find_spec(self.name)
        # Making a module from the specification does not run the package's code.
        return None if spec is None else importlib.resources.files(module_from_spec(spec))
