"""Capacity matching: the channels at which a network has as many parameters or MACs as another. Arithmetic; imports no torch.

Both networks are counted for the images of one dataset and without the auxiliary head, which only training uses.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.config import RetrainConfig, validate
from engine.cost import Cost, cost
from engine.data import DATASETS
from engine.description import HAND_MADE, cost_of
from engine.errors import ConfigError
from engine.genotype import Genotype
from engine.placement import needs_even_channels
from engine.residual import OFFERED, hand_made, is_hand_made
from engine.run.admission import genotype_title
from engine.run.folder import ID_PATTERN, RunFolder
from engine.run.lineage import arrangement_of, genotype_of, retraining_of, trained_genotype, trained_network

TOLERANCE = 0.05  # networks that differ by more than this share of the larger one are not of equal capacity
QUANTITIES = {"params": "parameters", "macs": "macs"}  # what RetrainConfig.match says -> field of Cost
WORDS = {"params": "parameters", "macs": "MACs"}
CHANNELS = range(2, 1025)  # what RetrainConfig.channels allows; derived networks are built at odd numbers, too


def differ(sizes: Sequence[float]) -> bool:
    """Whether the largest and the smallest of some sizes are more than 5 % of the largest apart; False of fewer than two."""
    return len(sizes) > 1 and _apart(*sizes) > TOLERANCE


def nearest_channels(genotype: Genotype, target: Cost, match: str, *, layers: int, classes: int,
                     image_shape: Sequence[int], placement: str = "", width_ratio: str = "") -> tuple[int, int]:
    """(channels, their parameters or MACs) that differ least from the target, as a share of the larger of the two.

    Args:
        genotype: the architecture whose channels are sought.
        target: what it is to cost.
        match: "params" or "macs".
        layers, classes, image_shape, placement, width_ratio: as in `engine.cost.cost`.

    Raises:
        ConfigError: sizes no network can have.
    """
    quantity = QUANTITIES[match]

    def size(channels: int) -> int:
        found = cost(genotype, channels=channels, layers=layers, classes=classes, image_shape=image_shape, placement=placement,
                     width_ratio=width_ratio)
        return getattr(found, quantity)

    wanted = getattr(target, quantity)
    allowed = CHANNELS[::2] if width_ratio and needs_even_channels(width_ratio) else CHANNELS
    above = bisect_left(allowed, wanted, key=size)  # both quantities grow with every channel
    around = allowed[max(0, above - 1):above + 1]
    return min(((channels, size(channels)) for channels in around), key=lambda found: _apart(found[1], wanted))


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
        raise ConfigError("match must know the genotype when the retraining is asked for, and its search has not finished; "
                          "launch the retraining afterwards (retrain --parent SEARCH) or give --genotype.")
    data = DATASETS[config.dataset]
    of_data = {"classes": data.classes, "image_shape": data.image_shape}
    name, reference = _reference(runs, config.match_to)
    target = cost_of({**reference, **of_data})
    genotype = trained_genotype(runs, config, parent)
    found, size = nearest_channels(genotype, target, config.match, layers=config.layers, **of_data,
                                   **arrangement_of(runs, config, parent, genotype))
    wanted, words = getattr(target, QUANTITIES[config.match]), WORDS[config.match]
    if differ((size, wanted)):
        raise ConfigError(f"match must find channels within {100 * TOLERANCE:g} % of the {wanted:,} {words} of {name}, the "
                          f"nearest are {found} with {size:,} ({_signed(size, wanted)}); change layers, or set channels to "
                          f"{found} without match: the pages will say that the sizes differ.")
    changed = validate(RetrainConfig, {**config.model_dump(), "channels": found})
    assert isinstance(changed, RetrainConfig)
    return changed, f"{words} as {name} ({_signed(size, wanted)})"


def _reference(runs: Path | str, text: str) -> tuple[str, dict[str, Any]]:
    """(name, description as in `engine.description`) of what `match_to` says."""
    text = text.strip()
    if ID_PATTERN.fullmatch(text):
        return f"run {text.rsplit('-', 1)[-1]}", trained_network(runs, *retraining_of(runs, text))
    if is_hand_made(text):
        return hand_made(text).title, {HAND_MADE: text}
    genotype, _, sizes = text.rpartition("@")
    found = re.fullmatch(r"(\d{1,4})x(\d{1,3})", sizes)
    if not (genotype and found):
        raise ConfigError("match_to must be GENOTYPE@CHANNELSxLAYERS like ARNAS@64x20, a hand-made network like "
                          f"{OFFERED[0]}, or the id of a retraining or attack, got {text[:60]!r}; give one of them.")
    return f"{genotype_title(genotype)}@{sizes}", {"genotype": genotype_of(runs, genotype).to_dict(), "channels": int(found[1]),
                                                   "layers": int(found[2])}


def _apart(*sizes: float) -> float:
    return (max(sizes) - min(sizes)) / max(sizes)


def _signed(size: int, wanted: int) -> str:
    return f"{100 * (size / wanted - 1):+.1f} %"
