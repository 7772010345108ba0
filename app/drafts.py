"""Drafts of architectures, made by combining cells of several architectures and by swapping operations on edges.

The page's address holds the draft."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.architecture.genotype import Genotype
from engine.architecture.swaps import Swap, read_swap, swapped
from engine.architecture.transplant import Graft, read_graft, transplant
from engine.errors import ConfigError, GenotypeError, RampartError
from engine.report.architectures import Architecture


@dataclass(frozen=True)
class Draft:
    """A changed architecture.

    Attributes:
        base: the architecture that is changed.
        parts: {cell kind: "HASH.KIND" of the cell that takes its place}, only for cells that are replaced.
        grafted: the genotype after the cells are replaced.
        swaps: operations that are then swapped.
        genotype: the genotype after both changes.
        problems: one sentence about each wrong value in the page's address. These values are left out of the draft.
    """

    base: Architecture
    parts: Mapping[str, str]
    grafted: Genotype
    swaps: tuple[Swap, ...]
    genotype: Genotype
    problems: tuple[str, ...] = ()

    @property
    def is_changed(self) -> bool:
        """True if the result differs from the base."""
        return self.genotype != self.base.genotype

    def with_part(self, target: str, source: str) -> list[str]:
        """Return the texts HASH.KIND:TARGET of all replaced cells, after a further replacement.

        Args:
            target: kind of the cell that is replaced.
            source: "HASH.KIND" of the cell that takes its place.
        """
        parts = {**self.parts, target: source}
        return [f"{cell}:{kind}" for kind, cell in parts.items() if cell != f"{self.base.hash}.{kind}"]

    def swaps_outside(self, kind: str) -> list[str]:
        """Return the texts KIND.EDGE.OPERATION of all swaps, except the swaps in the cell of this kind."""
        return [str(swap) for swap in self.swaps if swap.kind != kind]

    def with_swap(self, kind: str, edge: int, operation: str) -> list[str]:
        """Return the texts KIND.EDGE.OPERATION of all swaps, after the reader has chosen an operation for an edge of a cell.

        If the edge had this operation before any swap, it has no swap in the result.
        """
        others = [str(swap) for swap in self.swaps if (swap.kind, swap.edge) != (kind, edge)]
        is_same = self.grafted.cell(kind).edges[edge][0] == operation
        return others if is_same else [*others, str(Swap(kind, edge, operation))]


def edge_of(text: str, genotype: Genotype) -> tuple[str, int] | None:
    """Return the cell kind and the index of the edge that a text KIND.EDGE names, or None if the genotype has no such edge."""
    kind, _, edge = text.partition(".")
    if kind not in genotype.kinds or not (edge.isascii() and edge.isdigit()) or len(edge) > 4:
        return None
    return (kind, int(edge)) if int(edge) < len(genotype.cell(kind).edges) else None


def draft_of(base: Architecture, known: Mapping[str, Architecture], parts: Sequence[str], swaps: Sequence[str]) -> Draft:
    """Return the draft that the values `parts` and `swaps` of the page's address describe.

    Args:
        base: the architecture that is changed.
        known: {hash: architecture} of all architectures.
        parts: texts HASH.KIND:TARGET. The cell KIND of the architecture HASH replaces the cell TARGET of `base`.
        swaps: texts KIND.EDGE.OPERATION. OPERATION replaces the operation on the edge EDGE of the cell KIND.
    """
    problems: list[str] = []
    grafts = _grafts(base, known, parts, problems)
    grafted = genotype = transplant(base.genotype, list(grafts.values()))
    made: list[Swap] = []
    for text in swaps:
        try:
            swap = read_swap(text)
            before, genotype = genotype, swapped(genotype, [swap])
            made += [swap] if genotype != before else []
        except (ConfigError, GenotypeError) as refusal:
            problems.append(str(refusal))
    return Draft(base, {kind: graft.source for kind, graft in grafts.items()}, grafted, tuple(made), genotype, tuple(problems))


def _grafts(base: Architecture, known: Mapping[str, Architecture], parts: Sequence[str], problems: list[str]) -> dict[str, Graft]:
    """Return {kind of the replaced cell: replacement}. Append a sentence to `problems` for each wrong text."""
    def find(name: str) -> Genotype:
        if name not in known:
            raise ConfigError(f"A cell must come from an architecture of this page, got {name[:40]!r}; choose it again.")
        return known[name].genotype

    grafts: dict[str, Graft] = {}
    for text in parts:
        try:
            graft = read_graft(text if "." in text else f"{base.hash}.{text}", find)
            base.genotype.cell(graft.target)
            grafts[graft.target] = graft
        except RampartError as refusal:
            problems.append(str(refusal))
    return grafts
