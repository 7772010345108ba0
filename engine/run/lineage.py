"""Functions that find the genotype and the network of a run from the run's folder and the parent's folder. Imports no torch."""

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
        RunError: the search has not finished, or its results/genotype.json cannot be read.
        GenotypeError: the content of results/genotype.json is not a valid genotype.
    """
    folder = RunFolder(runs, search)
    record = read_json(folder.results / "genotype.json")
    if record is None:
        raise RunError(f"A search must have results/genotype.json, and {folder.id} has none; wait for it or resume it.")
    return Genotype.from_dict(record)


def trained_genotype(runs: Path | str, config: RetrainConfig, parent: str | None) -> Genotype:
    """Return the genotype that a retraining trains, after the cell replacements of its setting `transplant`.

    The genotype comes from the setting `genotype`. If that is empty, it comes from the parent search.

    Args:
        runs: folder of all runs.
        config: configuration of the retraining.
        parent: id of the parent search; None if the retraining has no parent.

    Raises:
        RunError: the parent search has found no genotype yet.
        ConfigError: the genotype is not in the catalogue, or the retraining trains a hand-made network.
        GenotypeError: the genotype is not valid, or the setting `transplant` names a cell that does not exist.
    """
    if config.network != DERIVED:
        raise ConfigError(f"A genotype can only come from a derived network, got {named_network(config.network).title}, "
                          "which has none; name another run.")
    genotype = find_genotype(config.genotype) if config.genotype else found_genotype(runs, str(parent))
    return transplant(genotype, read_grafts(config.transplant))


def arrangement_of(runs: Path | str, config: RetrainConfig, parent: str | None, genotype: Genotype) -> Arrangement:
    """Return the arrangement of the cells of a retrained network, as {"placement", "width_ratio"}.

    The placement is the rule for the positions of the cell kinds, and the width ratio gives the relative widths of the cells.
    Each of the two values comes from the first of these sources that has it:

    1. The settings of the retraining.
    2. The settings of the parent search, if the retraining trains the result or a candidate of that search. Older searches have
       no such settings, because they always used the published values.
    3. The values published with the genotype's cell kinds.

    Args:
        runs: folder of all runs.
        config: configuration of the retraining.
        parent: id of the parent search; None if the retraining has no parent.
        genotype: the genotype that the retraining trains, as `trained_genotype` returns it.

    Raises:
        RunError: the run folder of the parent cannot be read.
        ConfigError: the placement is for cell kinds that the genotype does not have.
    """
    searched = RunFolder(runs, parent).read_run()["config"] if parent and _is_of_search(runs, config, parent) else {}
    return resolved(genotype.kinds, config.placement or str(searched.get("placement", "")),
                    config.width_ratio or str(searched.get("width_ratio", "")))


def _is_of_search(runs: Path | str, config: RetrainConfig, search: str) -> bool:
    """Return True if a retraining trains the genotype found by a search or a candidate measured by the search."""
    if not config.genotype:
        return True
    measured = read_json(RunFolder(runs, search).results / "candidates.json") or {}
    return find_genotype(config.genotype).hash in {one["hash"] for one in measured.get("candidates", [])}


def trained_network(runs: Path | str, config: RetrainConfig, parent: str | None) -> Network:
    """Return the description of the network that a retraining trains.

    Args:
        runs: folder of all runs.
        config: configuration of the retraining.
        parent: id of the parent search; None if the retraining has no parent.

    Raises:
        RunError: the parent search cannot be read or has found no genotype yet.
        ConfigError: the genotype or the hand-made network is unknown, or the placement does not fit the cell kinds.
        GenotypeError: the genotype is not valid, or the setting `transplant` names a cell that does not exist.
    """
    facts = DATASETS[config.dataset]
    if config.network != DERIVED:
        return named_network(config.network, facts.classes, facts.image_shape)
    genotype = trained_genotype(runs, config, parent)
    return DerivedNetwork(genotype, config.channels, config.layers, facts.classes, facts.image_shape,
                          **arrangement_of(runs, config, parent, genotype), auxiliary=config.auxiliary_weight > 0,
                          name=genotype_title(config.genotype) if config.genotype else "")


def retraining_of(runs: Path | str, run_id: str) -> tuple[RetrainConfig, str | None]:
    """Return the configuration of a retraining and its parent.

    Args:
        runs: folder of all runs.
        run_id: id of the retraining, or of an attack on the network that it trained.

    Returns:
        The configuration of the retraining.
        The id of its parent search; None if it has no parent.

    Raises:
        RunError: there is no such run, or it is a search, which has no retrained network.
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
    """Return the genotype that `text` names.

    Args:
        runs: folder of all runs.
        text: id of a run, name in the catalogue, or genotype as JSON.

    Raises:
        RunError: there is no such run, or the run has no genotype yet.
        ConfigError: the name is not in the catalogue, or the run trains a hand-made network.
        GenotypeError: the JSON text is not a valid genotype.
    """
    text = text.strip()
    if not ID_PATTERN.fullmatch(text):
        return find_genotype(text)
    if RunFolder(runs, text).read_run()["kind"] == "search":
        return found_genotype(runs, text)
    return trained_genotype(runs, *retraining_of(runs, text))
