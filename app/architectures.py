"""All architectures, cached for the pages until the runs change, and their sizes at a width and depth that the reader chooses."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import streamlit as st

from app import session
from engine.architecture.canonical import canonical
from engine.architecture.cost import Cost, cost
from engine.architecture.genotype import Genotype
from engine.architecture.placement import cell_widths
from engine.data.catalogue import DATASETS
from engine.errors import GenotypeError
from engine.report.architectures import Architecture, architectures

MOST_SIDE_BY_SIDE = 3
# Tables that the page shows.
SHOWN = ("folder", "genotype", "network", "candidate", "attack", "attack_check", "evaluation", "resumed")


@dataclass(frozen=True)
class Size:
    """The dataset, width and depth for which the sizes of networks are computed.

    Attributes:
        dataset: name of the dataset.
        channels: C, the width of the first cells.
        layers: number of cells.
    """

    dataset: str
    channels: int
    layers: int

    @property
    def words(self) -> str:
        """The size in words, for example "64 channels, 20 cells, CIFAR-10"."""
        return f"{self.channels} channels, {self.layers} cells, {DATASETS[self.dataset].title}"


@dataclass(frozen=True)
class Numbers:
    """The size of a network.

    Attributes:
        parameters, macs: see `engine.architecture.cost.Cost`.
        width_sum: sum of the widths of all cells, in channels.
        width_product: decimal logarithm of the product of the widths of all cells.
    """

    parameters: int
    macs: int
    width_sum: int
    width_product: float


def known() -> dict[str, Architecture]:
    """Return {hash of the canonical form: architecture}.

    Architectures of runs come first, newest first. Architectures that are known only from papers follow.
    """
    log = session.run_log()
    return _known(str(session.runs_root()), session.hub().signature("robustness"), log.revision(SHOWN))


def pasted(text: str) -> Architecture:
    """Return an architecture that the reader has pasted as JSON.

    Raises:
        GenotypeError: the text is not a genotype.
    """
    genotype = Genotype.from_json(text)
    return Architecture(canonical(genotype).hash, genotype, (), ())


def candidate(name: str) -> Architecture | None:
    """Return a candidate that a search measured, or None if no candidate has this name or its genotype cannot be read.

    Args:
        name: id of the search, a dot, and the number of the candidate.
    """
    run, _, number = name.rpartition(".")
    measured = session.run_log().candidates(run)
    texts = measured[measured["candidate"].astype(str) == number]["genotype"]
    try:
        genotype = Genotype.from_json(str(texts.iloc[0])) if len(texts) else None
    except GenotypeError:  # written by another version
        genotype = None
    return None if genotype is None else Architecture(canonical(genotype).hash, genotype, (), (), (run, int(number)))


def address_of_candidate(run: str, number: int, genotype: Genotype) -> str:
    """Return the address of the page that shows a candidate of a search in full."""
    return f"architectures?show={canonical(genotype).hash}&of={run}.{number}"


def named(known: Mapping[str, Architecture], names: Iterable[str]) -> list[Architecture]:
    """Return the architectures with these names, without repetition. Unknown names are left out.

    Args:
        known: {hash: architecture} of all architectures.
        names: hashes of architectures, or ids of runs that found, trained or attacked them.
    """
    hashes = {use.run: one.hash for one in known.values() for use in one.uses}
    found = (known.get(name) or known.get(hashes.get(name, "")) for name in names)
    return list({one.hash: one for one in found if one is not None}.values())


@lru_cache(maxsize=2000)
def numbers(genotype: Genotype, size: Size) -> Numbers:
    """Return the size of the network that is built from a genotype, without auxiliary head.

    Raises:
        ConfigError: no network can have this width and depth.
    """
    data = DATASETS[size.dataset]
    total: Cost = cost(genotype, channels=size.channels, layers=size.layers, classes=data.classes, image_shape=data.image_shape)
    widths = cell_widths(genotype.kinds, channels=size.channels, layers=size.layers)
    return Numbers(total.parameters, total.macs, sum(widths), math.log10(math.prod(widths)))


@st.cache_resource(show_spinner=False, max_entries=2)
def _known(root: str, signature: str, revision: int) -> dict[str, Architecture]:
    return {one.hash: one for one in architectures(session.run_log())}
