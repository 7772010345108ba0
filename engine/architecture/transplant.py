"""Cell transplants: replace cells of a genotype by its other cells or by those of another genotype. Imports no torch.

A transplant is a text, the same in command, form and run name: "accurate:robust" replaces the robust cell by a copy of the
accurate one, "accurate:robust, robust:accurate" swaps the two, and "ADVRUSH.normal:robust" takes the cell from another genotype.
A genotype's JSON cannot record the origin of its cells, so a run keeps this text among its settings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.architecture.catalogue import find_genotype
from engine.architecture.genotype import KIND_SETS, Cell, Genotype
from engine.errors import ConfigError
from engine.registry import unknown_name

CELL_KINDS = tuple(sorted({kind for kinds in KIND_SETS for kind in kinds}))


@dataclass(frozen=True)
class Graft:
    """One cell that replaces another.

    Attributes:
        source: kind of the new cell; if it is from another genotype, preceded by that genotype and a dot.
        target: kind of the cell that it replaces.
        cell: the new cell if it is from another genotype; None if it is from the genotype itself.
    """

    source: str
    target: str
    cell: Cell | None = None

    def __str__(self) -> str:
        """Return the words for a run's name: "accurate as robust"."""
        return f"{self.source} as {self.target}"


def read_graft(text: str, find: Callable[[str], Genotype] = find_genotype) -> Graft:
    """Parse SOURCE:TARGET or GENOTYPE.SOURCE:TARGET.

    Args:
        text: for example "accurate:robust".
        find: returns the genotype that the text names; by default from a catalogue name or JSON.

    Raises:
        ConfigError: another form, an unknown cell kind, or a cell that would replace itself.
        GenotypeError: the donor is not a genotype.
    """
    left, colon, target = (part.strip() for part in text.rpartition(":"))
    donor, _, source = (part.strip() for part in left.rpartition("."))
    if not (colon and source and target):
        raise ConfigError(problems={"transplant": (
            "A transplant must be SOURCE:TARGET like accurate:robust or ADVRUSH.normal:robust, got "
            f"{text.strip()!r}; name the kind of the new cell and the kind to replace.")})
    for kind in (source, target):
        if kind not in CELL_KINDS:
            raise ConfigError(problems={"transplant": unknown_name("cell kind", kind, CELL_KINDS)})
    if not donor:
        if source == target:
            raise ConfigError(problems={"transplant": (
                f"A transplant must replace a cell by another one, got {text.strip()!r}; name two different kinds of cell.")})
        return Graft(source, target)
    genotype = find(donor)
    if source not in genotype.kinds:
        raise ConfigError(problems={"transplant": (
            f"In {donor[:40]}: {unknown_name('cell kind', source, genotype.kinds)}")})
    return Graft(left, target, genotype.cell(source))


def read_grafts(text: str) -> list[Graft]:
    """Parse several grafts separated by commas; an empty text has none.

    Raises:
        ConfigError, GenotypeError: as `read_graft`, or a cell is replaced twice.
    """
    grafts = [read_graft(part) for part in text.split(",")] if text.strip() else []
    check_targets(grafts)
    return grafts


def check_targets(grafts: Sequence[Graft]) -> None:
    """Check that each cell is replaced at most once.

    Raises:
        ConfigError: a cell is replaced twice.
    """
    targets = [graft.target for graft in grafts]
    for target in sorted(set(targets)):
        if targets.count(target) > 1:
            raise ConfigError(problems={"transplant": (
                f"A transplant can replace each cell once, got {targets.count(target)} cells for {target}; "
                "keep one of them.")})


def transplant(genotype: Genotype, grafts: Sequence[Graft]) -> Genotype:
    """Return the genotype with cells replaced. New cells come from the original genotype, so two cells can be swapped.

    Example:
        transplant(find_genotype("ARNAS"), read_grafts("accurate:robust, robust:accurate"))

    Raises:
        ConfigError: a cell is replaced twice.
        GenotypeError: the genotype does not have a cell kind.
    """
    check_targets(grafts)
    cells = dict(genotype.cells)
    for graft in grafts:
        genotype.cell(graft.target)
        cells[graft.target] = graft.cell or genotype.cell(graft.source)
    return Genotype(tuple(cells.items()))
