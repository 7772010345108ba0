"""Cell transplant: a genotype in which cells stand where others stood, its own or another genotype's. Imports no torch.

Written as text, so that command, form and run name say the same: "accurate:robust" puts the accurate cell in the place of the
robust one, too; "accurate:robust, robust:accurate" exchanges the two; "ADVRUSH.normal:robust" takes the cell out of another
genotype. A genotype's JSON has no room for where its cells come from, so a run keeps this text among its settings.
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
    """One cell that goes where another stood.

    Attributes:
        source: kind of the cell that is taken, with its genotype before a dot where it is another's.
        target: kind in whose place it is put.
        cell: the cell, where it is another genotype's; None for the own one, which is known when there is a genotype.
    """

    source: str
    target: str
    cell: Cell | None = None

    def __str__(self) -> str:
        """As a run's name has it: "accurate as robust"."""
        return f"{self.source} as {self.target}"


def read_graft(text: str, find: Callable[[str], Genotype] = find_genotype) -> Graft:
    """Reads SOURCE:TARGET or GENOTYPE.SOURCE:TARGET.

    Args:
        text: for example "accurate:robust".
        find: what a genotype in it stands for; by itself a catalogue name or JSON.

    Raises:
        ConfigError: another form, an unknown kind of cell, nothing that would change.
        GenotypeError: a donor that is no genotype.
    """
    left, colon, target = (part.strip() for part in text.rpartition(":"))
    donor, _, source = (part.strip() for part in left.rpartition("."))
    if not (colon and source and target):
        raise ConfigError(problems={"transplant": (
            "A transplant must be SOURCE:TARGET like accurate:robust or ADVRUSH.normal:robust, got "
            f"{text.strip()!r}; name the kind of cell to take and the kind to replace.")})
    for kind in (source, target):
        if kind not in CELL_KINDS:
            raise ConfigError(problems={"transplant": unknown_name("cell kind", kind, CELL_KINDS)})
    if not donor:
        if source == target:
            raise ConfigError(problems={"transplant": (
                f"A transplant must put a cell in another's place, got {text.strip()!r}; name two kinds of cell.")})
        return Graft(source, target)
    taken = find(donor)
    if source not in taken.kinds:
        raise ConfigError(problems={"transplant": (
            f"In {donor[:40]}: {unknown_name('cell kind', source, taken.kinds)}")})
    return Graft(left, target, taken.cell(source))


def read_grafts(text: str) -> list[Graft]:
    """Reads several, with commas between; none from an empty text.

    Raises:
        ConfigError, GenotypeError: as `read_graft`, or a cell that is replaced twice.
    """
    grafts = [read_graft(part) for part in text.split(",")] if text.strip() else []
    check_targets(grafts)
    return grafts


def check_targets(grafts: Sequence[Graft]) -> None:
    """Refuses two cells for one place.

    Raises:
        ConfigError: the place.
    """
    targets = [graft.target for graft in grafts]
    for target in sorted(set(targets)):
        if targets.count(target) > 1:
            raise ConfigError(problems={"transplant": (
                f"A transplant can replace each cell once, got {targets.count(target)} cells for {target}; "
                "keep one of them.")})


def transplant(genotype: Genotype, grafts: Sequence[Graft]) -> Genotype:
    """The genotype with its cells replaced; all are taken before any is put in place, so that two can change places.

    Example:
        transplant(find_genotype("ARNAS"), read_grafts("accurate:robust, robust:accurate"))

    Raises:
        ConfigError: two cells for one place.
        GenotypeError: a kind of cell that the genotype does not have.
    """
    check_targets(grafts)
    cells = dict(genotype.cells)
    for graft in grafts:
        genotype.cell(graft.target)
        cells[graft.target] = graft.cell or genotype.cell(graft.source)
    return Genotype(tuple(cells.items()))
