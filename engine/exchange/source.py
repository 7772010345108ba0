"""What an export starts from: a published genotype, one as JSON, what a search found, or a retrained network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.architecture.catalogue import find_genotype
from engine.architecture.genotype import Genotype
from engine.architecture.hand_made import hand_made, is_hand_made
from engine.architecture.network import HAND_MADE
from engine.architecture.placement import resolved, width_ratio_text
from engine.data.catalogue import DATASETS
from engine.errors import ConfigError, RunError
from engine.run.folder import ID_PATTERN, RunFolder, read_json

# What `describe` takes where nothing else is said: the published ARNAS network.
OF_IMAGES = {"classes": 10, "image_shape": (3, 32, 32)}
DEFAULT_SIZES = {"channels": 64, "layers": 20, **OF_IMAGES}
ARRANGEMENT = ("placement", "width_ratio")  # of the cells; what files from before there was a choice do not say


@dataclass(frozen=True)
class Source:
    """An architecture at a size, and where its weights are.

    Attributes:
        title: what it was asked for by: a catalogue name, "genotype <hash>" or a run id.
        genotype: the architecture; None for a hand-made network.
        sizes: channels, layers, classes, image_shape, placement and width_ratio, as `engine.space.network.Network` takes them.
        retrained: the run that holds weights for it; None when there are none.
    """

    title: str
    genotype: Genotype | None
    sizes: dict[str, Any]
    retrained: RunFolder | None = None

    @property
    def description(self) -> dict[str, Any]:
        """The network as `engine.architecture.network` has it; hand-made ones carry their name among their sizes."""
        return self.sizes if self.genotype is None else {"genotype": self.genotype.to_dict(), **self.sizes}

    def cells(self, what: str) -> Genotype:
        """The genotype for something that needs one, which `what` names at the beginning of a sentence.

        Raises:
            ConfigError: a hand-made network.
        """
        if self.genotype is None:
            raise ConfigError(f"{what} must be of a network with a genotype, got {self.title}, which is hand-made and has none; "
                              "such a network can be exported as onnx.")
        return self.genotype


def find(text: str, runs: Path, *, channels: int | None = None, layers: int | None = None, classes: int | None = None,
         image_shape: Sequence[int] | None = None, placement: str | None = None, width_ratio: str | None = None) -> Source:
    """The architecture that `text` names.

    Args:
        text: a run id, a catalogue name, a genotype as JSON or the name of a hand-made network. Of a search its result is taken,
            at the size asked for and for the images it was searched on; of a retraining its network as it is; of an attack the
            network attacked.
        runs: folder of all runs.
        channels, layers, classes, image_shape: size of the network; None for the run's own, else the published ARNAS size.
        placement, width_ratio: as `placement.positions`; None for the run's own, else those published with the cells.

    Raises:
        ConfigError, GenotypeError: no such name, no genotype, a placement of other cells, or a size that a retrained network
            does not have.
        RunError: no such run, or one that has left nothing yet.
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
        genotype, searched = _found_by(folder), {name: run["config"].get(name, "") for name in ARRANGEMENT}
        return Source(text, genotype, _sizes(genotype, searched | of_data | asked))
    return _retrained(text, folder, asked)


def _sizes(genotype: Genotype, known: Mapping[str, Any]) -> dict[str, Any]:
    """The published ARNAS size where nothing is known, places and widths as published with the cells where they are not."""
    return DEFAULT_SIZES | dict(known) | resolved(genotype.kinds, *(known.get(name, "") for name in ARRANGEMENT))


def _hand_made(title: str, sizes: dict[str, Any], asked: dict[str, Any], folder: RunFolder | None = None) -> Source:
    of_its_own = asked.keys() if folder else asked.keys() - OF_IMAGES.keys()
    for name in sorted(of_its_own):
        if asked[name] != sizes.get(name):
            raise ConfigError(f"{name} cannot be chosen of {title}, {'a trained' if folder else 'which is a'} hand-made network, "
                              f"got {asked[name]}; leave it out.")
    return Source(title, None, sizes | asked, folder)


def _found_by(folder: RunFolder) -> Genotype:
    found = read_json(folder.results / "genotype.json")
    if found is None:
        raise RunError(f"A search must have finished to be exported (results/genotype.json), and {folder.id} has not; wait for "
                       "it or resume it.")
    return Genotype.from_dict(found)


def _retrained(title: str, folder: RunFolder, asked: dict[str, Any]) -> Source:
    found = read_json(folder.results / "network.json")
    if found is None:
        raise RunError(f"A retraining must have begun to be exported (results/network.json), and {folder.id} has not; wait for "
                       "it or resume it.")
    if HAND_MADE in found:
        return _hand_made(title, found | {"image_shape": tuple(found.get("image_shape", ()))}, asked, folder)
    genotype = Genotype.from_dict(found.pop("genotype", None))
    sizes = {name: found.get(name) for name in DEFAULT_SIZES} | {"image_shape": tuple(found.get("image_shape", ()))}
    sizes |= resolved(genotype.kinds, *(found.get(name, "") for name in ARRANGEMENT))
    for name, value in asked.items():
        if value != sizes[name]:
            raise ConfigError(f"{name} of the retrained network {folder.id} is {sizes[name]}, got {value}; leave it out, or "
                              "export the genotype alone (--format json) and give that.")
    return Source(title, genotype, sizes, folder)
