"""The shell command that starts this installation of Rampart, for command lines that a user copies into a shell."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.config import RunConfig, parse_pixels, pixels_text
from engine.configuring import preset_values

ROOT = Path(__file__).resolve().parents[1]
NAME = "rampart"


def program() -> str:
    """Return the command that starts Rampart, quoted for a shell whose working folder is the project's root.

    The command is `rampart` if PATH finds the script of this Python environment under that name. If not, it is the path of the
    script, such as `.venv/bin/rampart`. If the environment has no such script, it is `.venv/bin/python -m engine`.
    """
    script = Path(sys.executable).with_name(NAME)
    if not script.exists():
        return f"{_from_root(Path(sys.executable))} -m engine"
    on_path = shutil.which(NAME)
    if on_path and Path(on_path).samefile(script):
        return NAME
    return _from_root(script)


def _from_root(path: Path) -> str:
    return shlex.quote(str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path))


def command_of(kind: str, method: str | None = None, preset: str = "quick", dataset: str = "digits",
               changes: Mapping[str, Any] | None = None, then: Sequence[str] = (), parent: str | None = None,
               runs: Path | str | None = None, then_changes: Mapping[str, Mapping[str, Any]] | None = None,
               axes: Mapping[str, Sequence[str]] | None = None) -> str:
    """Return the shell command that launches a run and its followers with the given settings.

    Args:
        kind: "search", "retrain" or "attack".
        method: search method; None for the other kinds of run.
        preset: preset of the run and of its followers.
        dataset: name of the dataset.
        changes: {name of the setting: value} for values that differ from the preset's.
        then: kinds of the followers, for example ("retrain", "attack").
        parent: id of the run that this run follows; None if it follows none.
        runs: folder of all runs. The command has no option --runs if this is None or the folder `runs` of the checkout.
        then_changes: changed settings of the followers, as {kind: {name of the setting: value}}.
        axes: {name of a setting: texts of its values} of a grid, which launches every combination (see `engine.grid`).
    """
    words = [kind]
    if kind == "search" and method:
        words += ["--method", method]
    words += ["--dataset", dataset, "--preset", preset]
    if parent:
        words += ["--parent", parent]
    words += [word for name, value in (changes or {}).items() if name != "dataset" for word in _flag(name, value)]
    if then:
        words += ["--then", ",".join(then)]
    words += [word for follower, own in (then_changes or {}).items() for name, value in own.items()
              for word in _flag(name, value, f"{follower}.")]
    for name, values in (axes or {}).items():
        separator = ";" if any("," in value for value in values) else ","
        text = separator.join(values) + (separator if separator == ";" and len(values) == 1 else "")
        words += ["--seeds", text] if name == "seed" else ["--grid", f"{name}={text}"]
    return line_of(words, runs)


def line_of(words: Sequence[str], runs: Path | str | None = None) -> str:
    """Return the shell command that calls Rampart with these words.

    Args:
        words: the words after `rampart`, beginning with the verb.
        runs: folder of all runs. The command has no option --runs if this is None or the folder `runs` of the checkout.
    """
    # The folder is named even if it comes from RAMPART_RUNS, because the user's shell may not have that variable.
    folder = [] if runs is None or Path(runs).absolute() == ROOT / "runs" else ["--runs", str(runs)]
    return f"{program()} {shlex.join([*words, *folder])}"


def changes_of(kind: str, method: str | None, preset: str, config: RunConfig) -> dict[str, Any]:
    """Return {name of the setting: value} for the values in `config` that differ from the preset's."""
    reference = preset_values(kind, method, config.dataset, preset)
    return {name: value for name, value in config.model_dump().items()
            if name in reference and value != reference[name]}


def _flag(name: str, value: Any, prefix: str = "") -> list[str]:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{prefix}{'' if value else 'no-'}{flag}"]
    if isinstance(value, (list, tuple)):
        return [f"--{prefix}{flag}", *map(str, value)]
    if isinstance(value, float) and name in ("epsilon", "step_size") and parse_pixels(pixels_text(value)) == value:
        return [f"--{prefix}{flag}", pixels_text(value)]
    return [f"--{prefix}{flag}", str(value)]
