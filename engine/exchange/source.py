"""The source of an export: a published genotype, one as JSON, the result of a search, or a retrained network."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.architecture.catalogue import find_genotype, genotype_title
from engine.architecture.genotype import Genotype
from engine.architecture.network import DerivedNetwork, Network, is_named, named_network, network_from_dict
from engine.architecture.placement import resolved, width_ratio_text
from engine.data.catalogue import DATASETS
from engine.errors import ConfigError, RunError
from engine.run.folder import ID_PATTERN, RunFolder, read_json
from engine.run.lineage import found_genotype


@dataclass(frozen=True)
class Source:
    """A network, and where its weights are.

    Attributes:
        title: catalogue name, "genotype <hash>", name of a network, or run id.
        network: the network.
        retrained: the run that holds weights for it; None when there are none.
    """

    title: str
    network: Network
    retrained: RunFolder | None = None

    def cells(self, what: str) -> DerivedNetwork:
        """Return the network for a use that needs its cells; `what` names the use at the beginning of a sentence.

        Raises:
            ConfigError: a network without cells.
        """
        if not isinstance(self.network, DerivedNetwork):
            raise ConfigError(f"{what} needs a network with a genotype, got {self.title}, which has none; such a network can be "
                              "exported as onnx.")
        return self.network


def find(text: str, runs: Path, *, channels: int | None = None, layers: int | None = None, classes: int | None = None,
         image_shape: Sequence[int] | None = None, placement: str | None = None, width_ratio: str | None = None) -> Source:
    """Return the network that `text` names.

    Args:
        text: a run id, a catalogue name, a genotype as JSON or the name of a network. A search gives its result,
            for the images it was searched on; a retraining its network as it is; an attack the network attacked.
        runs: folder of all runs.
        channels, layers, classes, image_shape: size of the network; None for the run's own, else the published ARNAS size.
        placement, width_ratio: as `placement.positions`; None for the run's own, else those published with the cells.

    Raises:
        ConfigError, GenotypeError: an unknown name, an invalid genotype, a placement of other cells, or a size that the
            retrained network does not have.
        RunError: no such run, or one without a result.
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
    """Return the network at the given sizes; those not given are ARNAS's, or published with the cells."""
    return _placed(replace(DerivedNetwork(genotype, channels=64, layers=20, classes=10, image_shape=(3, 32, 32)), **sizes))


def _placed(network: DerivedNetwork) -> DerivedNetwork:
    """Return the network with the published placement and widths written out where it leaves them open."""
    return replace(network, **resolved(network.genotype.kinds, network.placement, network.width_ratio))


def _with_sizes(source: Source, chosen: dict[str, Any], changeable: Collection[str] = ()) -> Source:
    """Return the source with the chosen sizes.

    Raises:
        ConfigError: a size that the network does not have and that is not changeable.
    """
    for name, value in chosen.items():
        own = getattr(source.network, name, None)
        if name not in changeable and value != own:
            kind, size = "retrained network" if source.retrained else "network", "its own" if own is None else own
            raise ConfigError(f"{name} of the {kind} {source.title} is {size} and cannot be chosen, got {value}; leave it out, "
                              "or export the genotype alone (--format json) and give that.")
    return replace(source, network=replace(source.network, **chosen))


def _retrained(folder: RunFolder) -> Network:
    content = read_json(folder.results / "network.json")
    if content is None:
        raise RunError(f"A retraining must have left results/network.json to be exported, and {folder.id} has none; wait for it "
                       "or resume it.")
    network = network_from_dict(content)
    return _placed(replace(network, auxiliary=False)) if isinstance(network, DerivedNetwork) else network
