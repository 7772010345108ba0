"""Downloads that need torch or much time. A click starts `rampart export` or `rampart paper`, which makes the file.

The dashboard never loads torch. The server makes each file in a thread (`app.downloads`), so no page waits for the process.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from engine.errors import RunError, first_line
from engine.run.leftovers import scratch_folder

ROOT = Path(__file__).resolve().parents[1]
LONGEST = 700  # characters of an error message
NOISE = ("nanobind:", " - ", "See https://nanobind")  # what DuckDB prints when an interpreter ends
LONGEST_S = 300.0  # time after which a process that makes a file is killed


def exported(root: Path, words: Sequence[str], name: str) -> bytes:
    """Return the file that a command writes. Several files become one ZIP file.

    Args:
        root: folder of all runs.
        words: words of the command after `rampart`: the verb, such as "export", and its arguments except --out.
        name: name of the file or folder to write, without a path.

    Raises:
        RunError: the process refused the export or failed. The message is a sentence.
    """
    with scratch_folder("export") as folder:
        command = [sys.executable, "-P", "-m", "engine", *words, "--out", name, "--runs", str(root.absolute())]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=LONGEST_S,
                                  check=False, stdin=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(ROOT)})
        except subprocess.TimeoutExpired:
            raise RunError(f"The export took more than {LONGEST_S:.0f} s and was ended; run the command in a terminal.") from None
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith(NOISE)]
            raise RunError(first_line(lines[0] if lines else f"The export ended with code {done.returncode}.", LONGEST))
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return files[0].read_bytes() if len(files) == 1 and files[0].parent == folder else zipped(files, folder)


def zipped(files: Sequence[Path], folder: Path) -> bytes:
    """Return the content of a ZIP file with these files, named relative to `folder`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            archive.write(path, path.relative_to(folder))
    return buffer.getvalue()
