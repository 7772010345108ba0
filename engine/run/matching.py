"""Capacity matching: a retraining with the channels that its setting `match` chooses. Imports no torch."""

from __future__ import annotations

import re
from pathlib import Path

from engine.architecture.capacity import QUANTITIES, TOLERANCE, differ, nearest_channels
from engine.architecture.catalogue import genotype_title
from engine.architecture.network import OFFERED, DerivedNetwork, Network, is_named, named_network, resized
from engine.config import RetrainConfig
from engine.configuring import validate
from engine.data.catalogue import DATASETS
from engine.errors import ConfigError
from engine.run.folder import ID_PATTERN, RunFolder
from engine.run.lineage import arrangement_of, genotype_of, retraining_of, trained_genotype, trained_network

WORDS = {"params": "parameters", "macs": "MACs"}


def matched(runs: Path | str, config: RetrainConfig, parent: str | None) -> tuple[RetrainConfig, str]:
    """The configuration with the channels that its `match` chooses, and the words for the run's name.

    Args:
        runs: folder of all runs.
        config: of a retraining; without `match` it comes back as it is, with "".
        parent: id of the search that it follows, if any.

    Returns:
        For example (..., "MACs as ARNAS@64x20 (+0.6 %)"): the difference is a share of the reference. Short, since tables and
        charts show it with the run's name; channels and reference in full stand in its settings.

    Raises:
        ConfigError: no reference, a genotype that is not known yet, or no channels that come within 5 %.
        GenotypeError, RunError: as `trained_genotype`.
    """
    if config.match == "none":
        return config, ""
    if not config.genotype and not (RunFolder(runs, str(parent)).results / "genotype.json").exists():
        raise ConfigError(problems={"match": (
            "match must know the genotype when the retraining is asked for, and its search has not finished; "
            "launch the retraining afterwards (retrain --parent SEARCH) or give --genotype.")})
    data = DATASETS[config.dataset]
    name, reference = _reference(runs, config.match_to)
    target = resized(reference, data.classes, data.image_shape).cost()
    genotype = trained_genotype(runs, config, parent)
    found, size = nearest_channels(genotype, target, config.match, layers=config.layers, classes=data.classes,
                                   image_shape=data.image_shape, **arrangement_of(runs, config, parent, genotype))
    wanted, words = getattr(target, QUANTITIES[config.match]), WORDS[config.match]
    if differ((size, wanted)):
        raise ConfigError(problems={"match": (
            f"match must find channels within {100 * TOLERANCE:g} % of the {wanted:,} {words} of {name}, the "
            f"nearest are {found} with {size:,} ({_signed(size, wanted)}); change layers, or set channels to "
            f"{found} without match: the pages will say that the sizes differ.")})
    changed = validate(RetrainConfig, {**config.model_dump(), "channels": found})
    assert isinstance(changed, RetrainConfig)
    return changed, f"{words} as {name} ({_signed(size, wanted)})"


def _reference(runs: Path | str, text: str) -> tuple[str, Network]:
    """Return (name, network) of a value of `match_to`; its images and classes are not the dataset's yet."""
    text = text.strip()
    if ID_PATTERN.fullmatch(text):
        return f"run {text.rsplit('-', 1)[-1]}", trained_network(runs, *retraining_of(runs, text))
    if is_named(text):
        named = named_network(text)
        return named.title, named
    genotype, _, sizes = text.rpartition("@")
    match = re.fullmatch(r"(\d{1,4})x(\d{1,3})", sizes)
    if not (genotype and match):
        raise ConfigError(problems={"match_to": (
            "match_to must be GENOTYPE@CHANNELSxLAYERS like ARNAS@64x20, a network chosen by name like "
            f"{OFFERED[0]}, or the id of a retraining or attack, got {text[:60]!r}; give one of them.")})
    network = DerivedNetwork(genotype_of(runs, genotype), int(match[1]), int(match[2]), 10, (3, 32, 32))
    return f"{genotype_title(genotype)}@{sizes}", network


def _signed(size: int, wanted: int) -> str:
    return f"{100 * (size / wanted - 1):+.1f} %"
