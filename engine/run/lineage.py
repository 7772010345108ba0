"""Which genotype a run is about, read from its folder and its parent's. Imports no torch."""

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
    """What a search found.

    Raises:
        RunError: it has not finished, or its result cannot be read.
        GenotypeError: its result is no genotype.
    """
    folder = RunFolder(runs, search)
    found = read_json(folder.results / "genotype.json")
    if found is None:
        raise RunError(f"A search must have left results/genotype.json, and {folder.id} has none; wait for it or resume it.")
    return Genotype.from_dict(found)


def trained_genotype(runs: Path | str, config: RetrainConfig, parent: str | None) -> Genotype:
    """What a retraining trains: its own genotype, else what its parent search found, with the cells it asks for replaced.

    Raises:
        RunError: the parent has no result.
        ConfigError, GenotypeError: no such genotype, none at all in a hand-made network, or one without the cells that are to
            be replaced.
    """
    if config.network != DERIVED:
        raise ConfigError(f"A genotype can only come from a derived network, got {named_network(config.network).title}, "
                          "which has none; name another run.")
    genotype = find_genotype(config.genotype) if config.genotype else found_genotype(runs, str(parent))
    return transplant(genotype, read_grafts(config.transplant))


def arrangement_of(runs: Path | str, config: RetrainConfig, parent: str | None, genotype: Genotype) -> Arrangement:
    """Where the cells of the network stand that a retraining trains, and how wide they are: {"placement", "width_ratio"}.

    Its own settings come first, then those of the parent search whose result or candidate it trains (none in searches of
    before there was a choice, which had the published ones), then the published ones of the genotype's cells.

    Args:
        runs, config, parent: as `trained_genotype`.
        genotype: what `trained_genotype` gives.

    Raises:
        RunError: the parent cannot be read.
        ConfigError: a placement of other cells than the genotype's.
    """
    searched = RunFolder(runs, parent).read_run()["config"] if parent and _is_of_search(runs, config, parent) else {}
    return resolved(genotype.kinds, config.placement or str(searched.get("placement", "")),
                    config.width_ratio or str(searched.get("width_ratio", "")))


def _is_of_search(runs: Path | str, config: RetrainConfig, search: str) -> bool:
    """Whether a retraining trains what a search found, or one of the candidates that it measured."""
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
    """(configuration, parent) of a retraining, or of the one whose network an attack run attacks.

    Raises:
        RunError: no such run, or a search, which trains no network of its own.
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
    """What a user gives as an architecture: the id of a run, a catalogue name, or a genotype as JSON.

    Raises:
        RunError: no such run, or one that has no genotype yet.
        ConfigError, GenotypeError: as `find_genotype`.
    """
    text = text.strip()
    if not ID_PATTERN.fullmatch(text):
        return find_genotype(text)
    if RunFolder(runs, text).read_run()["kind"] == "search":
        return found_genotype(runs, text)
    return trained_genotype(runs, *retraining_of(runs, text))
