"""The verbs of the command line as functions: what a script, a test and `rampart` call. Imports no torch.

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
from engine.architecture.cost import cost
from engine.architecture.genotype import Genotype
from engine.architecture.hand_made import hand_made, is_hand_made
from engine.architecture.transplant import CELL_KINDS, read_graft
from engine.architecture.transplant import transplant as transplanted
from engine.config import PRESETS, RunConfig, setting_of
from engine.config.run import KINDS
from engine.configuring import build, config_class, preset_values, published_values
from engine.data import fetching
from engine.data.fetching import Presence
from engine.errors import ConfigError
from engine.run import device
from engine.run.admission import LEAST_FREE_BYTES
from engine.run.events import read_events
from engine.run.folder import RunFolder
from engine.run.lineage import genotype_of
from engine.run.state import RunState
from engine.search.methods.registry import METHODS
from engine.space.compiled import build as kernels

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def launch(kind: str, *, runs: Path | str | None = None, method: str | None = "arnas", dataset: str = "digits",
           preset: str = "quick", changes: Mapping[str, Any] | None = None, parent: str | None = None,
           then: Sequence[str] = (), key: str | None = None) -> list[str]:
    """Asks for a run and its followers; returns their ids at once. See `engine.requests.submit`.

    Raises:
        ConfigError, GenotypeError, RunError: a sentence; nothing was written then.
    """
    method = method if kind == "search" else None
    config: RunConfig = build(kind, method, dataset, preset, changes)
    return requests.submit(requests.runs_root(runs), kind, config, method=method, preset=preset, parent=parent, then=then,
                           key=key)


def stop(run_id: str, *, runs: Path | str | None = None, force: bool = False) -> None:
    """Asks a run to stop within two seconds; `force` kills it. Raises RunError when there is nothing to stop."""
    (requests.force_stop if force else requests.request_stop)(requests.runs_root(runs), run_id)


def resume(run_id: str, *, runs: Path | str | None = None) -> None:
    """Asks for a new attempt from the last checkpoint. Raises RunError when there is nothing to resume."""
    requests.resume(requests.runs_root(runs), run_id)


def status(run_id: str, *, runs: Path | str | None = None) -> RunState:
    """The state of a run, computed now."""
    return requests.status(requests.runs_root(runs), run_id)


def queue(*, runs: Path | str | None = None) -> list[dict[str, Any]]:
    """What waits, in the order in which it will start."""
    return requests.queue(requests.runs_root(runs))


def wait(ids: Sequence[str], *, runs: Path | str | None = None, every_s: float = 0.2,
         on_event: Callable[[str, dict[str, Any]], None] = lambda run_id, event: None) -> dict[str, RunState]:
    """Waits until each run is over, or waits for one that failed or was stopped.

    Args:
        ids: a chain, parents first.
        every_s: how often to look.
        on_event: called with (run id, event) for every event that appears meanwhile.

    Returns:
        The last state of each.
    """
    root = requests.runs_root(runs)
    offsets = dict.fromkeys(ids, 0)
    next_check = 0.0
    while True:
        if time.monotonic() >= next_check:  # a supervisor that was killed is replaced by whoever waits
            with contextlib.suppress(OSError):  # a full disk: what runs goes on without one
                requests.ensure_supervisor(root)
            next_check = time.monotonic() + 2.0
        states = {run_id: requests.status(root, run_id) for run_id in ids}
        for run_id in ids:
            events, offsets[run_id] = read_events(RunFolder(root, run_id).events, offsets[run_id])
            for event in events:
                on_event(run_id, event)
        if _nothing_will_happen(root, ids, states):
            return states
        time.sleep(every_s)


def _nothing_will_happen(root: Path, ids: Sequence[str], states: Mapping[str, RunState]) -> bool:
    """True when every run is over or queued behind one that did not finish, be that one of these or not."""
    return all(states[run_id].is_over or (states[run_id].status == "queued" and _waits_in_vain(root, run_id)) for run_id in ids)


def _waits_in_vain(root: Path, run_id: str) -> bool:
    """True when a run above a queued one failed, was stopped or is gone: only a resume there brings it to work."""
    for _ in KINDS:  # no chain is longer
        parent = RunFolder(root, run_id).read_run().get("parent")
        if not parent:
            return False
        if not RunFolder(root, parent).exists():
            return True
        status = requests.status(root, parent).status
        if status != "queued":
            return status in ("failed", "stopped")
        run_id = parent
    return False


def runs_table(*, runs: Path | str | None = None) -> Any:
    """All runs as a pandas DataFrame, from an index in memory; columns as in `RunLog.runs`."""
    from engine.log import RunLog

    log = RunLog.open(requests.runs_root(runs), in_memory=True)
    try:
        log.ingest()
        return log.runs()
    finally:
        log.close()


def reindex(*, runs: Path | str | None = None) -> Any:
    """Deletes `runs/index.duckdb` and builds it anew; the number of runs and lines read.

    Raises:
        RunLogError: a dashboard owns the file.
    """
    from engine.log import reindex as rebuild

    return rebuild(requests.runs_root(runs))


def datasets() -> list[Presence]:
    """Every dataset with whether it is on this machine, and how to get it if not."""
    return fetching.presences()


def fetch_dataset(name: str, *, source: Path | str | None = None, side: int | None = None,
                  progress: Callable[[str, int, int], None] = lambda what, done, total: None) -> Presence:
    """Downloads and prepares a dataset, or prepares an image folder. See `engine.data.fetching.fetch`.

    Raises:
        DataError: no network, a wrong checksum, a full disk, not the files it must be.
    """
    return fetching.fetch(name, source=None if source is None else Path(source).expanduser(), side=side, progress=progress)


def describe(genotype: str, *, channels: int = 64, layers: int = 20, classes: int = 10,
             image_shape: tuple[int, int, int] = (3, 32, 32), auxiliary: bool = False, placement: str = "",
             width_ratio: str = "") -> tuple[Genotype | None, dict[str, int]]:
    """(genotype, {"parameters", "macs"}) of a catalogue name or a genotype as JSON, at a width and depth.

    Its cells stand where `placement` says and are as wide as `width_ratio` says (`placement`); empty for the published
    ones. A hand-made network like "resnet-18" has no genotype, and a width and depth of its own.

    Raises:
        ConfigError, GenotypeError: an unknown name, no genotype, or sizes no network can have.
    """
    if is_hand_made(genotype):
        of_its_own = hand_made(genotype).cost(classes, image_shape)
        return None, {"parameters": of_its_own.parameters, "macs": of_its_own.macs}
    found = find_genotype(genotype)
    price = cost(found, channels=channels, layers=layers, classes=classes, image_shape=image_shape, auxiliary=auxiliary,
                 placement=placement, width_ratio=width_ratio)
    return found, {"parameters": price.parameters, "macs": price.macs}


def transplant(genotype: str, *, copy: Sequence[str] = (), swap: Sequence[str] = (), everywhere: str | None = None,
               runs: Path | str | None = None) -> Genotype:
    """A genotype with cells in the place of others; every cell is taken before any is put in place.

    Args:
        genotype: a catalogue name, a genotype as JSON, or the id of a run.
        copy: SOURCE:TARGET, or GENOTYPE.SOURCE:TARGET with any genotype as above.
        swap: KIND:KIND, two cells that change places.
        everywhere: the kind of cell, GENOTYPE.KIND for another genotype's, that all cells but the reductions become.

    Raises:
        ConfigError, GenotypeError, RunError: nothing to do, or what cannot be done.
    """
    root = requests.runs_root(runs)
    found = genotype_of(root, genotype)
    texts = list(copy)
    for pair in swap:
        one, _, other = pair.partition(":")
        texts += [f"{one}:{other}", f"{other}:{one}"]
    if everywhere is not None:
        texts += [f"{everywhere}:{kind}" for kind in found.kinds if kind not in ("reduce", everywhere)]
    if not texts:
        raise ConfigError("A transplant needs a cell to move (copy, swap, or everywhere where two stand beside reduce), got "
                          f"none that would change {genotype[:40]!r}; name one of {', '.join(CELL_KINDS)}.")
    return transplanted(found, [read_graft(text, lambda donor: genotype_of(root, donor)) for text in texts])


def schema(kind: str, method: str | None = None) -> dict[str, Any]:
    """JSON schema of a run kind's configuration, with help, bounds, groups and sources.

    Raises:
        ConfigError: an unknown kind or method, or the method of a kind that has none.
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
        values: by preset, on the dataset that was asked for.
        published: the published value on that dataset where there is a source, else the default of its class.
        source: paper or code that `published` comes from.
        text: what it means.
    """

    kind: str
    method: str | None
    field: str
    values: dict[str, Any]
    published: Any
    source: str
    text: str


def presets(kind: str | None = None, method: str | None = None, dataset: str = "digits") -> list[Setting]:
    """Every setting, its value in each preset, the published one and where that comes from.

    Args:
        kind: run kind; None for all three.
        method: search method; None for all of them.
        dataset: whose own values lie between the defaults and the preset's.

    Raises:
        ConfigError: an unknown kind, method or dataset, or the method of a kind that has none.
    """
    _check_method(kind, method)
    found = []
    for of_kind in KINDS if kind is None else (kind,):
        methods = (None,) if of_kind != "search" else tuple(METHODS) if method is None else (method,)
        for of_method in methods:
            values = {preset: preset_values(of_kind, of_method, dataset, preset) for preset in PRESETS}
            cls = config_class(of_kind, of_method)
            published = published_values(cls, dataset)
            for name, info in cls.model_fields.items():
                if name != "dataset":
                    found.append(Setting(of_kind, of_method, name, {preset: of[name] for preset, of in values.items()},
                                         published[name], setting_of(info).source, str(info.description)))
    return found


@dataclass(frozen=True)
class Finding:
    """One line of the doctor: what was looked at, what was found, whether the main job can work with it."""

    subject: str
    found: str
    good: bool
    advice: str = ""


def doctor(*, runs: Path | str | None = None) -> list[Finding]:
    """What this machine offers. Imports nothing heavy; a GPU is asked for in a process of its own."""
    return list(_findings(requests.runs_root(runs)))


def _search_step(gpu: bool) -> str:
    """Which back end a search computes with here, and why. Compiles the kernels if that has not been done yet."""
    if gpu:
        return "merged PyTorch operations under CUDA graphs, because there is a GPU"
    reason = kernels.unavailable()
    if reason is not None:
        return f"plain PyTorch operations, several times slower than compiled kernels. {reason}"
    return f"compiled kernels, made by {kernels.compiler_version(kernels.compiler())} for this processor"


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
    yield Finding("chromium", chromium or "none on the path (only the browser test needs it)", True, "Run `make setup`.")
    datasets = ", ".join(one.name if one.present else f"{one.name} (not here)" for one in fetching.presences())
    yield Finding("datasets", datasets, True)
    yield Finding("methods", ", ".join(METHODS), True)
    folder = next(path for path in (root, *root.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    yield Finding("disk", f"{free / 2**30:.1f} GB free for {root}", free >= LEAST_FREE_BYTES, "Free some space.")
    yield Finding("runs folder", str(root), folder.is_dir() and os.access(folder, os.W_OK),
                  f"Make {folder} writable or choose another (--runs DIR).")
    pid = requests.supervisor_pid(root)
    yield Finding("supervisor", f"process {pid}" if pid else "none now; a launch starts it", True)
