"""Capacity matching, which chooses the width of a retrained network so that the network is as large as a reference network.

The settings `match` and `match_to` of a retraining turn it on. Imports no torch.
"""

from __future__ import annotations

import re
from pathlib import Path

from engine.architecture.capacity import QUANTITIES, TOLERANCE, differ, nearest_width
from engine.architecture.catalogue import genotype_title
from engine.architecture.network import OFFERED, DerivedNetwork, Network, is_named, named_network, resized
from engine.config import RetrainConfig
from engine.configuring import validate
from engine.data.catalogue import DATASETS
from engine.errors import ConfigError
from engine.run.folder import ID_PATTERN, RunFolder
from engine.run.lineage import genotype_of, retraining_of, trained_network

WORDS = {"params": "parameters", "macs": "MACs"}


def matched(runs: Path | str, config: RetrainConfig, parent: str | None) -> tuple[RetrainConfig, str]:
    """Choose the width with which the retrained network comes closest in size to the reference network.

    The width is the number of channels or, for a hand-made network, the base channels in its name.

    The setting `match_to` names the reference network, and the setting `match` says whether MACs or parameters are compared.

    Args:
        runs: folder of all runs.
        config: configuration of the retraining.
        parent: id of the search that the retraining follows; None if it follows no search.

    Returns:
        The configuration with the chosen width; the unchanged configuration if the setting `match` is "none".
        A short text for the name of the run, such as "MACs as ARNAS@64x20 (+0.6 %)". The percentage is the difference in size
        relative to the reference network. The text is empty if `match` is "none".

    Raises:
        ConfigError: `match_to` names no network, the parent search has found no genotype yet, or the size of the reference
            network cannot be matched to within 5 %.
        GenotypeError: the genotype is not valid, or the setting `transplant` names a cell that does not exist.
        RunError: the parent or the reference run cannot be read.
    """
    if config.match == "none":
        return config, ""
    if not config.names_its_network and not (RunFolder(runs, str(parent)).results / "genotype.json").exists():
        raise ConfigError(problems={"match": (
            "match needs the genotype when the retraining is launched, and its search has not finished; launch the retraining "
            "after the search (retrain --parent SEARCH) or give --genotype.")})
    data = DATASETS[config.dataset]
    name, reference = _reference(runs, config.match_to)
    target = resized(reference, data.classes, data.image_shape).cost()
    fitted, size = nearest_width(trained_network(runs, config, parent), target, config.match)
    wanted, words = getattr(target, QUANTITIES[config.match]), WORDS[config.match]
    if differ((size, wanted)):
        raise ConfigError(problems={"match": (
            f"match must find channels within {100 * TOLERANCE:g} % of the {wanted:,} {words} of {name}, got {size:,} "
            f"({_signed(size, wanted)}) with {_at_best(fitted)} without match: the pages will then say that the sizes "
            "differ.")})
    changed = validate(RetrainConfig, config.model_dump() | fitted.width_setting)
    assert isinstance(changed, RetrainConfig)
    return changed, f"{words} as {name} ({_signed(size, wanted)})"


def _at_best(fitted: Network) -> str:
    """Return the last part of the error message of `matched`: the width that comes closest, and advice."""
    if isinstance(fitted, DerivedNetwork):
        return f"{fitted.channels} channels at best; change layers, or set channels to {fitted.channels}"
    return f"{fitted.title} at best; choose another network, or {fitted.name}"


def _reference(runs: Path | str, text: str) -> tuple[str, Network]:
    """Return the network whose size a retraining must match. The setting `match_to` names this reference network.

    Args:
        runs: folder of all runs.
        text: value of `match_to`: GENOTYPE@CHANNELSxLAYERS, a named network, or the id of a retraining or attack.

    Returns:
        The display name of the network.
        The network. Its image size and number of classes may not fit the dataset of the retraining.
    """
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
            f"match_to must be GENOTYPE@CHANNELSxLAYERS like ARNAS@64x20, a named network like {OFFERED[0]}, or the id of a "
            f"retraining or attack, got {text[:60]!r}; give one of them.")})
    network = DerivedNetwork(genotype_of(runs, genotype), int(match[1]), int(match[2]), 10, (3, 32, 32))
    return f"{genotype_title(genotype)}@{sizes}", network


def _signed(size: int, wanted: int) -> str:
    return f"{100 * (size / wanted - 1):+.1f} %"
