"""Architectures: published genotypes, and the genotypes of all runs. Equal genotypes with different names are one architecture.

This module does not import torch.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from engine.architecture.canonical import canonical
from engine.architecture.catalogue import CATALOG, CatalogEntry
from engine.architecture.genotype import Genotype
from engine.errors import GenotypeError
from engine.log.runlog import RunLog


@dataclass(frozen=True)
class Use:
    """A run that found, trained or attacked an architecture.

    Attributes:
        run: id of the run.
        kind: "search", "retrain" or "attack".
        title: title of the run.
        status: status of the run.
        imported: True if the run was imported.
        created: Unix time of the launch in seconds; 0 if unknown.
        dataset: name of the dataset.
        parameters, macs: size of the network that the run built; None for a search.
        channels, layers: channels of the first cells of this network, and number of its cells; None if unknown.
        natural, adversarial: (accuracy, low, high, images) on the test split with the 95 % Wilson interval, natural and in the
            worst case over the attacks; None except for an attack run with results.
        protocol: title of an attack run's protocol; "" for other runs.
        badge: colour of the reliability badge of an attack run; "" without results.
        candidates: number of candidates that a search has measured one by one, of which this architecture is the result; 0 for
            other runs.
        ranked: True if it is the best of them, False if it is the first.
    """

    run: str
    kind: str
    title: str
    status: str
    imported: bool
    created: float
    dataset: str
    parameters: int | None
    macs: int | None
    channels: int | None
    layers: int | None
    natural: tuple[float, float, float, int] | None = None
    adversarial: tuple[float, float, float, int] | None = None
    protocol: str = ""
    badge: str = ""
    candidates: int = 0
    ranked: bool = True


@dataclass(frozen=True)
class Architecture:
    """A genotype, with everything that is known about genotypes of the same canonical form.

    Attributes:
        hash: hash of the canonical form.
        genotype: the genotype as published or, if it was not published, as first found.
        published: entries of the catalogue with this genotype.
        uses: runs with this genotype, newest first.
        candidate: (run id, number of the candidate) if the genotype is known only as a candidate of a search; None otherwise.
    """

    hash: str
    genotype: Genotype
    published: tuple[CatalogEntry, ...]
    uses: tuple[Use, ...]
    candidate: tuple[str, int] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The catalogue names, then the titles of the searches that found the architecture, without repetition."""
        found = [use.title for use in reversed(self.uses) if use.kind == "search"]
        return tuple(dict.fromkeys([*(entry.name for entry in self.published), *found]))

    @property
    def title(self) -> str:
        """The first published name or, without one, a title made from a search.

        For a candidate, the title is its number and the end of the search's run id. For an architecture that a search has found,
        it is the title of the oldest such search and the end of its run id. For all others, it is the hash.
        """
        if self.published:
            return self.published[0].name
        if self.candidate:
            return f"candidate {self.candidate[1]} · {self.candidate[0].rsplit('-', 1)[-1]}"
        found = [use for use in self.uses if use.kind == "search"]
        return f"{found[-1].title} · {found[-1].run.rsplit('-', 1)[-1]}" if found else f"genotype {self.hash}"

    @property
    def searches(self) -> list[Use]:
        """The searches that found the architecture, newest first."""
        return [use for use in self.uses if use.kind == "search"]

    @property
    def attacks(self) -> list[Use]:
        """The attack runs with results on the test split, newest first."""
        return [use for use in self.uses if use.adversarial is not None]

    @property
    def created(self) -> float:
        """Unix time of the newest run in seconds; 0 without runs."""
        return max((use.created for use in self.uses), default=0.0)


def architectures(log: RunLog) -> list[Architecture]:
    """Return all architectures that a run or the catalogue contains.

    Architectures of runs come first, beginning with the one that has the newest run. Published architectures without a run follow
    in the order of the catalogue.
    """
    uses: dict[str, list[Use]] = defaultdict(list)
    genotypes: dict[str, Genotype] = {}
    published: dict[str, list[CatalogEntry]] = defaultdict(list)
    for use, genotype in _uses(log):
        key = canonical(genotype).hash
        uses[key].append(use)
        genotypes[key] = genotype  # the oldest run comes last
    for _, entry in CATALOG.items():
        if entry.genotype is not None:
            key = canonical(entry.genotype).hash
            genotypes[key] = entry.genotype if not published[key] else genotypes[key]
            published[key].append(entry)
    found = [Architecture(key, genotype, tuple(published[key]), tuple(uses[key])) for key, genotype in genotypes.items()]
    return sorted(found, key=lambda one: -one.created)


def _uses(log: RunLog) -> Iterable[tuple[Use, Genotype]]:
    """Yield every run with a readable genotype, newest first, together with the genotype."""
    rows = {row["id"]: row for row in log.runs().to_dict("records")}
    for found in log.genotypes_of_runs().to_dict("records"):
        row = rows.get(found["run"])
        try:
            genotype = Genotype.from_json(found["genotype"])
        except GenotypeError:  # written by another version
            continue
        if row is not None:
            yield _use(row, found), genotype


def _use(row: dict[str, Any], found: dict[str, Any]) -> Use:
    tested = row["kind"] == "attack"
    return Use(
        row["id"], row["kind"], row["title"], row["status"], imported=bool(found["imported"]),
        created=_number(row["created"]) or 0.0, dataset=row["dataset"], parameters=_whole(row["parameters"]),
        macs=_whole(row["macs"]), channels=_whole(found["channels"]), layers=_whole(found["layers"]),
        natural=_measured(row, "natural") if tested else None, adversarial=_measured(row, "adversarial") if tested else None,
        protocol=row["protocol_title"] if tested else "", badge=row["badge"],
        candidates=int(found["candidates"]), ranked=found["ranking"] != "none")


def _measured(row: dict[str, Any], name: str) -> tuple[float, float, float, int] | None:
    """Return (accuracy, low, high, images) of an attack run, or None if the accuracy was not measured."""
    values = [_number(row[f"{name}_{part}"]) for part in ("accuracy", "low", "high", "images")]
    accuracy, low, high, images = values
    return None if accuracy is None or low is None or high is None or images is None else (accuracy, low, high, int(images))


def _number(value: Any) -> float | None:
    return None if value is None or math.isnan(value) else float(value)


def _whole(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else int(number)
