"""Checks at the door: whether a run that is asked for can work at all. Each refusal is one sentence. Imports no torch."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from engine.config import KINDS, AttackConfig, RetrainConfig, RunConfig, SearchConfig
from engine.data import DATASETS, SPLITS
from engine.errors import ConfigError, RunError
from engine.registry import unknown_name
from engine.run.folder import RunFolder

# Checkpoints of the largest published network, twice, with room to spare.
LEAST_FREE_BYTES = 200 * 2**20
PARENT_KIND = {"retrain": "search", "attack": "retrain"}
# Splits from which each kind takes its batches.
BATCH_SPLITS = {"search": ("weights", "alphas"), "retrain": ("weights", "alphas"), "attack": ("test",)}


def split_sizes(dataset: str, images: int | None) -> dict[str, int]:
    """Images in each split, to within one or two of what the stratified split really gives."""
    facts = DATASETS[dataset]
    sizes = {name: int(facts.images * fraction) for name, fraction in zip(SPLITS, facts.split_fractions)}
    return {name: min(size, images) if images else size for name, size in sizes.items()}


def batch_limit(kind: str, dataset: str, images: int | None) -> int:
    """The largest batch that a kind of run can draw: search draws from each split, retraining from both together."""
    sizes = [split_sizes(dataset, images)[name] for name in BATCH_SPLITS[kind]]
    return sum(sizes) if kind == "retrain" else min(sizes)


def check_disk(runs: Path) -> None:
    """Refuses a launch onto a disk that is nearly full.

    Raises:
        RunError: less than 200 MB free where the runs live.
    """
    free = shutil.disk_usage(runs).free
    if free < LEAST_FREE_BYTES:
        raise RunError(f"A launch needs at least {LEAST_FREE_BYTES // 2**20} MB free on the disk of {runs}, "
                       f"{free / 2**20:.0f} MB are; free some space or use another runs folder (--runs DIR).")


def check_batch(kind: str, config: RunConfig) -> None:
    """Refuses a batch that its split cannot fill.

    Raises:
        ConfigError: batch larger than the split.
    """
    assert isinstance(config, (SearchConfig, RetrainConfig, AttackConfig))
    limit = batch_limit(kind, config.dataset, config.images)
    if config.batch_size > limit:
        names = " and ".join(BATCH_SPLITS[kind])
        where = f"the {names} splits {'together' if kind == 'retrain' else 'each'}" if kind != "attack" else "the test split"
        of = f" (images={config.images})" if config.images else ""
        raise ConfigError(f"batch_size must be at most {limit}, the images in {where} of {config.dataset}{of}, "
                          f"got {config.batch_size}; take a smaller batch.")


def check_attacks(config: AttackConfig) -> None:
    """Refuses unknown, repeated or no attacks.

    Raises:
        ConfigError: with the known names.
    """
    from engine.attack import ATTACKS

    if not config.attacks:
        raise ConfigError(f"attacks must name at least one attack, got none; known are: {', '.join(ATTACKS)}.")
    for name in config.attacks:
        ATTACKS[name]
    if len(set(config.attacks)) < len(config.attacks):
        raise ConfigError(f"attacks must name each attack once, got {', '.join(config.attacks)}; remove the repetition.")


def check_kind(kind: str) -> None:
    """Raises ConfigError for an unknown run kind."""
    if kind not in KINDS:
        raise ConfigError(unknown_name("run kind", kind, KINDS))


def check_parent(runs: Path, kind: str, config: RunConfig, parent: str | None) -> dict[str, Any] | None:
    """The parent's run.json when a run may follow it; None when it needs none.

    Raises:
        RunError: no such run, a run of the wrong kind, or none where one is needed.
        ConfigError: another dataset than the network was trained on.
    """
    if kind == "search":
        if parent:
            raise RunError(f"A search has no parent, got {parent!r}; leave the parent out.")
        return None
    wanted = PARENT_KIND[kind]
    if not parent:
        if kind == "retrain" and getattr(config, "genotype", None):
            return None
        other = " or a genotype (--genotype)" if kind == "retrain" else ""
        raise RunError(f"A run of kind {kind} needs the id of a {wanted} run (--parent){other}, got none; "
                       "`python -m engine runs` lists the ids.")
    above = RunFolder(runs, parent).read_run()
    if above["kind"] != wanted:
        raise RunError(f"The parent of a run of kind {kind} must be a {wanted} run, "
                       f"got the {above['kind']} run {parent}; name its {wanted} run.")
    if kind == "attack" and above["config"].get("dataset") != config.dataset:
        raise ConfigError(f"dataset must be {above['config'].get('dataset')!r}, on which {parent} was trained, "
                          f"got {config.dataset!r}; attack it there.")
    return above


def genotype_of(text: str) -> tuple[str, Any]:
    """(name in print, Genotype) of a catalogue name or a genotype as JSON.

    Raises:
        GenotypeError: JSON that is no genotype.
        ConfigError: no such name in the catalogue, or an entry whose format is not ours.
    """
    from engine.catalog import CATALOG
    from engine.genotype import Genotype

    if text.lstrip().startswith("{"):
        genotype = Genotype.from_json(text)
        return f"genotype {genotype.hash}", genotype
    entry = CATALOG[text]
    if entry.genotype is None:
        raise ConfigError(f"A genotype that can be built must be named, got {text!r} ({entry.note}); choose another.")
    return entry.name, entry.genotype
