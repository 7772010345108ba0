"""The identity of runs. A study uses an existing run instead of a new one if the two have the same identity. Imports no torch.

Two runs are the same experiment if they have the same settings and the same search method, and if their parents are the same
experiment, too. The parent of a retraining is its search; the parent of an attack is its retraining. The device, the
numbers of threads and processes, and the way in which the number of channels was chosen do not count.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from engine.config import AttackConfig, RunConfig
from engine.config.early_stop import EARLY_STOPS
from engine.configuring import machine_settings, recorded
from engine.errors import ConfigError
from engine.run.folder import RunFolder, run_ids

NOT_COMPARED = frozenset({"match", "match_to"})


@dataclass(frozen=True)
class Known:
    """The facts about an existing run that decide whether a study uses it.

    Attributes:
        id: id of the run.
        kind: "search", "retrain" or "attack".
        experiment: hash of the run's own kind, search method and settings, as `experiment_of` returns it; "" if the settings
            cannot be read, so that no study uses the run.
        parent: id of the parent run; "" without a parent.
        study: id of the study for which the run was launched; "" for a run launched by hand.
        numerics: hash, at the launch, of the code that determines results; "" for runs of older versions.
        created: time of the launch in unix seconds.
        is_example: True if the run belongs to the example study. Such a run has no weights, so no other study uses it.
    """

    id: str
    kind: str
    experiment: str
    parent: str
    study: str
    numerics: str
    created: float
    is_example: bool


def experiment_of(kind: str, method: str | None, config: RunConfig) -> str:
    """Return a hash of the kind, the search method and the settings of a run, without settings that do not affect its result."""
    # An attack records the radius of both norms. In other runs, a setting without effect on training may still affect the choice
    # of the checkpoint.
    every = config.model_dump(mode="json")
    ignored = NOT_COMPARED | machine_settings(every) | (config.inert() if isinstance(config, AttackConfig) else set())
    settings = {name: value for name, value in every.items()
                if name not in ignored and not (name in EARLY_STOPS and value is None)}
    text = json.dumps([kind, method if kind == "search" else None, settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Runs:
    """All runs of a runs folder, which can be looked up by id or by experiment.

    The folder is read once. Runs that are launched later are added with `add`.
    """

    def __init__(self, runs: Path | str) -> None:
        """Read the run.json of every run. Runs that cannot be read are left out."""
        self.root = Path(runs)
        self._by_id: dict[str, Known] = {}
        self._by_identity: dict[str, list[Known]] = defaultdict(list)
        present = [run_id for run_id in run_ids(runs) if self._load(run_id)]
        for run_id in present:  # a run can be older than its parent in the order of ids, so all are loaded first
            self._index(run_id)

    def add(self, run_id: str) -> None:
        """Add a run that was launched after this object was created."""
        if self._load(run_id):
            self._index(run_id)

    def _load(self, run_id: str) -> bool:
        """Read the run.json of a run. Return False if it cannot be read."""
        try:
            written = os.stat(f"{self.root}/{run_id}/run.json").st_mtime_ns
            self._by_id[run_id] = _read(self.root, run_id, written)
        except Exception:  # noqa: BLE001 - the page of the run says what is wrong with it
            return False
        return True

    def _index(self, run_id: str) -> None:
        if identity := self._identity(run_id):
            self._by_identity[identity].append(self._by_id[run_id])

    def of_study(self, study_id: str) -> list[Known]:
        """Return the runs that were launched for a study, oldest first."""
        return sorted((one for one in self._by_id.values() if one.study == study_id), key=lambda one: (one.created, one.id))

    def examples(self) -> list[Known]:
        """Return the runs of the example study."""
        return [one for one in self._by_id.values() if one.is_example]

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._by_id

    def __getitem__(self, run_id: str) -> Known:
        return self._by_id[run_id]

    def same(self, experiment: str, parent: str | None) -> list[Known]:
        """Return the existing runs that are the same experiment as a planned run, oldest first.

        They have the same settings, and their parents are the same experiment as the planned run's parent.

        Args:
            experiment: hash of the planned run's settings, as `experiment_of` returns it.
            parent: id of the planned run's parent; None without a parent.
        """
        return sorted(self._by_identity.get(_joined(experiment, self._identity(parent) if parent else ""), []),
                      key=lambda one: (one.created, one.id))

    def _identity(self, run_id: str, depth: int = 0) -> str:
        """Return a hash of the experiments of a run and its ancestors; "" if one of them does not exist or cannot be read."""
        known = self._by_id.get(run_id)
        if known is None or not known.experiment or depth > 3:
            return ""
        above = self._identity(known.parent, depth + 1) if known.parent else ""
        return "" if known.parent and not above else _joined(known.experiment, above)


def _joined(experiment: str, above: str) -> str:
    return hashlib.sha256(f"{experiment} {above}".encode()).hexdigest()[:16]


@lru_cache(maxsize=20_000)
def _read(root: Path, run_id: str, mtime_ns: int) -> Known:
    """Return the facts about a run from its run.json. The result is cached, because run.json is written only once.

    Args:
        root: folder of all runs.
        run_id: id of the run.
        mtime_ns: time at which run.json was written, in ns. It is only part of the cache's key, so that a changed file is read
            again.
    """
    run: dict[str, Any] = RunFolder(root, run_id).read_run()
    try:
        experiment = "" if run.get("imported") else experiment_of(run["kind"], run.get("method"), recorded(run))
    except (ConfigError, KeyError):
        experiment = ""
    membership, code = run.get("study") or {}, run.get("code") or {}
    return Known(run_id, run["kind"], experiment, str(run.get("parent") or ""), str(membership.get("id") or ""),
                 str(code.get("numerics") or ""), float(run["created"]), bool(membership.get("example")))
