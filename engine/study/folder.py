"""The files of studies: runs/studies/<id>.json is written once, at the launch, and the folder runs/studies/<id>/ holds requests.

A request is a file. The page or the command line writes `stop` and `extend-N.json`. The supervisor writes `complete` when all
runs of the study have finished. `inherit-OTHER.json` is written when another study, with the id OTHER, is deleted together with
its runs. It lists the runs of OTHER that are kept because this study uses them. Everything else about a study is computed from
its runs. Imports no torch.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.errors import ConfigError, RunError
from engine.files import atomic_write_json
from engine.registry import unknown_name
from engine.run.folder import ID_PATTERN, read_json
from engine.study.declaration import Study
from engine.study.parsing import LARGEST_SEED, from_record


@dataclass(frozen=True)
class Extension:
    """A request to repeat every arm for more search seeds.

    Attributes:
        seeds: the added search seeds.
        at: time of the request in unix seconds.
        looked: True if results of the study were known at that time. The answer then mentions this fact, because users who extend
            a study until it shows a difference make more false claims.
    """

    seeds: tuple[int, ...]
    at: float
    looked: bool


class StudyFolder:
    """A reader and writer of the files of one study."""

    def __init__(self, runs: Path | str, study_id: str) -> None:
        """Set the paths of a study's files. They do not have to exist.

        Raises:
            RunError: `study_id` does not have the form of an id.
        """
        if not isinstance(study_id, str) or not ID_PATTERN.fullmatch(study_id):
            raise RunError(f"The id of a study looks like 20261120-0915-space-digits-7f3a, got {str(study_id)!r}; "
                           "`rampart study list` lists the ids.")
        self.runs = Path(runs)
        self.id = study_id
        self.file = self.runs / "studies" / f"{study_id}.json"
        self.requests = self.runs / "studies" / study_id

    def exists(self) -> bool:
        """Return True if the study exists."""
        return self.file.exists()

    def write(self, study: Study) -> None:
        """Write the file of a new study.

        Raises:
            RunError: the file cannot be written.
        """
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            atomic_write_json(self.file, study.to_dict())
        except OSError as problem:
            raise RunError(f"The study could not be written to {self.file.parent} ({problem.strerror}); free some space or make "
                           "the folder writable.") from None

    def read(self) -> Study:
        """Return the study with the search seeds of all its extensions.

        Raises:
            RunError: there is no such study, or its file cannot be read or is not a study.
        """
        record = read_json(self.file)
        if record is None:
            known = ", ".join(study_ids(self.runs)[-3:]) or "none"
            raise RunError(f"There is no study {self.id!r} in {self.runs}; the newest are: {known}.")
        try:
            study = from_record(record)
        except ConfigError as refusal:
            raise RunError(f"{self.file.name} must be a study as the launch wrote it ({refusal}); restore the file or move it "
                           "away.") from None
        seeds = dict.fromkeys(study.search_seeds)
        for extension in self.extensions():
            seeds |= dict.fromkeys(extension.seeds)
        return replace(study, search_seeds=tuple(seeds), id=self.id)

    def extensions(self) -> list[Extension]:
        """Return the extensions of the study, oldest first. Files that cannot be read are left out."""
        extensions = []
        for path in sorted(self.requests.glob("extend-*.json"), key=_number_in):
            record: Any = read_json(path) or {}
            seeds = [seed for seed in record.get("seeds", []) if isinstance(seed, int)]
            extensions.append(Extension(tuple(seeds), float(record.get("at", 0.0)), bool(record.get("looked"))))
        return extensions

    def extend(self, seeds: Sequence[int], looked: bool) -> None:
        """Write a request to repeat every arm for more search seeds.

        Args:
            seeds: the added seeds.
            looked: True if results of the study are known already.

        Raises:
            RunError: a seed is not valid or belongs to the study already, or the request cannot be written.
        """
        known = self.read().search_seeds
        are_new = len(set(seeds) - set(known)) == len(seeds) > 0
        if not are_new or not all(0 <= one < LARGEST_SEED for one in seeds):
            raise RunError(f"An extension needs new search seeds from 0 to {LARGEST_SEED - 1}, got "
                           f"{', '.join(map(str, seeds)) or 'none'}; the study has {', '.join(map(str, known))}.")
        number = len(self.extensions()) + 1
        self._ask(f"extend-{number}.json", {"at": time.time(), "seeds": list(seeds), "looked": looked})
        self.clear("complete")

    def inherited(self) -> list[str]:
        """Return the ids of the runs that were kept for this study when other studies were deleted. Some may no longer exist."""
        records: list[Any] = [read_json(path) or {} for path in sorted(self.requests.glob("inherit-*.json"))]
        return [run_id for record in records for run_id in record.get("runs", []) if isinstance(run_id, str)]

    def inherit(self, study_id: str, runs: Sequence[str]) -> None:
        """Record that this study takes over runs of another study, which is about to be deleted together with its other runs.

        Args:
            study_id: id of the other study.
            runs: ids of the runs that are kept, because this study uses them.

        Raises:
            RunError: the file cannot be written.
        """
        self._ask(f"inherit-{study_id}.json", {"at": time.time(), "runs": list(runs)})

    @property
    def is_stopped(self) -> bool:
        """True if the study has been stopped, so that no further runs are launched for it."""
        return (self.requests / "stop").exists()

    @property
    def is_complete(self) -> bool:
        """True once all runs of the study have finished, even if some are deleted later. Deleted runs are not launched again."""
        return (self.requests / "complete").exists()

    def mark(self, name: str) -> None:
        """Write the request `name`, which is "stop" or "complete".

        Raises:
            RunError: the request cannot be written.
        """
        self._ask(name, {"at": time.time()})

    def clear(self, name: str) -> None:
        """Remove the request `name`, which is "stop" or "complete", if it exists."""
        (self.requests / name).unlink(missing_ok=True)

    def remove(self) -> None:
        """Delete the files of the study, but not its runs."""
        self.file.unlink(missing_ok=True)
        shutil.rmtree(self.requests, ignore_errors=True)

    def _ask(self, name: str, content: dict[str, Any]) -> None:
        try:
            self.requests.mkdir(parents=True, exist_ok=True)
            atomic_write_json(self.requests / name, content)
        except OSError as problem:
            raise RunError(f"The request could not be written to {self.requests} ({problem.strerror}); free some space or make "
                           "the folder writable, and try again.") from None


def study_ids(runs: Path | str) -> list[str]:
    """Return the ids of all studies of a runs folder, oldest first."""
    return sorted(path.stem for path in (Path(runs) / "studies").glob("*.json") if ID_PATTERN.fullmatch(path.stem))


def study_named(runs: Path | str, text: str) -> StudyFolder:
    """Return the files of the study whose id is `text` or ends with `text`.

    Raises:
        RunError: there is no such study, or more than one.
    """
    ids = study_ids(runs)
    fitting = [one for one in ids if one == text] or [one for one in ids if text and one.endswith(text)]
    if len(fitting) == 1:
        return StudyFolder(runs, fitting[0])
    raise RunError(unknown_name("study", text, fitting or ids))


def _number_in(path: Path) -> int:
    return int((re.findall(r"\d+", path.stem) or ["0"])[-1])
