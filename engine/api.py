"""Functions that give scripts, tests and the command line access to the engine. Imports no torch.

`stop`, `force_stop`, `resume` and `status` come from `engine.requests`, `queue` from `engine.queueing`. Their first argument is
the folder of all runs. The other functions that need this folder take it as the keyword `runs`. The default of `runs` is
$RAMPART_RUNS or, if that variable is not set, ./runs (`runs_root`).

Example:
    from engine import api
    ids = api.launch("search", method="arnas", preset="quick", then=("retrain", "attack"))
    api.wait(ids)
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import requests
from engine.architecture.catalogue import find_genotype
from engine.architecture.genotype import Genotype
from engine.architecture.network import DerivedNetwork, Network, is_named, named_network
from engine.architecture.transplant import CELL_KINDS, read_graft
from engine.architecture.transplant import transplant as transplanted
from engine.config import PRESETS, setting_of
from engine.config.run import KINDS
from engine.configuring import config_class, preset_values, published_values
from engine.data import fetching
from engine.data.fetching import Presence
from engine.doctor import Finding, doctor
from engine.errors import ConfigError
from engine.queueing import waiting_list as queue
from engine.queueing import waits_in_vain
from engine.requests import Launch, force_stop, resume, runs_root, status
from engine.requests import request_stop as stop
from engine.run.events import read_events
from engine.run.folder import RunFolder
from engine.run.lineage import genotype_of
from engine.run.state import RunState
from engine.search.methods.registry import METHODS

if TYPE_CHECKING:  # these import pandas and DuckDB, which most verbs do not need
    from engine.log.sql import Answer
    from engine.report.robustness import Distinctions, RobustnessTable

__all__ = ["Finding", "Setting", "compare", "datasets", "describe", "differences", "doctor", "fetch_dataset", "force_stop",
           "launch", "launch_all", "presets", "queue", "reindex", "report", "resume", "runs_root", "runs_table", "schema", "sql",
           "status", "stop", "table", "transplant", "wait"]


def launch(kind: str, *, runs: Path | str | None = None, method: str | None = "arnas", dataset: str = "digits",
           preset: str = "quick", changes: Mapping[str, Any] | None = None, parent: str | None = None,
           then: Sequence[str] = (), then_changes: Mapping[str, Mapping[str, Any]] | None = None,
           key: str | None = None) -> list[str]:
    """Launch a run and its followers, and return their ids without waiting for them to start.

    The followers are runs that start one after another when this run has finished.

    Args:
        kind: "search", "retrain" or "attack".
        runs: folder of all runs; None for the default.
        method: search method; ignored for the other kinds of run.
        dataset: name of the dataset.
        preset: preset that gives the run and its followers their settings, before any changes.
        changes: values of settings that override the preset's.
        parent: id of the run that this run follows (a search for "retrain", a retraining for "attack").
        then: kinds of the followers, for example ("retrain", "attack").
        then_changes: changed settings of the followers, as {kind: {name of the setting: value}}.
        key: text that identifies the launch. A second call with the same key launches nothing and returns the ids of the first
            call. With None, every call launches new runs.

    Raises:
        ConfigError, DataError, GenotypeError, RunError: one of the runs cannot be launched, so none of them has been created.
            The message is a sentence for the user.
    """
    method = method if kind == "search" else None
    config = {"dataset": dataset, **(changes or {})}
    return requests.submit(runs_root(runs), kind, config, method=method, preset=preset, parent=parent, then=then,
                           then_changes=then_changes, key=key)


def launch_all(launches: Sequence[Launch], *, runs: Path | str | None = None, key: str | None = None) -> list[list[str]]:
    """Launch several chains as one batch, all or none, and return the run ids of each chain.

    A chain is a run with its followers. Chains that begin with the same runs (equal settings, same parent) share these runs.

    `engine.grid.launches_of` makes the launches of a grid.

    Args:
        launches: the chains, in the order in which they are to start.
        runs: folder of all runs; None for the default.
        key: text that identifies the batch, as in `launch`.

    Raises:
        ConfigError, DataError, GenotypeError, RunError: one of the chains cannot be launched, so no run has been created. The
            message names the chain.
    """
    return requests.submit_all(runs_root(runs), launches, key)


def wait(ids: Sequence[str], *, runs: Path | str | None = None, every_s: float = 0.2,
         on_event: Callable[[str, dict[str, Any]], None] = lambda run_id, event: None) -> dict[str, RunState]:
    """Wait until each run has ended, or can never start because an earlier run of its chain failed, was stopped or was deleted.

    Args:
        ids: ids of the runs, parents first.
        runs: folder of all runs; None for the default.
        every_s: seconds between two checks.
        on_event: function that is called with (run id, event) for every new event. The event is the JSON object of a line of
            events.jsonl.

    Returns:
        {run id: state of the run at the end of the wait}.
    """
    root = runs_root(runs)
    offsets = dict.fromkeys(ids, 0)
    next_check = 0.0
    while True:
        if time.monotonic() >= next_check:  # in case the supervisor was killed
            with contextlib.suppress(OSError):  # on a full disk, no supervisor can be started, but running workers continue
                requests.ensure_supervisor(root)
            next_check = time.monotonic() + 2.0
        states = {run_id: status(root, run_id) for run_id in ids}
        for run_id in ids:
            events, offsets[run_id] = read_events(RunFolder(root, run_id).events, offsets[run_id])
            for event in events:
                on_event(run_id, event)
        if _nothing_will_happen(root, ids, states):
            return states
        time.sleep(every_s)


def _nothing_will_happen(root: Path, ids: Sequence[str], states: Mapping[str, RunState]) -> bool:
    """Return True if each run has ended, or waits for a run that will never finish."""
    return all(states[run_id].is_over or (states[run_id].status == "queued" and waits_in_vain(root, run_id)) for run_id in ids)


def runs_table(*, runs: Path | str | None = None) -> Any:
    """Return all runs as a pandas DataFrame with the columns of `RunLog.runs`.

    Args:
        runs: folder of all runs; None for the default.
    """
    from engine.log import snapshot

    with snapshot(runs_root(runs)) as log:
        return log.runs()


def compare(ids: Sequence[str], *, attack: str = "worst-case",
            runs: Path | str | None = None) -> tuple[RobustnessTable, Distinctions]:
    """Compare the networks of attack runs in pairs, by exact McNemar tests that are Holm-adjusted over all pairs.

    Args:
        ids: ids of at least two attack runs under one protocol (with equal conditions).
        attack: "natural", the name of an attack of the protocol, or "worst-case".
        runs: folder of all runs; None for the default.

    Returns:
        The robustness table of the attacked networks.
        The result of the comparison.

    Raises:
        ConfigError, RunLogError: the runs cannot be compared. The message says why.
    """
    from engine.log import snapshot
    from engine.report.selection import compared

    with snapshot(runs_root(runs)) as log:
        return compared(log, ids, attack)


def differences(ids: Sequence[str], *, runs: Path | str | None = None) -> dict[str, Any]:
    """Return the results of runs of any kind, and the settings in which the runs, or the runs that they follow, differ.

    Args:
        ids: run ids.
        runs: folder of all runs; None for the default.

    Returns:
        {"results": one dict per run, "settings": one dict per differing setting}, ready for JSON.

    Raises:
        RunLogError: a run does not exist.
    """
    from engine.log import snapshot
    from engine.report.run_comparison import compared_runs, comparison_record

    with snapshot(runs_root(runs)) as log:
        return comparison_record(compared_runs(log, list(dict.fromkeys(ids))))


def table(form: str = "json", *, protocol: str | None = None, older: bool = False, runs: Path | str | None = None) -> bytes:
    """Return a robustness table as the content of a file.

    Each column stands for natural images, one attack or the worst case. In each column, the networks are compared in pairs.

    Args:
        form: one of `engine.report.formats.FORMATS`, such as "csv" or "latex".
        protocol: hash of the protocol (the conditions of the attacks), or the first digits of the hash. None if all attacked
            networks have the same protocol.
        older: True to add rows for older attack runs. By default, each network has one row, from its newest complete attack run.
        runs: folder of all runs; None for the default.

    Raises:
        ConfigError, RunLogError: the format or the protocol is unknown, several protocols fit, or outcomes cannot be read.
    """
    from engine.log import snapshot
    from engine.report.formats import all_distinctions, export, openings_of
    from engine.report.robustness import with_older
    from engine.report.selection import table_of

    with snapshot(runs_root(runs)) as log:
        chosen = table_of(log, protocol)
        if older:
            chosen = with_older(log, chosen)
        return export(chosen, form, all_distinctions(log, chosen), openings_of(log, chosen))


def report(run: str, *, runs: Path | str | None = None) -> bytes:
    """Return a report about the network that an attack run attacked, as one HTML file that can be read offline.

    Raises:
        ConfigError, RunLogError: the run is not an attack or does not exist, or its images cannot be read.
    """
    from engine.log import snapshot
    from engine.report.html import network_report

    with snapshot(runs_root(runs)) as log:
        return network_report(log, run)


def newest_report(run: str, *, runs: Path | str | None = None) -> tuple[str, bytes]:
    """Return the report about the newest attack on a run's network.

    Args:
        run: id of a search, retraining or attack.
        runs: folder of all runs.

    Returns:
        attack: id of the attack.
        report: content of the report, an HTML file.

    Raises:
        ConfigError, RunLogError: the run does not exist, no network of it has been attacked, or its images cannot be read.
    """
    from engine.log import snapshot
    from engine.report.html import attack_of, network_report

    with snapshot(runs_root(runs)) as log:
        attack = attack_of(log, run)
        return attack, network_report(log, attack)


def reindex(*, runs: Path | str | None = None) -> Any:
    """Delete the index of the run log, `runs/index.duckdb`, and build it again.

    Args:
        runs: folder of all runs; None for the default.

    Returns:
        A report with the numbers of runs and lines that were read.

    Raises:
        RunLogError: the folder does not exist, or a dashboard has the index file open.
    """
    from engine.log import reindex as rebuild

    return rebuild(runs_root(runs))


def sql(query: str, *, runs: Path | str | None = None) -> Answer:
    """Run a user's query on the run log and return its result, with the limits of the SQL page.

    Args:
        query: one SQL statement that only reads.
        runs: folder of all runs; None for the default.

    Raises:
        RunLogError: the query is refused, fails, or exceeds a limit.
    """
    from engine.log import snapshot
    from engine.log.sql import Console

    with snapshot(runs_root(runs)) as log:
        return Console(log).ask(query)


def datasets() -> list[Presence]:
    """Return one entry for each dataset. It says whether the dataset is on this machine and, if it is not, how to get it."""
    return fetching.presences()


def fetch_dataset(name: str, *, source: Path | str | None = None, side: int | None = None,
                  progress: Callable[[str, int, int], None] = lambda what, done, total: None) -> Presence:
    """Download and prepare a dataset, or prepare a folder of images as a new dataset.

    Args:
        name: name of the dataset; a new name for a folder of images.
        source: folder with the official files, or folder with one subfolder of images per class; None to download the files.
        side: height and width in pixels to which the images of a folder are scaled; None for the default.
        progress: function that is called with (name of the file or "preparing", amount done, total amount).

    Raises:
        DataError: a download fails, a checksum is wrong, the disk is full, or the files are not the expected ones.
    """
    return fetching.fetch(name, source=None if source is None else Path(source).expanduser(), side=side, progress=progress)


def describe(genotype: str, *, channels: int = 64, layers: int = 20, classes: int = 10,
             image_shape: tuple[int, int, int] = (3, 32, 32), auxiliary: bool = False, placement: str = "",
             width_ratio: str = "") -> tuple[Genotype | None, dict[str, int]]:
    """Return the genotype and the size of a network, without building the network.

    Args:
        genotype: a catalogue name, a genotype as JSON, or the name of a hand-made network such as "resnet-18". The arguments
            `channels`, `layers`, `auxiliary`, `placement` and `width_ratio` have no effect on hand-made networks.
        channels: number of channels C of the first cells.
        layers: number of cells.
        classes: number of classes.
        image_shape: (channels, height, width) of an image.
        auxiliary: True to count the auxiliary head as well.
        placement: name of the rule that places the cell kinds in the network; empty for the published rule.
        width_ratio: relative widths of the cells before, between and after the two reductions, such as "1:2:4"; empty for the
            published widths.

    Returns:
        The genotype; None for a hand-made network.
        {"parameters": number of parameters, "macs": multiply-accumulate operations per image}.

    Raises:
        ConfigError: the name is unknown, or no network can have these sizes.
        GenotypeError: the JSON text is not a valid genotype.
    """
    network: Network = (named_network(genotype, classes, image_shape) if is_named(genotype) else
                        DerivedNetwork(find_genotype(genotype), channels, layers, classes, image_shape, placement, width_ratio,
                                       auxiliary))
    size = network.cost(auxiliary=auxiliary)
    return getattr(network, "genotype", None), {"parameters": size.parameters, "macs": size.macs}


def transplant(genotype: str, *, copy: Sequence[str] = (), swap: Sequence[str] = (), everywhere: str | None = None,
               runs: Path | str | None = None) -> Genotype:
    """Return a copy of a genotype in which some cells are replaced with cells of the same genotype or of other genotypes.

    All replacements happen at once, so two cells can be swapped.

    Args:
        genotype: a catalogue name, a genotype as JSON, or the id of a run.
        copy: texts of the form SOURCE:TARGET. Each replaces the cell TARGET with a copy of the cell SOURCE. In the form
            GENOTYPE.SOURCE:TARGET, the cell SOURCE comes from another genotype.
        swap: texts of the form KIND:KIND. Each swaps two cells.
        everywhere: text of the form KIND or GENOTYPE.KIND, which names a cell. This cell replaces all cells except the reduction
            cell. None for no such replacement.
        runs: folder of all runs; None for the default.

    Raises:
        ConfigError: no replacement is given, or a cell or the name of a genotype is unknown.
        GenotypeError: the JSON text of a genotype is not valid, or a genotype lacks a named cell.
        RunError: a named run does not exist or has no genotype yet.
    """
    root = runs_root(runs)
    original = genotype_of(root, genotype)
    texts = list(copy)
    for pair in swap:
        one, _, other = pair.partition(":")
        texts += [f"{one}:{other}", f"{other}:{one}"]
    if everywhere is not None:
        texts += [f"{everywhere}:{kind}" for kind in original.kinds if kind not in ("reduce", everywhere)]
    if not texts:
        raise ConfigError("A transplant needs a cell to move (copy, swap, or everywhere where two stand beside reduce), got "
                          f"none that would change {genotype[:40]!r}; name one of {', '.join(CELL_KINDS)}.")
    return transplanted(original, [read_graft(text, lambda donor: genotype_of(root, donor)) for text in texts])


def schema(kind: str, method: str | None = None) -> dict[str, Any]:
    """Return the JSON schema of a configuration.

    For each setting, the schema gives the help text, the bounds, the group, and the paper or code that the setting comes from.

    Args:
        kind: "search", "retrain" or "attack".
        method: search method; None for the other kinds of run.

    Raises:
        ConfigError: the kind or the method is unknown, or a method is given for a kind other than "search".
    """
    _check_method(kind, method)
    return config_class(kind, method).model_json_schema()


def _check_method(kind: str | None, method: str | None) -> None:
    if method is not None and kind in KINDS and kind != "search":
        raise ConfigError(f"method belongs to searches, got {method!r} for {kind}; leave it out.")


@dataclass(frozen=True)
class Setting:
    """A setting of one kind of run or of one search method, with the setting's value in each preset.

    Attributes:
        kind: kind of run.
        method: search method; None for the other kinds of run.
        field: name of the setting.
        values: {name of a preset: value of the setting in this preset, for the chosen dataset}.
        published: value published for the dataset or, if no paper uses the dataset, for CIFAR-10; the default of the
            configuration class if no value is published.
        source: paper or code from which the published value comes; "" if no value is published.
        text: help text of the setting.
    """

    kind: str
    method: str | None
    field: str
    values: dict[str, Any]
    published: Any
    source: str
    text: str


def presets(kind: str | None = None, method: str | None = None, dataset: str = "digits") -> list[Setting]:
    """Return every setting, with its value in each preset and its published value.

    Args:
        kind: kind of run; None for all kinds.
        method: search method; None for all methods.
        dataset: name of the dataset. Some values depend on it, such as the attack radius epsilon.

    Raises:
        ConfigError: the kind, method or dataset is unknown, or a method is given for a kind other than "search".
    """
    _check_method(kind, method)
    settings = []
    for of_kind in KINDS if kind is None else (kind,):
        methods = (None,) if of_kind != "search" else tuple(METHODS) if method is None else (method,)
        for of_method in methods:
            values = {preset: preset_values(of_kind, of_method, dataset, preset) for preset in PRESETS}
            cls = config_class(of_kind, of_method)
            published = published_values(cls, dataset)
            for name, info in cls.model_fields.items():
                if name != "dataset":
                    settings.append(Setting(of_kind, of_method, name, {preset: of[name] for preset, of in values.items()},
                                         published[name], setting_of(info).source, str(info.description)))
    return settings
