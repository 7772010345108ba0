"""Cell transplants, which replace cells of a genotype by other cells of the same or another genotype. Does not import torch.

A transplant is written as text, both on the command line and in forms. For example, "accurate:robust" replaces the robust cell by
a copy of the accurate cell, "accurate:robust, robust:accurate" swaps these two cells, and "ADVRUSH.normal:robust" takes the new
cell from another genotype. The JSON of a genotype cannot record the origin of the cells, so a run keeps the text of the
transplant among its settings.
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
    """The replacement of one cell by another.

    Attributes:
        source: kind of the new cell. If the cell is from another genotype, the name of that genotype precedes the kind, as in
            "ADVRUSH.normal".
        target: kind of the cell that is replaced.
        cell: the new cell if it is from another genotype; None if it is from the genotype that is changed.
    """

    source: str
    target: str
    cell: Cell | None = None

    def __str__(self) -> str:
        """Return the replacement as text for a run's name, for example "accurate as robust"."""
        return f"{self.source} as {self.target}"


def read_graft(text: str, find: Callable[[str], Genotype] = find_genotype) -> Graft:
    """Parse the replacement of one cell, written as SOURCE:TARGET or GENOTYPE.SOURCE:TARGET.

    TARGET is the kind of the cell to replace, and SOURCE the kind of the new cell. The new cell is from GENOTYPE. Without
    GENOTYPE, it is from the genotype that is changed.

    Args:
        text: for example "accurate:robust".
        find: function that returns the genotype to which GENOTYPE refers. By default, GENOTYPE is a catalogue name or JSON.

    Raises:
        ConfigError: the text has another form, a cell kind or catalogue name is unknown, or a cell would replace itself.
        GenotypeError: the text before the dot is not a genotype.
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
    """Parse several replacements, separated by commas, as in "accurate:robust, robust:accurate". "" gives an empty list.

    Raises:
        ConfigError: `read_graft` rejects a replacement, or a cell is replaced twice.
        GenotypeError: the text before a dot is not a genotype.
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
    """Return a copy of the genotype in which some cells are replaced. Each graft describes one replacement.

    All new cells are taken from the unchanged genotype (or from other genotypes), so two cells can be swapped.

    Example:
        transplant(find_genotype("ARNAS"), read_grafts("accurate:robust, robust:accurate"))

    Raises:
        ConfigError: a cell is replaced twice.
        GenotypeError: the genotype has no cell of a kind that a graft names.
    """
    check_targets(grafts)
    cells = dict(genotype.cells)
    for graft in grafts:
        genotype.cell(graft.target)
        cells[graft.target] = graft.cell or genotype.cell(graft.source)
    return Genotype(tuple(cells.items()))
