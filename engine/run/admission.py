"""Checks at the door: whether a run that is asked for can work at all. Each refusal is one sentence. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.architecture.catalogue import find_genotype
from engine.architecture.genotype import DERIVED
from engine.architecture.placement import RULES, check_size, resolved
from engine.config import RetrainConfig, RunConfig
from engine.config.fields import in_sentence
from engine.configuring import check_batch
from engine.data.catalogue import DATASETS, image_source
from engine.data.prepared import absence
from engine.errors import ConfigError, DataError, RunError
from engine.files import free_bytes
from engine.run.folder import RunFolder
from engine.run.lineage import arrangement_of, trained_network

# Checkpoints of the largest published network, with room to spare.
LEAST_FREE_BYTES = 200 * 2**20
PARENT_KIND = {"retrain": "search", "attack": "retrain"}


def check_disk(runs: Path, least_bytes: int = LEAST_FREE_BYTES) -> None:
    """Refuses a launch onto a disk that is nearly full.

    Raises:
        RunError: less than `least_bytes` free where the runs live.
    """
    free = free_bytes(runs)
    if free < least_bytes:
        raise RunError(f"A launch needs at least {least_bytes // 2**20} MB free on the disk of {runs}, "
                       f"{free / 2**20:.0f} MB are; free some space or use another runs folder (--runs DIR).")


def checkpoint_bytes(config: RunConfig) -> int:
    """What the checkpoints of a run take on the disk at most, as far as is known when it is asked for: 200 MB, or more for a
    retraining of a larger network."""
    if not isinstance(config, RetrainConfig) or not config.names_its_network:
        return LEAST_FREE_BYTES
    numbers = trained_network(Path(), config, None).cost(auxiliary=True).parameters
    # Weights, momentum, the best weights and perhaps an average, in the last checkpoint, the one before and the one being
    # written; then the best weights alone.
    copies = 3 * (4 if config.average_decay else 3) + 1
    return max(LEAST_FREE_BYTES, 4 * numbers * copies)


def check_present(config: RunConfig) -> None:
    """Refuses a run of which a dataset is not on this machine.

    Raises:
        DataError: how to get it.
    """
    for name in config.datasets():
        if missing := absence(image_source(name)):
            raise DataError(missing)


def check_config(kind: str, config: RunConfig) -> None:
    """Refuses a valid configuration that its dataset cannot serve: batches, sizes of images and of the network.

    Raises:
        ConfigError, GenotypeError: what was expected, what came, what to do.
    """
    check_batch(config, kind)
    _, height, width = DATASETS[config.dataset].image_shape
    if kind == "search" and (height % 4 or width % 4):
        raise ConfigError(problems={"dataset": (
            f"A search needs images whose height and width are multiples of 4 (its supernet halves them twice), "
            f"got {height}x{width} of {config.dataset}; prepare it with `rampart dataset fetch "
            f"{config.dataset} --side {4 * round(height / 4)}`.")})
    if isinstance(config, RetrainConfig) and config.names_its_network:
        _check_network(Path(), config, None)


def _check_network(runs: Path, config: RetrainConfig, parent: str | None) -> None:
    """Refuses a network that cannot be built of a genotype that is known."""
    trained_network(runs, config, parent).cost(auxiliary=True)


def check_arrangement(config: RetrainConfig, searched: Mapping[str, Any]) -> None:
    """Refuses places or widths that the cells a search will find cannot have.

    Args:
        config: of the retraining that follows.
        searched: the search's configuration; one of before there was a choice says nothing.

    Raises:
        ConfigError: a placement of other cells, or channels that a reduction cannot split.
    """
    if "placement" in searched and not config.genotype:
        facts = DATASETS[config.dataset]
        found = resolved(RULES[searched["placement"]].kinds, config.placement or searched["placement"],
                         config.width_ratio or searched.get("width_ratio", ""))
        check_size(config.channels, facts.classes, facts.image_shape, found["width_ratio"])


def check_parent(runs: Path, kind: str, config: RunConfig, parent: str | None) -> dict[str, Any] | None:
    """The parent's run.json when a run may follow it; None when it needs none.

    Raises:
        RunError: no such run, a run of the wrong kind, or none where one is needed.
        ConfigError: another dataset than the network was trained on, a network that its cells cannot make, or a checkpoint that
            an imported network does not have.
        GenotypeError: cells are to be replaced that the parent's genotype does not have.
    """
    if kind == "search":
        if parent:
            raise RunError(f"A search has no parent, got {parent!r}; leave the parent out.")
        return None
    wanted = PARENT_KIND[kind]
    if not parent:
        if isinstance(config, RetrainConfig) and config.names_its_network:
            return None
        other = " or a genotype (--genotype), or the name of a network (--network)" if kind == "retrain" else ""
        raise RunError(f"A run of kind {kind} needs the id of a {wanted} run (--parent){other}, got none; "
                       "`rampart runs` lists the ids.")
    if isinstance(config, RetrainConfig):
        check_follows(config)
    above = RunFolder(runs, parent).read_run()
    if above["kind"] != wanted:
        raise RunError(f"The parent of a run of kind {kind} must be a {wanted} run, "
                       f"got the {above['kind']} run {parent}; name its {wanted} run.")
    if kind == "attack" and above["config"].get("dataset") != config.dataset:
        raise ConfigError(problems={"dataset": (
            f"dataset must be {above['config'].get('dataset')!r}, on which {parent} was trained, "
            f"got {config.dataset!r}; attack it there.")})
    if getattr(config, "checkpoint", "best") == "last" and above.get("imported"):
        raise ConfigError(problems={"checkpoint": (
            f"checkpoint must be best for {parent}, which was imported from a file of one network, got last; leave "
            "it out.")})
    if isinstance(config, RetrainConfig):
        check_arrangement(config, above["config"])
        # What a search that goes on will find is known when the retraining begins.
        if (RunFolder(runs, parent).results / "genotype.json").exists():
            _check_network(runs, config, parent)
    return above


def check_follows(config: RetrainConfig) -> None:
    """Refuses a retraining that is to follow a search without training what that finds.

    Raises:
        ConfigError: a network chosen by name.
    """
    if config.network != DERIVED:
        raise ConfigError(problems={"network": (
            f"A retraining that follows a search must train what it found (network {DERIVED}), got "
            f"{config.network}; launch it by itself, without a parent.")})


def searched_arrangement(runs: Path, config: RetrainConfig, search: Mapping[str, Any] | None) -> list[str]:
    """What the name of a network says of a position rule and of widths that it has from the search which measured it as a
    candidate, where they are not the published ones of its cells.

    Args:
        runs: the folder of all runs.
        config: of a retraining that says itself what it trains.
        search: record of its parent; None for none.

    Raises:
        ConfigError, GenotypeError: as `find_genotype`.
    """
    if search is None or config.network != DERIVED:
        return []
    genotype = find_genotype(str(config.genotype))
    found = arrangement_of(runs, config, str(search["id"]), genotype)
    published = resolved(genotype.kinds)
    names = [] if config.placement or found["placement"] == published["placement"] else [
        in_sentence(RULES[found["placement"]].title)]
    return names + ([] if config.width_ratio or found["width_ratio"] == published["width_ratio"] else [
        f"widths {found['width_ratio']}"])
