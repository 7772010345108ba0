"""The genotype and the network of a run, read from its folder and its parent's. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from engine.architecture.catalogue import find_genotype, genotype_title
from engine.architecture.genotype import DERIVED, Genotype
from engine.architecture.network import DerivedNetwork, Network, named_network
from engine.architecture.placement import Arrangement, resolved
from engine.architecture.transplant import read_grafts, transplant
from engine.config import RetrainConfig
from engine.configuring import validate
from engine.data.catalogue import DATASETS
from engine.errors import ConfigError, RunError
from engine.run.folder import ID_PATTERN, RunFolder, read_json


def found_genotype(runs: Path | str, search: str) -> Genotype:
    """Return the genotype that a search found.

    Raises:
        RunError: the search has not finished, or its result cannot be read.
        GenotypeError: its result is not a genotype.
    """
    folder = RunFolder(runs, search)
    record = read_json(folder.results / "genotype.json")
    if record is None:
        raise RunError(f"A search must have results/genotype.json, and {folder.id} has none; wait for it or resume it.")
    return Genotype.from_dict(record)


def trained_genotype(runs: Path | str, config: RetrainConfig, parent: str | None) -> Genotype:
    """Return the genotype that a retraining trains: its own, else its parent search's, with transplanted cells replaced.

    Raises:
        RunError: the parent has no result.
        ConfigError, GenotypeError: an unknown genotype, a hand-made network, or a transplant of cells that do not exist.
    """
    if config.network != DERIVED:
        raise ConfigError(f"A genotype can only come from a derived network, got {named_network(config.network).title}, "
                          "which has none; name another run.")
    genotype = find_genotype(config.genotype) if config.genotype else found_genotype(runs, str(parent))
    return transplant(genotype, read_grafts(config.transplant))


def arrangement_of(runs: Path | str, config: RetrainConfig, parent: str | None, genotype: Genotype) -> Arrangement:
    """Return the placement and the widths of the cells of a retrained network: {"placement", "width_ratio"}.

    The retraining's own settings come first, then those of the parent search whose result or candidate it trains, then the
    published ones of the genotype's cells. Older searches record neither and used the published ones.

    Args:
        runs, config, parent: as in `trained_genotype`.
        genotype: result of `trained_genotype`.

    Raises:
        RunError: the parent cannot be read.
        ConfigError: a placement for other cell kinds.
    """
    searched = RunFolder(runs, parent).read_run()["config"] if parent and _is_of_search(runs, config, parent) else {}
    return resolved(genotype.kinds, config.placement or str(searched.get("placement", "")),
                    config.width_ratio or str(searched.get("width_ratio", "")))


def _is_of_search(runs: Path | str, config: RetrainConfig, search: str) -> bool:
    """Return True if a retraining trains the result of a search or one of its measured candidates."""
    if not config.genotype:
        return True
    measured = read_json(RunFolder(runs, search).results / "candidates.json") or {}
    return find_genotype(config.genotype).hash in {one["hash"] for one in measured.get("candidates", [])}


def trained_network(runs: Path | str, config: RetrainConfig, parent: str | None) -> Network:
    """Return the network that a retraining trains.

    Raises:
        RunError, ConfigError, GenotypeError: as `trained_genotype` and `arrangement_of`.
    """
    facts = DATASETS[config.dataset]
    if config.network != DERIVED:
        return named_network(config.network, facts.classes, facts.image_shape)
    genotype = trained_genotype(runs, config, parent)
    return DerivedNetwork(genotype, config.channels, config.layers, facts.classes, facts.image_shape,
                          **arrangement_of(runs, config, parent, genotype), auxiliary=config.auxiliary_weight > 0,
                          name=genotype_title(config.genotype) if config.genotype else "")


def retraining_of(runs: Path | str, run_id: str) -> tuple[RetrainConfig, str | None]:
    """Return (configuration, parent) of a retraining, given its id or the id of an attack on its network.

    Raises:
        RunError: no such run, or a search, which has no retrained network.
    """
    run = RunFolder(runs, run_id).read_run()
    if run["kind"] == "attack":
        run = RunFolder(runs, str(run.get("parent"))).read_run()
    if run["kind"] != "retrain":
        raise RunError(f"A network must come from a run of kind retrain or attack, got the {run['kind']} run {run['id']}; "
                       "`rampart runs` lists the ids.")
    config = validate(RetrainConfig, run["config"])
    assert isinstance(config, RetrainConfig)
    return config, run.get("parent")


def genotype_of(runs: Path | str, text: str) -> Genotype:
    """Return the genotype that a user names: the id of a run, a catalogue name, or a genotype as JSON.

    Raises:
        RunError: no such run, or it has no genotype yet.
        ConfigError, GenotypeError: as `find_genotype`.
    """
    text = text.strip()
    if not ID_PATTERN.fullmatch(text):
        return find_genotype(text)
    if RunFolder(runs, text).read_run()["kind"] == "search":
        return found_genotype(runs, text)
    return trained_genotype(runs, *retraining_of(runs, text))
