"""Functions that find the network to export. A user gives a run id, a genotype (catalogue name or JSON) or a network's name."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.architecture.catalogue import find_genotype, genotype_title
from engine.architecture.genotype import Genotype
from engine.architecture.named import NAME_KEY
from engine.architecture.network import DerivedNetwork, Network, is_named, named_network, network_from_dict
from engine.architecture.placement import resolved, width_ratio_text
from engine.data.catalogue import DATASETS
from engine.errors import ConfigError, RunError
from engine.run.folder import ID_PATTERN, RunFolder, read_json
from engine.run.lineage import found_genotype


@dataclass(frozen=True)
class Source:
    """A network to export, and the run that contains the network's weights, if there is one.

    Attributes:
        title: text that identifies the network: a catalogue name, "genotype <hash>", the name of a hand-made network, or a
            run id.
        network: description of the network.
        retrained: the retraining that contains trained weights of the network; None if there are none.
    """

    title: str
    network: Network
    retrained: RunFolder | None = None

    def cells(self, what: str) -> DerivedNetwork:
        """Return the network if it consists of cells.

        Args:
            what: purpose for which cells are needed, for example "An export as genotype". The error message begins with it.

        Raises:
            ConfigError: the network does not consist of cells.
        """
        if not isinstance(self.network, DerivedNetwork):
            raise ConfigError(f"{what} needs a network with a genotype, got {self.title}, which has none; such a network can be "
                              "exported as weights, safetensors or onnx.")
        return self.network

    @property
    def genotype_hash(self) -> str | None:
        """Hash of the network's genotype; None for a hand-made network."""
        return self.network.genotype.hash if isinstance(self.network, DerivedNetwork) else None

    @property
    def facts(self) -> dict[str, str]:
        """The entry for the network in the metadata of an exported file: its genotype, or the name of a hand-made network."""
        if isinstance(self.network, DerivedNetwork):
            return {"genotype": self.network.genotype.to_json()}
        return {NAME_KEY: self.network.name}


def find(text: str, runs: Path, *, channels: int | None = None, layers: int | None = None, classes: int | None = None,
         image_shape: Sequence[int] | None = None, placement: str | None = None, width_ratio: str | None = None) -> Source:
    """Find the network that `text` describes.

    `text` can be a run id, the name of a genotype in the catalogue, a genotype as JSON, or the name of a hand-made network. For
    the id of a search, the network has the genotype that the search found. For the id of a retraining or an attack, the result
    is the retrained or attacked network.

    If `text` is a run id, the run determines the value of each argument that is None. Otherwise, the defaults below apply. The
    defaults of `channels` and `layers` also apply to a search, because a search does not determine these numbers.

    Args:
        text: description of the network.
        runs: folder of all runs.
        channels: number of channels C; by default 64, as published for ARNAS.
        layers: number of cells; by default 20, as published for ARNAS.
        classes: number of classes; by default 10.
        image_shape: (channels, height, width) of an image; by default (3, 32, 32).
        placement: position rule, which says where in the network each kind of cell is used; by default the rule published with
            the cells.
        width_ratio: widths of the three thirds of the network, such as "1:2:4"; by default the widths published with the cells.

    Raises:
        ConfigError: the name is unknown, the placement is for other kinds of cells, or a size differs from the size of the
            retrained network.
        GenotypeError: the genotype is not valid.
        RunError: the run does not exist or has no result yet.
    """
    given = {"channels": channels, "layers": layers, "classes": classes,
             "image_shape": None if image_shape is None else tuple(image_shape), "placement": placement,
             "width_ratio": None if width_ratio is None else width_ratio_text(width_ratio)}
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    text = text.strip()
    if is_named(text):
        return _with_sizes(Source(text, named_network(text)), chosen, changeable=("classes", "image_shape"))
    if not ID_PATTERN.fullmatch(text):
        return Source(genotype_title(text), _derived(find_genotype(text), **chosen))
    folder = RunFolder(runs, text)
    run = folder.read_run()
    if run["kind"] == "attack":
        folder = RunFolder(runs, str(run["parent"]))
        run = folder.read_run()
    if run["kind"] == "search":
        facts = DATASETS[run["config"].get("dataset", "digits")]
        searched = {"classes": facts.classes, "image_shape": facts.image_shape,
                    "placement": run["config"].get("placement", ""), "width_ratio": run["config"].get("width_ratio", "")}
        return Source(text, _derived(found_genotype(runs, folder.id), **(searched | chosen)))
    return _with_sizes(Source(text, _retrained(folder), folder), chosen)


def _derived(genotype: Genotype, **sizes: Any) -> DerivedNetwork:
    """Return a network with this genotype.

    `sizes` overrides the default sizes, which were published for ARNAS. The default placement and width ratio were published with
    the kinds of cells.
    """
    return _placed(replace(DerivedNetwork(genotype, channels=64, layers=20, classes=10, image_shape=(3, 32, 32)), **sizes))


def _placed(network: DerivedNetwork) -> DerivedNetwork:
    """Return a copy of a network in which an empty placement or width ratio is replaced by the published value.

    The published value depends on the network's kinds of cells.
    """
    return replace(network, **resolved(network.genotype.kinds, network.placement, network.width_ratio))


def _with_sizes(source: Source, chosen: dict[str, Any], changeable: Collection[str] = ()) -> Source:
    """Return a copy of the source in which the network has the chosen sizes.

    Args:
        source: source that contains the network.
        chosen: sizes that the user gave, keyed by attribute name.
        changeable: names of the sizes that may differ from the network's own.

    Raises:
        ConfigError: a chosen size differs from the network's own and is not changeable.
    """
    for name, value in chosen.items():
        own = getattr(source.network, name, None)
        if name not in changeable and value != own:
            kind, size = "retrained network" if source.retrained else "network", "its own" if own is None else own
            raise ConfigError(f"{name} of the {kind} {source.title} is {size} and cannot be chosen, got {value}; leave it out, "
                              "or export the genotype alone (--form genotype) and give that.")
    return replace(source, network=replace(source.network, **chosen))


def _retrained(folder: RunFolder) -> Network:
    content = read_json(folder.results / "network.json")
    if content is None:
        raise RunError(f"A retraining must have left results/network.json to be exported, and {folder.id} has none; wait for it "
                       "or resume it.")
    network = network_from_dict(content)
    return _placed(replace(network, auxiliary=False)) if isinstance(network, DerivedNetwork) else network
