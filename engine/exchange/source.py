"""The source of an export: a published genotype, one as JSON, the result of a search, or a retrained network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.catalog import find_genotype
from engine.data import DATASETS
from engine.description import HAND_MADE
from engine.errors import ConfigError, RunError
from engine.genotype import Genotype
from engine.placement import resolved, width_ratio_text
from engine.residual import hand_made, is_hand_made
from engine.run.folder import ID_PATTERN, RunFolder, read_json
from engine.run.lineage import found_genotype

# The defaults of `describe`: the published ARNAS network.
OF_IMAGES = {"classes": 10, "image_shape": (3, 32, 32)}
DEFAULT_SIZES = {"channels": 64, "layers": 20, **OF_IMAGES}
ARRANGEMENT = ("placement", "width_ratio")  # missing in older files, whose cells have the published ones


@dataclass(frozen=True)
class Source:
    """An architecture with its sizes, and the run that holds its weights.

    Attributes:
        title: a catalogue name, "genotype <hash>" or a run id.
        genotype: the architecture; None for a hand-made network.
        sizes: channels, layers, classes, image_shape, placement and width_ratio, as `engine.space.network.Network` takes them.
        retrained: the run with trained weights; None if there are none.
    """

    title: str
    genotype: Genotype | None
    sizes: dict[str, Any]
    retrained: RunFolder | None = None

    @property
    def description(self) -> dict[str, Any]:
        """The network as `engine.description` has it; hand-made ones carry their name among their sizes."""
        return self.sizes if self.genotype is None else {"genotype": self.genotype.to_dict(), **self.sizes}

    def cells(self, what: str) -> Genotype:
        """Return the genotype. `what`: the subject of the error's sentence, for example "An export as json".

        Raises:
            ConfigError: a hand-made network.
        """
        if self.genotype is None:
            raise ConfigError(f"{what} must have a genotype, got {self.title}, which is hand-made and has none; export such a "
                              "network as onnx.")
        return self.genotype


def find(text: str, runs: Path, *, channels: int | None = None, layers: int | None = None, classes: int | None = None,
         image_shape: Sequence[int] | None = None, placement: str | None = None, width_ratio: str | None = None) -> Source:
    """Return the architecture that `text` names.

    Args:
        text: a run id, a catalogue name, a genotype as JSON or the name of a hand-made network. A search gives its result, for
            the images it was searched on; a retraining its network; an attack the network it attacked.
        runs: folder of all runs.
        channels, layers, classes, image_shape: size of the network; None for the run's own, else the published ARNAS size.
        placement, width_ratio: as `engine.placement.positions`; None for the run's own, else those published with the cells.

    Raises:
        ConfigError, GenotypeError: an unknown name, an invalid genotype, a placement of other cells, or a size that the
            retrained network does not have.
        RunError: no such run, or one without a result.
    """
    given = {"channels": channels, "layers": layers, "classes": classes,
             "image_shape": None if image_shape is None else tuple(image_shape), "placement": placement,
             "width_ratio": None if width_ratio is None else width_ratio_text(width_ratio)}
    asked = {name: value for name, value in given.items() if value is not None}
    text = text.strip()
    if is_hand_made(text):
        return _hand_made(text, {**OF_IMAGES, HAND_MADE: hand_made(text).name}, asked)
    if not ID_PATTERN.fullmatch(text):
        genotype = find_genotype(text)
        title = f"genotype {genotype.hash}" if text.startswith("{") else text
        return Source(title, genotype, _sizes(genotype, asked))
    folder = RunFolder(runs, text)
    run = folder.read_run()
    if run["kind"] == "attack":
        folder = RunFolder(runs, str(run["parent"]))
        run = folder.read_run()
    if run["kind"] == "search":
        facts = DATASETS[run["config"].get("dataset", "digits")]
        of_data = {"classes": facts.classes, "image_shape": facts.image_shape}
        genotype, searched = found_genotype(runs, folder.id), {name: run["config"].get(name, "") for name in ARRANGEMENT}
        return Source(text, genotype, _sizes(genotype, searched | of_data | asked))
    return _retrained(text, folder, asked)


def _sizes(genotype: Genotype, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return `known` completed: with the published ARNAS size, and with placement and widths as published with the cells."""
    return DEFAULT_SIZES | dict(known) | resolved(genotype.kinds, *(known.get(name, "") for name in ARRANGEMENT))


def _hand_made(title: str, sizes: dict[str, Any], asked: dict[str, Any], folder: RunFolder | None = None) -> Source:
    of_its_own = asked.keys() if folder else asked.keys() - OF_IMAGES.keys()
    for name in sorted(of_its_own):
        if asked[name] != sizes.get(name):
            raise ConfigError(f"{name} cannot be set for {title}, {'a trained' if folder else 'which is a'} hand-made network, "
                              f"got {asked[name]}; leave it out.")
    return Source(title, None, sizes | asked, folder)


def _retrained(title: str, folder: RunFolder, asked: dict[str, Any]) -> Source:
    network = read_json(folder.results / "network.json")
    if network is None:
        raise RunError(f"A retraining must have left results/network.json to be exported, and {folder.id} has none; wait for it "
                       "or resume it.")
    image_shape = tuple(network.get("image_shape", ()))
    if HAND_MADE in network:
        return _hand_made(title, network | {"image_shape": image_shape}, asked, folder)
    genotype = Genotype.from_dict(network.get("genotype"))
    sizes = {name: network.get(name) for name in DEFAULT_SIZES} | {"image_shape": image_shape}
    sizes |= resolved(genotype.kinds, *(network.get(name, "") for name in ARRANGEMENT))
    for name, value in asked.items():
        if value != sizes[name]:
            raise ConfigError(f"{name} of the retrained network {folder.id} is {sizes[name]}, got {value}; leave it out, or "
                              "export the genotype alone (--format json) and give that.")
    return Source(title, genotype, sizes, folder)
