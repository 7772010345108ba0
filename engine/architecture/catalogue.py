"""The catalogue of published genotypes with their sources, read from `catalogue.json` in this folder.

* The entries of RobNet's networks have no genotype. RobNet keeps all edges of a cell, but a genotype has only two edges per node.
* DSARA's public code has its own names for the cell kinds of ARNAS. The catalogue uses the names of ARNAS.
* Three genotypes are missing. The public copy of CRoZe's genotype is malformed. The genotypes of DSRNA and NADAR are not public.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from engine.architecture.genotype import Genotype
from engine.errors import GenotypeError
from engine.registry import Registry


@dataclass(frozen=True)
class CatalogEntry:
    """One published architecture.

    Attributes:
        name: name in the catalogue, for example "DARTS_V2".
        genotype: the architecture; None for a RobNet network, which does not have two edges per node.
        source: place of publication, as "repository@commit file". If the file uses another name for the genotype, this name is
            appended.
        note: one sentence of explanation, shown to the user; may be empty.
        codes: cells of a RobNet network. Each cell has 14 two-bit codes, one per edge in DARTS
            order. If there is only one cell, it is used at all positions. Empty for all other architectures.
    """

    name: str
    genotype: Genotype | None
    source: str
    note: str
    codes: tuple[tuple[str, ...], ...] = ()


CATALOG: Registry[CatalogEntry] = Registry("catalogue genotype")


def find_genotype(text: str) -> Genotype:
    """Return the genotype that a text describes. The text is a catalogue name or the genotype as JSON.

    Example:
        find_genotype("ARNAS").hash

    Raises:
        ConfigError: the name is not in the catalogue; the message lists the known names and the nearest one.
        GenotypeError: the JSON is not a genotype, or the catalogue entry does not have two edges per node.
    """
    text = text.strip()
    if text[:1] in ("{", "[", '"'):
        return Genotype.from_json(text)
    entry = CATALOG[text]
    if entry.genotype is None:
        raise GenotypeError(f"A genotype must have two edges per node, got {text}, which keeps all edges of a cell; "
                            f"choose another entry of the catalogue.")
    return entry.genotype


def genotype_title(text: str) -> str:
    """Return the title of the genotype that a text describes. The text is a catalogue name or the genotype as JSON.

    For a catalogue name, the title is the name itself. For JSON, the title is "genotype" followed by the genotype's hash.

    Raises:
        ConfigError: the name is not in the catalogue.
        GenotypeError: the JSON is not a genotype, or the catalogue entry does not have two edges per node.
    """
    genotype = find_genotype(text)
    return text.strip() if text.strip() in CATALOG else f"genotype {genotype.hash}"


def name_of(genotype: Genotype) -> str | None:
    """Return the first catalogue name of this genotype, or None if it is not in the catalogue."""
    return next((name for name, entry in CATALOG.items() if entry.genotype == genotype), None)


def _read(path: Path) -> None:
    for record in json.loads(path.read_text(encoding="utf-8"))["entries"]:
        genotype = None if record["genotype"] is None else Genotype.from_dict(record["genotype"])
        codes = tuple(tuple(cell) for cell in record.get("codes", ()))
        CATALOG.add(record["name"], CatalogEntry(record["name"], genotype, record["source"], record["note"], codes))


_read(Path(__file__).with_name("catalogue.json"))
