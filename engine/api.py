"""The engine as functions, for scripts, tests and the command line. Imports no torch.

`stop`, `force_stop`, `resume`, `status` and `queue` are those of `engine.requests` and take the folder of all runs first.
Everywhere else it is the keyword `runs`, by default $RAMPART_RUNS or ./runs (`runs_root`).

Example:
    from engine import api
    ids = api.launch("search", method="arnas", preset="quick", then=("retrain", "attack"))
    api.wait(ids)
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from engine import requests
from engine.architecture.catalogue import find_genotype
from engine.architecture.genotype import Genotype
from engine.architecture.network import DerivedNetwork, Network, is_named, named_network
from engine.architecture.transplant import CELL_KINDS, read_graft
from engine.architecture.transplant import transplant as transplanted
from engine.config import PRESETS, RunConfig, setting_of
from engine.config.run import KINDS
from engine.configuring import build, config_class, preset_values, published_values
from engine.data import fetching
from engine.data.fetching import Presence
from engine.errors import ConfigError
from engine.files import free_bytes
from engine.requests import force_stop, queue, resume, runs_root, status
from engine.requests import request_stop as stop
from engine.run import device
from engine.run.admission import LEAST_FREE_BYTES
from engine.run.events import read_events
from engine.run.folder import RunFolder
from engine.run.lineage import genotype_of
from engine.run.state import RunState
from engine.search.methods.registry import METHODS
from engine.space.compiled import build as kernels

__all__ = ["Finding", "Setting", "datasets", "describe", "doctor", "fetch_dataset", "force_stop", "launch", "presets", "queue",
           "reindex", "resume", "runs_root", "runs_table", "schema", "status", "stop", "transplant", "wait"]

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def launch(kind: str, *, runs: Path | str | None = None, method: str | None = "arnas", dataset: str = "digits",
           preset: str = "quick", changes: Mapping[str, Any] | None = None, parent: str | None = None,
           then: Sequence[str] = (), then_changes: Mapping[str, Mapping[str, Any]] | None = None,
           key: str | None = None) -> list[str]:
    """Launch a run and its followers; return their ids at once.

    Args:
        kind: "search", "retrain" or "attack".
        method: search method; ignored by the other kinds.
        changes: settings laid over the preset's values.
        parent, then, then_changes, key: as in `engine.requests.submit`.

    Raises:
        ConfigError, DataError, GenotypeError, RunError: a sentence; nothing was written.
    """
    method = method if kind == "search" else None
    config: RunConfig = build(kind, method, dataset, preset, changes)
    return requests.submit(runs_root(runs), kind, config, method=method, preset=preset, parent=parent, then=then,
                           then_changes=then_changes, key=key)


def wait(ids: Sequence[str], *, runs: Path | str | None = None, every_s: float = 0.2,
         on_event: Callable[[str, dict[str, Any]], None] = lambda run_id, event: None) -> dict[str, RunState]:
    """Wait until every run is over or can no longer start, because a run before it failed or was stopped.

    Args:
        ids: a chain, parents first.
        every_s: seconds between two looks.
        on_event: called with (run id, event) for every new event.

    Returns:
        The last state of each run.
    """
    root = runs_root(runs)
    offsets = dict.fromkeys(ids, 0)
    next_check = 0.0
    while True:
        if time.monotonic() >= next_check:  # replaces a supervisor that was killed
            with contextlib.suppress(OSError):  # on a full disk the running runs go on without one
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
    """Return True if every run is over, or queued after a run that did not finish."""
    return all(states[run_id].is_over or (states[run_id].status == "queued" and _waits_in_vain(root, run_id)) for run_id in ids)


def _waits_in_vain(root: Path, run_id: str) -> bool:
    """Return True if a run before the queued one failed, was stopped or is gone."""
    for _ in KINDS:  # no chain is longer
        parent = RunFolder(root, run_id).read_run().get("parent")
        if not parent:
            return False
        if not RunFolder(root, parent).exists():
            return True
        of_parent = status(root, parent).status
        if of_parent != "queued":
            return of_parent in ("failed", "stopped")
        run_id = parent
    return False


def runs_table(*, runs: Path | str | None = None) -> Any:
    """Return all runs as a pandas DataFrame with the columns of `RunLog.runs`, read into an index in memory."""
    from engine.log import RunLog

    log = RunLog.open(runs_root(runs), in_memory=True)
    try:
        log.ingest()
        return log.runs()
    finally:
        log.close()


def reindex(*, runs: Path | str | None = None) -> Any:
    """Delete `runs/index.duckdb` and build it again; return the numbers of runs and lines read.

    Raises:
        RunLogError: a dashboard has the file open.
    """
    from engine.log import reindex as rebuild

    return rebuild(runs_root(runs))


def datasets() -> list[Presence]:
    """Return every dataset, whether it is on this machine, and how to get it if not."""
    return fetching.presences()


def fetch_dataset(name: str, *, source: Path | str | None = None, side: int | None = None,
                  progress: Callable[[str, int, int], None] = lambda what, done, total: None) -> Presence:
    """Download and prepare a dataset, or prepare a folder of images.

    Args:
        name: of the dataset; a new name for a folder of images.
        source: folder of the official files, or of one folder of images per class; None to download.
        side: height and width in pixels to scale a folder's images to.
        progress: called with (file or "preparing", done, total).

    Raises:
        DataError: no network, a wrong checksum, a full disk, or other files than expected.
    """
    return fetching.fetch(name, source=None if source is None else Path(source).expanduser(), side=side, progress=progress)


def describe(genotype: str, *, channels: int = 64, layers: int = 20, classes: int = 10,
             image_shape: tuple[int, int, int] = (3, 32, 32), auxiliary: bool = False, placement: str = "",
             width_ratio: str = "") -> tuple[Genotype | None, dict[str, int]]:
    """Return (genotype, {"parameters", "macs"}) of a network.

    Args:
        genotype: a catalogue name, a genotype as JSON, or a hand-made network such as "resnet-18", which has no genotype and
            its own width and depth.
        placement, width_ratio: position rule and relative widths of the cells; empty for the published ones.

    Raises:
        ConfigError, GenotypeError: an unknown name, no valid genotype, or sizes that no network can have.
    """
    network: Network = (named_network(genotype, classes, image_shape) if is_named(genotype) else
                        DerivedNetwork(find_genotype(genotype), channels, layers, classes, image_shape, placement, width_ratio,
                                       auxiliary))
    size = network.cost(auxiliary=auxiliary)
    return getattr(network, "genotype", None), {"parameters": size.parameters, "macs": size.macs}


def transplant(genotype: str, *, copy: Sequence[str] = (), swap: Sequence[str] = (), everywhere: str | None = None,
               runs: Path | str | None = None) -> Genotype:
    """Return a genotype in which cells replace others. All cells are taken before any is replaced, so two can be swapped.

    Args:
        genotype: a catalogue name, a genotype as JSON, or the id of a run.
        copy: SOURCE:TARGET replaces TARGET by SOURCE; GENOTYPE.SOURCE:TARGET takes the cell from another genotype.
        swap: KIND:KIND swaps two cells.
        everywhere: KIND, or GENOTYPE.KIND, replaces all cells except the reductions.

    Raises:
        ConfigError, GenotypeError, RunError: no cell to move, an unknown one, or an unknown genotype.
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
    """Return the JSON schema of a kind's configuration, with help, bounds, groups and sources.

    Raises:
        ConfigError: an unknown kind or method, or a method for a kind that has none.
    """
    _check_method(kind, method)
    return config_class(kind, method).model_json_schema()


def _check_method(kind: str | None, method: str | None) -> None:
    if method is not None and kind in KINDS and kind != "search":
        raise ConfigError(f"method belongs to searches, got {method!r} for {kind}; leave it out.")


@dataclass(frozen=True)
class Setting:
    """One setting of a run kind (and, for searches, of a method) with its value under each preset.

    Attributes:
        values: by preset, on the chosen dataset.
        published: published value on that dataset, or the default of the class where none is published.
        source: paper or code that `published` comes from; "" for none.
        text: meaning of the setting.
    """

    kind: str
    method: str | None
    field: str
    values: dict[str, Any]
    published: Any
    source: str
    text: str


def presets(kind: str | None = None, method: str | None = None, dataset: str = "digits") -> list[Setting]:
    """Return every setting with its value in each preset, the published value and its source.

    Args:
        kind: kind of run; None for all three.
        method: search method; None for all of them.
        dataset: the dataset whose own values apply.

    Raises:
        ConfigError: an unknown kind, method or dataset, or a method for a kind that has none.
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


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report: subject, state found, whether Rampart can work with it, and advice if not."""

    subject: str
    found: str
    good: bool
    advice: str = ""


def doctor(*, runs: Path | str | None = None) -> list[Finding]:
    """Return a report on this machine. Imports nothing heavy; a process of its own looks for a GPU."""
    return list(_findings(runs_root(runs)))


def _search_step(gpu: bool) -> str:
    """Return the back end of searches on this machine, and why. Compiles the kernels if they are not compiled yet."""
    if gpu:
        return "merged PyTorch operations under CUDA graphs, since there is a GPU"
    reason = kernels.unavailable()
    if reason is not None:
        return f"plain PyTorch operations, several times slower than compiled kernels. {reason}"
    return f"kernels compiled by {kernels.compiler_version(kernels.compiler())} for this processor"


def _findings(root: Path) -> Iterator[Finding]:
    yield Finding("Python", f"{platform.python_version()} ({sys.executable})", sys.version_info >= (3, 11),
                  "Python 3.11 or newer is needed.")
    for package in ("torch", "torchattacks", "streamlit", "duckdb", "plotly"):
        try:
            yield Finding(package, metadata.version(package), True)
        except metadata.PackageNotFoundError:
            yield Finding(package, "not installed", False, "Run `make setup`.")
    gpus = device.gpus()
    yield Finding("search step", _search_step(bool(gpus)), True)
    yield Finding("device", ", ".join(gpus) if gpus else "CPU (no GPU that the installed torch can use)", True)
    threads = os.environ.get("OMP_NUM_THREADS")
    yield Finding("threads", f"{device.cores()} cores" + (f"; OMP_NUM_THREADS={threads}" if threads else ""), True)
    chromium = next((path for name in CHROMIUM if (path := shutil.which(name))), None)
    yield Finding("chromium", chromium or "not on the path (only the browser tests need it)", True, "Run `make setup`.")
    datasets = ", ".join(one.name if one.present else f"{one.name} (not here)" for one in fetching.presences())
    yield Finding("datasets", datasets, True)
    yield Finding("methods", ", ".join(METHODS), True)
    folder = next(path for path in (root, *root.parents) if path.exists())
    free = free_bytes(root)
    yield Finding("disk", f"{free / 2**30:.1f} GB free for {root}", free >= LEAST_FREE_BYTES, "Free some space.")
    yield Finding("runs folder", str(root), folder.is_dir() and os.access(folder, os.W_OK),
                  f"Make {folder} writable or choose another (--runs DIR).")
    pid = requests.supervisor_pid(root)
    yield Finding("supervisor", f"process {pid}" if pid else "none now; a launch starts it", True)
