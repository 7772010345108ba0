"""The shape of a run: the settings on which the time and the memory of one of its steps depend. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.architecture.catalogue import CATALOG
from engine.architecture.genotype import DERIVED
from engine.architecture.placement import RULES
from engine.config import AttackConfig, RetrainConfig, RunConfig, SearchConfig
from engine.configuring import validate
from engine.data.catalogue import DATASETS
from engine.errors import RampartError
from engine.run import device
from engine.run.lineage import arrangement_of, retraining_of, trained_genotype
from engine.run.matching import matched

# Settings that change neither the time nor the memory of a step.
WITHOUT_EFFECT = re.compile(r"seed|split_seed|images|epochs|steps_per_epoch|epsilon.*|step_size.*|milestones|schedule.*"
                            r"|selection_every|match.*|halves|transfer_from|against|inherit_from|norm|attacks|autoattack_images|checkpoint|checks"
                            r"|momentum|weight_decay|.*learning_rate.*|.*lambda|.*_factor|drop_path|sweep.*|certified.*|device"
                            r"|threads|processes|batch_norm|alphas_batches|ranking|switch_epoch|warmup_epochs|candidates")
MEASURED_AS = 3  # version of the way in which batches are measured; kept results of another version do not count
STAND_INS = ("ARNAS", "DARTS_V2")  # genotypes for networks that a search has not found yet


@dataclass(frozen=True)
class Shape:
    """A run whose steps can be measured.

    Attributes:
        kind: "search", "retrain" or "attack".
        method: search method; None for the other kinds.
        config: configuration of the run.
        network: configuration of the retraining that trains the network, including its genotype. For an attack, this is the
            network that the run attacks. None for a search.
        device: "cpu" or "cuda:N".
        threads: number of CPU threads.
    """

    kind: str
    method: str | None
    config: RunConfig
    network: RetrainConfig | None
    device: str
    threads: int

    @property
    def key(self) -> str:
        """Hash of everything on which a step depends, including the device and the number of threads."""
        data = DATASETS[self.config.dataset]
        parts: list[Any] = [MEASURED_AS, self.kind, self.method, list(data.image_shape), data.classes, self.device, self.threads,
                            _settings(self.config, AttackConfig if self.kind == "attack" else None)]
        if self.network is not None:
            parts.append(_settings(self.network))
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def _settings(config: RunConfig, only: type[RunConfig] | None = None) -> dict[str, Any]:
    """Return the settings of `config` that affect the cost of a step.

    If `only` is `AttackConfig`, only the batch size is returned, because `engine.preflight.job` measures single passes of an
    attacked network.
    """
    values = config.model_dump(mode="json")
    if only is AttackConfig:
        return {"batch_size": values["batch_size"]}
    return {name: value for name, value in values.items() if name != "dataset" and not WITHOUT_EFFECT.fullmatch(name)}


def shapes_of(runs: Path, steps: Sequence[tuple[str, RunConfig]], method: str | None = None,
              parent: str | None = None) -> list[Shape]:
    """Return the shapes of the runs of a chain, in order.

    A network that the search has not found yet is replaced by a published network with the same kinds of cell.

    Args:
        runs: folder of all runs.
        steps: (kind, configuration) of each run.
        method: search method of the chain; None without a search.
        parent: id of the run that the first run follows; None if it follows no run.

    Raises:
        RampartError: the parent or its network cannot be read.
    """
    shapes, search, network = [], None, None
    for position, (kind, config) in enumerate(steps):
        if isinstance(config, SearchConfig):
            search = config
        elif isinstance(config, RetrainConfig):
            network = _network(runs, config, search, None if position else parent)
        elif network is None:
            before, searched = retraining_of(runs, str(parent))
            network = _network(runs, before, None, searched)
        chosen = config.device if config.device.startswith("cuda") or config.device == "cpu" or not device.gpus() else "cuda:0"
        shapes.append(Shape(kind, method if kind == "search" else None, config, network if kind != "search" else None,
                            {"auto": "cpu", "cuda": "cuda:0"}.get(chosen, chosen), config.threads or device.cores()))
    return shapes


def _network(runs: Path, config: RetrainConfig, search: SearchConfig | None, parent: str | None) -> RetrainConfig:
    """Return a retraining that names its network completely, so that the network can be built without the parent."""
    if config.network != DERIVED:
        return config
    if search is not None:
        kinds = RULES[search.placement].kinds
        name = next((one for one in STAND_INS if set(find_kinds(one)) == set(kinds)), STAND_INS[0])
        changes = {"genotype": name, "transplant": "", "match": "none", "match_to": "",
                   "placement": config.placement or search.placement, "width_ratio": config.width_ratio or search.width_ratio}
        return _valid(config, changes)
    genotype = trained_genotype(runs, config, parent)
    arrangement = arrangement_of(runs, config, parent, genotype)
    sized, _ = matched(runs, config, parent)
    return _valid(sized, {"genotype": genotype.to_json(), "transplant": "", "match": "none", "match_to": "", **arrangement})


def find_kinds(name: str) -> tuple[str, ...]:
    """Return the kinds of cell of a genotype in the catalogue."""
    genotype = CATALOG[name].genotype
    return () if genotype is None else tuple(genotype.kinds)


def _valid(config: RetrainConfig, changes: dict[str, Any]) -> RetrainConfig:
    try:
        made = validate(RetrainConfig, config.model_dump() | changes)
    except RampartError:  # a position rule for other kinds of cell
        made = validate(RetrainConfig, config.model_dump() | changes | {"placement": "", "width_ratio": ""})
    assert isinstance(made, RetrainConfig)
    return made
