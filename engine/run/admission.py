"""Checks before a launch. They reject runs that cannot work. Each error message is one sentence. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.architecture.catalogue import find_genotype
from engine.architecture.genotype import DERIVED
from engine.architecture.placement import RULES, check_size, resolved
from engine.config import AttackConfig, RetrainConfig, RunConfig, SearchConfig
from engine.configuring import check_batch, recorded, validate
from engine.data.catalogue import DATASETS, image_source
from engine.data.prepared import absence
from engine.errors import ConfigError, DataError, RunError, in_sentence
from engine.files import LEAST_FREE_BYTES, free_bytes
from engine.run.folder import RunFolder, read_json
from engine.run.launchers.registry import load, read_choice
from engine.run.lineage import arrangement_of, trained_network
from engine.run.state import compute

PARENT_KIND = {"retrain": "search", "attack": "retrain"}


def check_disk(runs: Path, least_bytes: int = LEAST_FREE_BYTES) -> None:
    """Check that the disk of the runs folder `runs` has space for a launch.

    Raises:
        RunError: fewer than `least_bytes` bytes are free.
    """
    free = free_bytes(runs)
    if free < least_bytes:
        raise RunError(f"A launch needs at least {least_bytes // 2**20} MB free on the disk of {runs}, got "
                       f"{free / 2**20:.0f} MB; free some space or use another runs folder (--runs DIR).")


def checkpoint_bytes(config: RunConfig) -> int:
    """Return an upper bound on the disk space of a run's checkpoints, in bytes.

    The bound is at least 200 MB. It is higher for a retraining whose configuration names a large network.
    """
    if not isinstance(config, RetrainConfig) or not config.names_its_network:
        return LEAST_FREE_BYTES
    numbers = trained_network(Path(), config, None).cost(auxiliary=True).parameters
    # Three files (the last checkpoint, the previous one and the one being written) hold weights, momentum, best weights and
    # perhaps averaged weights. A fourth file holds the best weights alone.
    copies = 3 * (4 if config.average_decay else 3) + 1
    return max(LEAST_FREE_BYTES, 4 * numbers * copies)


def check_present(config: RunConfig) -> None:
    """Check that every dataset of a run is on this machine.

    Raises:
        DataError: a dataset is missing. The message says how to get it.
    """
    for name in config.datasets():
        if missing := absence(image_source(name)):
            raise DataError(missing)


def check_devices(runs: Path, config: RunConfig) -> None:
    """Check that the chosen launcher has enough GPUs for the processes of a run.

    Raises:
        ConfigError: there are fewer GPUs of one model than processes.
    """
    processes = getattr(config, "processes", 1)
    if processes > 1 and processes > (most := load(read_choice(runs), runs).resources().most_alike(config.device)):
        raise ConfigError(problems={"processes": (
            f"processes must be at most {most}, the number of GPUs of one model here, got {processes}; use fewer, or "
            "device cpu.")})


def check_processes(runs: Path, run: Mapping[str, Any], processes: int | None) -> None:
    """Check that a run may continue with another number of processes.

    Args:
        runs: folder of all runs.
        run: content of run.json.
        processes: number of processes; None for that of its settings.

    Raises:
        ConfigError: the run is no retraining, cannot have this number of processes, or has BatchNorm statistics of each process,
            which depend on the number.
    """
    if processes is None:
        return
    config = recorded(run)
    if not isinstance(config, RetrainConfig):
        raise ConfigError(f"Only a retraining can have several processes, got the {run['kind']} run {run['id']}.")
    if config.batch_norm == "per_process" and config.processes != processes:
        raise ConfigError(f"The number of processes must stay {config.processes}, because BatchNorm uses the statistics of each "
                          f"process, got {processes}.")
    check_devices(runs, validate(RetrainConfig, config.model_dump() | {"processes": processes, "threads": None}))


def check_config(kind: str, config: RunConfig) -> None:
    """Check that a validated configuration fits its dataset: batch size, image size and network size.

    Raises:
        ConfigError: a size does not fit.
        GenotypeError: the configuration contains a genotype that is not valid.
    """
    check_batch(config, kind)
    _, height, width = DATASETS[config.dataset].image_shape
    if kind == "search" and (height % 4 or width % 4):
        raise ConfigError(problems={"dataset": (
            f"A search needs images whose height and width are multiples of 4 (its supernet halves them twice), "
            f"got {height}x{width} of {config.dataset}; prepare it with `rampart dataset fetch "
            f"{config.dataset} --side {4 * round(height / 4)}`.")})
    if isinstance(config, RetrainConfig) and config.names_its_network:
        _check_network(Path(), config, None)


def _check_network(runs: Path, config: RetrainConfig, parent: str | None) -> None:
    """Check that the network of a retraining can be built. The network or its genotype must already be known."""
    trained_network(runs, config, parent).cost(auxiliary=True)


def check_arrangement(config: RetrainConfig, searched: Mapping[str, Any]) -> None:
    """Check that a retraining's placement (positions of the cell kinds) and cell widths fit the cells of its parent search.

    Args:
        config: configuration of the retraining.
        searched: configuration of the search. Older versions recorded no placement; then nothing is checked.

    Raises:
        ConfigError: the placement is for cell kinds that the search does not have, or the width of a
            reduction cell is odd, so that it cannot be split into two halves.
    """
    if "placement" in searched and not config.genotype:
        facts = DATASETS[config.dataset]
        arrangement = resolved(RULES[searched["placement"]].kinds, config.placement or searched["placement"],
                               config.width_ratio or searched.get("width_ratio", ""))
        check_size(config.channels, facts.classes, facts.image_shape, arrangement["width_ratio"])


def check_parent(runs: Path, kind: str, config: RunConfig, parent: str | None) -> dict[str, Any] | None:
    """Check that a run may follow its parent run.

    Returns:
        Content of the parent's run.json, or None if the run has no parent.

    Raises:
        RunError: the parent does not exist or is of the wrong kind, or the run needs a parent and none is given.
        ConfigError: an attack does not use the dataset on which its network was trained, a network cannot be built from the
            parent's cells, or an attack asks for the last checkpoint of an imported network, which has only one checkpoint.
        GenotypeError: the setting `transplant` replaces a cell kind that the parent's genotype does not have.
    """
    if kind == "search":
        if parent:
            raise RunError(f"A search has no parent, got {parent!r}; leave the parent out.")
        return None
    wanted = PARENT_KIND[kind]
    if not parent:
        if isinstance(config, RetrainConfig) and config.names_its_network:
            return None
        other = ", a genotype (--genotype) or the name of a network (--network)" if kind == "retrain" else ""
        raise RunError(f"A run of kind {kind} needs the id of a {wanted} run (--parent){other}, got none; "
                       "`rampart runs` lists the ids.")
    if isinstance(config, RetrainConfig):
        check_follows(config)
    above = RunFolder(runs, parent).read_run()
    if above["kind"] != wanted:
        raise RunError(f"The parent of a run of kind {kind} must be a {wanted} run, "
                       f"got the {above['kind']} run {parent}; name its {wanted} run.")
    if kind == "attack" and above["config"].get("dataset") != config.dataset:
        raise ConfigError(problems={"dataset": (
            f"dataset must be {above['config'].get('dataset')!r}, on which {parent} was trained, "
            f"got {config.dataset!r}; use that dataset.")})
    if isinstance(config, AttackConfig):
        check_sources(runs, config, parent)
    if getattr(config, "checkpoint", "best") == "last" and above.get("imported"):
        raise ConfigError(problems={"checkpoint": (
            f"checkpoint must be best for {parent}, an imported run with a single network, got last; leave it out.")})
    if isinstance(config, RetrainConfig):
        check_arrangement(config, above["config"])
        # The genotype of an unfinished search is only known, and checked, when the retraining begins.
        if (RunFolder(runs, parent).results / "genotype.json").exists():
            _check_network(runs, config, parent)
    return above


def check_sources(runs: Path, config: AttackConfig, parent: str) -> None:
    """Check the setting `transfer_from` of an attack.

    The setting lists ids of retrainings. Adversarial images made for the networks of these retrainings are shown to the attacked
    network.

    Args:
        runs: folder of all runs.
        config: configuration of the attack.
        parent: id of the retraining whose network is attacked.

    Raises:
        RunError: a listed run does not exist.
        ConfigError: a run is listed twice, is `parent` itself, is not a retraining, has no network yet, or has another dataset,
            image shape or number of classes than the attack.
    """
    def refuse(expected: str, actual: str) -> ConfigError:
        return ConfigError(problems={"transfer_from": f"transfer_from must name {expected}, got {actual}."})

    facts = DATASETS[config.dataset]
    if len(set(config.transfer_from)) < len(config.transfer_from):
        raise refuse("each retraining only once", ", ".join(config.transfer_from))
    for source in config.transfer_from:
        run = RunFolder(runs, source).read_run()
        if run["kind"] != "retrain":
            raise refuse("retrainings, whose ids `rampart runs` lists", f"the {run['kind']} run {source}")
        if source == parent:
            raise refuse("networks other than the attacked one", f"{source} itself; attack it with MI-FGSM instead")
        if run["config"].get("dataset") != config.dataset:
            raise refuse(f"networks trained on {config.dataset}", f"{source}, trained on {run['config'].get('dataset')}")
        network = read_json(RunFolder(runs, source).results / "network.json")
        if network is None or not (RunFolder(runs, source).checkpoint / "best.pt").exists():
            raise refuse("retrainings that have a network", f"{source}, which has none yet; wait for it or resume it")
        sizes = network.get("classes"), tuple(network.get("image_shape", ()))
        if sizes != (facts.classes, facts.image_shape):
            raise refuse(f"networks for {facts.classes} classes and images {facts.image_shape}", f"{source} for {sizes[0]} and "
                         f"{sizes[1]}")


def check_against(runs: Path, config: RunConfig, parent: str | None) -> None:
    """Check the setting `against` of an attack.

    The setting is the id of an earlier attack run. The new run compares its network with the network of the earlier run.

    Args:
        runs: folder of all runs.
        config: configuration of a run. Nothing is checked if the run is not an attack or if `against` is not set.
        parent: id of the retraining whose network is attacked; None if the retraining is launched together with the attack.

    Raises:
        ConfigError: the earlier run is not a finished attack on all images, attacks the same network, or has other settings.
        RunError: the earlier run does not exist.
    """
    if not isinstance(config, AttackConfig) or not config.against:
        return
    folder = RunFolder(runs, config.against)
    run = folder.read_run()
    problem = _not_comparable(folder, run, config, parent)
    if problem:
        raise ConfigError(problems={"against": (
            f"against must be a finished attack on another network with the same settings, but {problem} {config.against}.")})


def check_inherited(runs: Path, config: RunConfig) -> None:
    """Check the setting `inherit_from` of a search.

    The setting is the id of an earlier search. The new search also measures the architectures of its candidates with the weights
    of the earlier search's supernet.

    Args:
        runs: folder of all runs.
        config: configuration of a run. Nothing is checked if it lacks the setting or if the setting is empty.

    Raises:
        ConfigError: the earlier run is not a finished search on a supernet, has no checkpoint, or does not fit.
        RunError: the earlier run does not exist.
    """
    source = getattr(config, "inherit_from", "")
    if not source:
        return
    folder = RunFolder(runs, source)
    assert isinstance(config, SearchConfig)
    if problem := _not_inheritable(folder, folder.read_run(), config):
        raise ConfigError(problems={"inherit_from": (
            f"inherit_from must be a finished search on a supernet that fits this one, got {source}, {problem}.")})


def _not_inheritable(folder: RunFolder, run: Mapping[str, Any], config: SearchConfig) -> str:
    """Return the reason why candidates cannot inherit weights from an earlier run, or "" if they can.

    The number of channels and layers may differ, because the earlier search's own supernet computes the architectures.

    Args:
        folder: folder of the earlier run.
        run: run.json of the earlier run.
        config: configuration of the search for candidates.
    """
    other = recorded(run)
    if not isinstance(other, SearchConfig):
        return f"a {run['kind']} run; name a search"
    if not other.on_supernet:
        return "which has no supernet; name a search with architecture weights"
    for name in ("dataset", "placement", "width_ratio"):
        ours, theirs = getattr(config, name), getattr(other, name)
        if ours != theirs:
            return f"which has the {name} {theirs} instead of {ours}; name another search or set {name} to {theirs}"
    if other.split_seed != config.split_seed:
        return (f"which divided the images by split_seed {other.split_seed} instead of {config.split_seed}, so that its supernet "
                f"may have been trained on the images of the select split; set split_seed to {other.split_seed}")
    if compute(folder).status != "finished":
        return "which has not finished; wait for it or resume it"
    if not (folder.checkpoint / "last.pt").exists():
        return "whose checkpoint is missing; restore checkpoint/last.pt or search again"
    return ""


def _not_comparable(folder: RunFolder, run: Mapping[str, Any], config: AttackConfig, parent: str | None) -> str:
    """Return the reason why an attack cannot be compared with an earlier attack run, or "" if it can.

    The text is incomplete. The caller puts it into a sentence and appends the id of the earlier run.

    Args:
        folder: folder of the earlier attack run.
        run: run.json of the earlier attack run.
        config: configuration of the new attack.
        parent: id of the retraining whose network the new attack attacks; None if both are launched together.
    """
    if run["kind"] != "attack":
        return f"a {run['kind']} run has no outcomes under attack; name an attack run instead of"
    other = recorded(run)
    assert isinstance(other, AttackConfig)
    if other.against:
        return "a comparison does not attack all images; name a run without --against instead of"
    if compute(folder).status != "finished" or not (folder.results / "outcomes.parquet").exists():
        return "outcomes are missing; wait for, resume or replace"
    if (run.get("parent"), other.checkpoint) == (parent, config.checkpoint):
        return f"the network of {parent} was attacked there, too; name another run instead of"
    if different := config.differs_from(other):
        values = ", ".join(f"{name} {getattr(config, name)} instead of {getattr(other, name)}" for name in different)
        return f"this run has {values}; give it the settings of"
    return ""


def check_follows(config: RetrainConfig) -> None:
    """Check that a retraining can follow a search, which means that it trains a network built from a genotype.

    Raises:
        ConfigError: the retraining names a hand-made network instead.
    """
    if config.network != DERIVED:
        raise ConfigError(problems={"network": (
            f"A retraining that follows a search must train its genotype (network {DERIVED}), got {config.network}; launch it "
            "separately, without a parent.")})


def searched_arrangement(runs: Path, config: RetrainConfig, search: Mapping[str, Any] | None) -> list[str]:
    """Return phrases for a retraining's name that describe the placement and the cell widths inherited from its search.

    The placement is the rule for the positions of the cell kinds. A retraining inherits placement and widths from its parent
    search if its genotype is a candidate of that search. A value that the retraining sets itself, or that equals the published
    value, gives no phrase.

    Args:
        runs: folder of all runs.
        config: configuration of a retraining that names its network or genotype.
        search: content of the parent search's run.json; None if the retraining has no parent.

    Raises:
        ConfigError: the genotype is not in the catalogue, or the placement does not fit its cell kinds.
        GenotypeError: the JSON text of the genotype is not a valid genotype.
    """
    if search is None or config.network != DERIVED:
        return []
    genotype = find_genotype(str(config.genotype))
    arrangement = arrangement_of(runs, config, str(search["id"]), genotype)
    published = resolved(genotype.kinds)
    names = [] if config.placement or arrangement["placement"] == published["placement"] else [
        in_sentence(RULES[arrangement["placement"]].title)]
    return names + ([] if config.width_ratio or arrangement["width_ratio"] == published["width_ratio"] else [
        f"widths {arrangement['width_ratio']}"])
