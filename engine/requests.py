"""Functions that launch, stop and resume runs and read their state, for the dashboard and the command line.

Each request writes a file. The supervisor (background process) or the worker of a run acts on it later, and no function here
waits for that. Most requests also start a supervisor if none is alive. Imports no torch.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from engine.acts import act, named, returned
from engine.command import changes_of, command_of
from engine.config import PRESETS, AttackConfig, RetrainConfig, RunConfig
from engine.configuring import build, config_class, deviations
from engine.errors import ConfigError, RampartError, RunError
from engine.files import make_folder, touch
from engine.registry import unknown_name
from engine.run import admission, bell, provenance, supervision
from engine.run.bell import expect_launch as expect_launch  # part of what this module offers
from engine.run.chain import followers, inherited
from engine.run.documents import SCHEMA
from engine.run.folder import RunFolder, free_id
from engine.run.lineage import trained_network
from engine.run.matching import matched
from engine.run.publishing import publish
from engine.run.state import RunState, compute
from engine.run.values import printable
from engine.search.methods.registry import METHODS

MOST_DRAWS = 100
# A supervisor that was started less than this long ago, and has not recorded itself yet, will read every request.
STARTING_S = 10.0


@dataclass(frozen=True)
class _Started:
    """A supervisor process that this process has started for the folder `runs`, at the monotonic time `at` in seconds."""

    runs: Path
    at: float
    process: subprocess.Popen[bytes]


_started: list[_Started] = []


def runs_root(path: str | Path | None = None) -> Path:
    """Return the absolute path of the folder of all runs.

    Args:
        path: the folder; None for the value of the environment variable RAMPART_RUNS or, if that is not set, ./runs.

    Raises:
        RunError: `path` is an empty text, for example because the user passed a shell variable that is not set.
    """
    if path == "":
        raise RunError("The runs folder must have a name, got ''; give one (--runs DIR) or leave --runs out.")
    return Path(path or os.environ.get("RAMPART_RUNS") or "runs").absolute()


def status(runs: Path | str, run_id: str) -> RunState:
    """Return the current state of a run, computed from its files and processes.

    Raises:
        RunError: there is no such run.
    """
    return compute(RunFolder(runs, run_id))


def check_config(kind: str, config: RunConfig) -> None:
    """Check that a configuration fits its dataset, without launching anything. `submit` makes the same check.

    Raises:
        ConfigError: the batch size, the image size or the network size does not fit.
        GenotypeError: the configuration contains a genotype that is not valid.
    """
    admission.check_config(kind, config)


@act("launch", returned)
def submit(runs: Path | str, kind: str, config: RunConfig | Mapping[str, Any], *, method: str | None = None,
           preset: str = "quick", parent: str | None = None, then: Sequence[str] = (), key: str | None = None,
           then_changes: Mapping[str, Mapping[str, Any]] | None = None, study: Mapping[str, Any] | None = None,
           exact: bool = False) -> list[str]:
    """Launch a run and its followers (runs that start one after another when this run has finished).

    Check all these runs, write their folders, and make sure that a supervisor is alive to start them.

    Args:
        runs: folder of all runs; created if it does not exist.
        kind: "search", "retrain" or "attack".
        config: a complete configuration, or {name of the setting: value} for values that override the preset's.
        method: search method; ignored for the other kinds of run.
        preset: preset of the run and of its followers.
        parent: id of the run that this run follows (a search for "retrain", a retraining for "attack").
        then: kinds of the followers, for example ("retrain", "attack").
        key: text that identifies the launch, for example one click. A second call with the same key launches nothing and returns
            the ids of the first call. With None, every call launches new runs.
        then_changes: changed settings of the followers, as {kind: {name of the setting: value}}.
        study: membership of the run in a study, which is stored in run.json; None for a run without a study. The settings of a
            run in a study are used as they are, as with `exact`.
        exact: True to use the given settings as they are, as for a run in a study. If False, the run takes some settings over
            from its parent.

    Returns:
        The ids of this run and of its followers, in order.

    Raises:
        ConfigError, DataError, GenotypeError, RunError: one of the runs cannot be launched, so none of them has been created.
    """
    launch = Launch(kind, config, method, preset, parent, tuple(then), then_changes or {})
    return _submit(runs, [launch], key, study, inherits=study is None and not exact)[0]


@dataclass(frozen=True)
class Launch:
    """A run and its followers, as one chain of a batch.

    All attributes except `name` mean the same as the arguments of `submit` with the same names.

    Attributes:
        name: text for error messages that distinguishes this launch from the others of its batch, such as "seed 3, lambda 0.1".
    """

    kind: str
    config: RunConfig | Mapping[str, Any]
    method: str | None = None
    preset: str = "quick"
    parent: str | None = None
    then: tuple[str, ...] = ()
    then_changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    name: str = ""


@act("launch", returned)
def submit_all(runs: Path | str, launches: Sequence[Launch], key: str | None = None, *, exact: bool = False) -> list[list[str]]:
    """Launch several chains as one batch: either all of them, or none.

    Chains that begin with the same runs (same settings, same parent) share these runs. For example, four chains that differ only
    in a setting of the retraining share one search.

    Args:
        runs: folder of all runs; created if it does not exist.
        launches: the chains, in the order in which they are to start.
        key: text that identifies the batch, as in `submit`.
        exact: True to use the given settings of the first run of each chain as they are. If False, the run takes some settings
            over from its parent.

    Returns:
        The ids of the runs of each chain. The id of a shared run is in several lists.

    Raises:
        ConfigError, DataError, GenotypeError, RunError: one of the runs cannot be launched, so none has been created. The message
            names the chain.
    """
    return _submit(runs, launches, key, None, inherits=not exact)


def _submit(runs: Path | str, launches: Sequence[Launch], key: str | None, study: Mapping[str, Any] | None, *,
            inherits: bool) -> list[list[str]]:
    runs = Path(runs).absolute()
    try:
        runs.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise RunError(f"The runs folder must be a writable folder, {runs} is not ({problem.strerror}); choose another one "
                       "(--runs DIR).") from None
    chains = [_checked(runs, launch, inherits=inherits) for launch in launches]
    admission.check_disk(runs, max((admission.checkpoint_bytes(one) for configs in chains for _, one in configs), default=0))
    for _ in range(MOST_DRAWS):
        try:
            records, places = _records(runs, launches, chains)
            ids = publish(runs, [record | ({"study": dict(study)} if study else {}) for record in records], key)
        except FileExistsError:
            continue  # another request drew the same id at the same time
        ensure_supervisor(runs)
        return [[ids[place] for place in chain] for chain in places]
    raise RunError(f"A run needs a free id, and all {MOST_DRAWS} ids drawn are taken in {runs}; try again in a minute.")


def _checked(runs: Path, launch: Launch, inherits: bool) -> list[tuple[str, RunConfig]]:
    """Return the result of `_check` for a launch. If the launch has a name, the error message contains it."""
    try:
        return _check(runs, launch, inherits)
    except RampartError as refusal:
        if not launch.name:
            raise
        raise ConfigError(f"Nothing was launched, because one combination is not possible: {launch.name}. {refusal}") from None


@act("stop", named("run_id"))
def request_stop(runs: Path | str, run_id: str) -> None:
    """Ask a running run to abandon its step, write a checkpoint and exit. A queued run leaves the queue.

    Raises:
        RunError: there is no such run, or it is neither queued nor running.
    """
    _ask_to_stop(runs, run_id)


@act("kill", named("run_id"))
def force_stop(runs: Path | str, run_id: str) -> None:
    """Ask the supervisor to kill the processes of a run at once. A queued run leaves the queue.

    The stop button of the dashboard calls this when it is pressed a second time.

    Raises:
        RunError: there is no such run, or it is neither queued nor running.
    """
    folder, state = _ask_to_stop(runs, run_id)
    if state.status in ("running", "stopping"):
        _ask(folder, "force", {"attempt": state.attempt})
    ensure_supervisor(runs)


@act("resume", named("run_id"))
def resume(runs: Path | str, run_id: str, processes: int | None = None) -> None:
    """Put a stopped or failed run back into the queue for a new attempt, which continues from the last checkpoint.

    Args:
        runs: folder of all runs.
        run_id: id of the run.
        processes: number of processes of a retraining in this attempt; None for that of its settings.

    Raises:
        RunError: there is no such run, the run is queued, running or finished, or the disk is nearly full.
        ConfigError: the run cannot have this number of processes.
    """
    folder, state = _state_for(runs, run_id)
    if state.status == "failed" and not state.can_resume:  # the run's files cannot be read, and the cause explains why
        raise RunError(state.cause)
    if not state.can_resume:
        raise RunError(f"Only a stopped or failed run can be resumed, {run_id} is {state.status}; nothing to do.")
    run = folder.read_run()
    folder.check_files()
    admission.check_disk(folder.runs)
    admission.check_processes(folder.runs, run, processes)
    if state.attempt:
        _ask(folder, "resume", {"after_attempt": state.attempt, "processes": processes})
    # The other requests are removed last, because the run is queued again as soon as they are gone.
    folder.request("force").unlink(missing_ok=True)
    folder.request("stop").unlink(missing_ok=True)
    bell.ring(folder.runs, folder.id)
    ensure_supervisor(runs)


def get_ready() -> None:
    """Read the facts about code and packages that every launch records, so that the first launch is faster. Takes up to 0.5 s."""
    provenance.describe()


def ensure_supervisor(runs: Path | str) -> None:
    """Start a supervisor for the folder `runs` as a detached process, unless one is alive. Do not wait for it."""
    runs = Path(runs).absolute()
    (runs / "control").mkdir(parents=True, exist_ok=True)
    _started[:] = [one for one in _started if one.process.poll() is None]
    if supervision.living(runs) or any(
            one.runs == runs and time.monotonic() - one.at < STARTING_S and one.process.pid != supervision.recorded_pid(runs)
            for one in _started):
        return
    with _log_of_supervisor(runs) as log:
        # Two processes may start two supervisors at the same time. The one that does not get the file lock exits.
        process = subprocess.Popen(
            [sys.executable, "-m", "engine.background", "--runs", str(runs)], stdin=subprocess.DEVNULL, stdout=log,
            stderr=subprocess.STDOUT, start_new_session=True, cwd=Path(__file__).resolve().parents[1])
    _started.append(_Started(runs, time.monotonic(), process))


def _log_of_supervisor(runs: Path) -> IO[bytes]:
    """Open supervisor.log for appending, or the null device if that fails, so that the supervisor starts in any case."""
    try:
        return (runs / "supervisor.log").open("ab")
    except OSError:
        return Path(os.devnull).open("ab")


def supervisor_pid(runs: Path | str) -> int | None:
    """Return the process id of the supervisor of the folder `runs`, or None if no supervisor is alive."""
    record = supervision.living(Path(runs))
    return None if record is None else int(record["pid"])


def _state_for(runs: Path | str, run_id: str) -> tuple[RunFolder, RunState]:
    folder = RunFolder(Path(runs).absolute(), run_id)
    return folder, compute(folder, with_parent=False)


def _ask_to_stop(runs: Path | str, run_id: str) -> tuple[RunFolder, RunState]:
    """Write a stop request for a run.

    Returns:
        The folder of the run.
        The state of the run before the request.

    Raises:
        RunError: there is no such run, or it is neither queued nor running.
    """
    folder, state = _state_for(runs, run_id)
    if not state.can_stop:
        raise RunError(f"Only a queued or running run can be stopped, {run_id} is {state.status}; nothing to do.")
    _ask(folder, "stop", {})
    return folder, state


def _ask(folder: RunFolder, name: str, content: dict[str, Any]) -> None:
    try:
        make_folder(folder.control, folder.path)
        try:
            folder.write_json(folder.request(name), {"at": time.time(), **content})
        except OSError:
            if name != "stop":
                raise
            touch(folder.request(name), folder.path)  # an empty file is also a request and fits on a full disk
        bell.ring(folder.runs, folder.id)
    except OSError as problem:
        raise RunError(f"The request to {name} could not be written to {folder.control} ({problem.strerror}); free some space or "
                       "make the folder writable, and try again.") from None


def _check(runs: Path, launch: Launch, inherits: bool) -> list[tuple[str, RunConfig]]:
    """Check a launch, and return a pair (kind, validated configuration) for the run and for each of its followers.

    Args:
        runs: folder of all runs.
        launch: the run and its followers.
        inherits: True if the run takes settings over from its parent.
    """
    kind, config, method, preset = launch.kind, launch.config, launch.method, launch.preset
    cls = config_class(kind, method)
    if preset not in PRESETS:
        raise ConfigError(unknown_name("preset", preset, PRESETS))
    if not isinstance(config, RunConfig):
        explicit = set(config)
        config = build(kind, method, str(config.get("dataset", "digits")), preset, config)
    elif isinstance(config, cls):
        explicit = set(changes_of(kind, method, preset, config))
    else:
        raise ConfigError(f"A run of kind {kind} needs a {cls.__name__}, got a {type(config).__name__}; build it with "
                          "engine.configuring.build.")
    check_config(kind, config)
    if inherits:
        _refuse_inert(config, explicit)
    admission.check_present(config)
    admission.check_inherited(runs, config)
    above = admission.check_parent(runs, kind, config, launch.parent)
    if above and inherits:
        config = inherited(above, config, explicit)
    configs = [(kind, config), *followers(kind, config, method, preset, launch.then, launch.then_changes)]
    for position, (_, one) in enumerate(configs):
        admission.check_devices(runs, one)
        admission.check_against(runs, one, None if position else launch.parent)
    return configs


def _refuse_inert(config: RunConfig, explicit: Collection[str]) -> None:
    """Reject each radius or step size that the user has chosen for a norm other than the norm of the attack.

    Raises:
        ConfigError: a chosen setting would have no effect.
    """
    if not isinstance(config, AttackConfig) or config.against:
        return
    if ignored := sorted(set(explicit) & config.inert()):
        instead = "epsilon and step_size" if config.norm == "Linf" else "epsilon_l2 and step_size_l2"
        raise ConfigError(problems={name: f"{name} has no effect on attacks in the norm {config.norm}; leave it out, or set "
                                          f"{instead} instead." for name in ignored})


def _records(runs: Path, launches: Sequence[Launch],
             chains: Sequence[Sequence[tuple[str, RunConfig]]]) -> tuple[list[dict[str, Any]], list[list[int]]]:
    """Return the content of run.json for each run of a batch. Runs that several chains share occur once.

    Args:
        runs: folder of all runs.
        launches: the chains.
        chains: (kind, configuration) of each run of each chain.

    Returns:
        records: content of run.json for each run, parents first.
        places: for each chain, the positions of its runs in `records`.
    """
    created, origin = time.time(), provenance.describe()
    records: list[dict[str, Any]] = []
    places: list[list[int]] = []
    known: dict[object, int] = {}
    for launch, configs in zip(launches, chains, strict=True):
        before = RunFolder(runs, launch.parent).read_run() if launch.parent else None
        chain: list[int] = []
        for position, (kind, config) in enumerate(configs):
            same = (kind, launch.method, launch.preset, before and before["id"], config.model_dump_json())
            if same not in known:
                known[same] = len(records)
                # The times differ by a millisecond, so that sorting by time keeps the order of the batch.
                records.append(_record(runs, launch, configs[position:], before, created + len(records) * 1e-3,
                                       [record["id"] for record in records]) | origin)
            chain.append(known[same])
            before = records[known[same]]
        for position, place in enumerate(chain):
            of_chain = records[place]["children_of_chain"]
            of_chain += [one for later in chain[position + 1:] if (one := records[later]["id"]) not in of_chain]
        places.append(chain)
    return records, places


def _record(runs: Path, launch: Launch, configs: Sequence[tuple[str, RunConfig]], before: Mapping[str, Any] | None,
            created: float, taken: Collection[str]) -> dict[str, Any]:
    """Return the content of run.json for the first run in `configs`, without the ids of its followers.

    Args:
        runs: folder of all runs.
        launch: the chain that the run belongs to.
        configs: (kind, configuration) of the run and of its followers.
        before: content of the parent's run.json; None without a parent.
        created: time of the launch in unix seconds.
        taken: ids that other runs of the batch have.
    """
    (kind, config), *following = configs
    method, preset, parent = launch.method, launch.preset, str(before["id"]) if before else None
    config, size = matched(runs, config, parent) if isinstance(config, RetrainConfig) else (config, "")
    name, title = _name_and_title(runs, kind, config, method, preset, before)
    title = f"{title}, {size}" if size else title
    first = kind == launch.kind
    changed = {other: {setting: value for setting, value in of_other if setting in launch.then_changes.get(other, {})}
               for other, of_other in following} if first else {}
    command = command_of(kind, method, preset, config.dataset, changes_of(kind, method, preset, config), parent=parent, runs=runs,
                         then=[other for other, _ in following] if first else (), then_changes=changed)
    return {"schema": SCHEMA, "id": free_id(runs, name if kind == "search" else kind, config.dataset, created, taken),
            "kind": kind, "method": name, "preset": preset, "title": title, "config": config.model_dump(mode="json"),
            "parent": parent, "children_of_chain": [], "created": created, "command": printable(command)}


def _name_and_title(runs: Path, kind: str, config: RunConfig, method: str | None, preset: str,
                    before: Mapping[str, Any] | None) -> tuple[str, str]:
    if kind == "search":
        entry = METHODS[method or ""]
        return entry.name, ", ".join([entry.title, *deviations(kind, method, preset, config)])
    if isinstance(config, RetrainConfig) and config.names_its_network:
        name = trained_network(runs, config, None).title
        arrangement = admission.searched_arrangement(runs, config, before)
        return name, ", ".join([name, *arrangement, *deviations(kind, method, preset, config)])
    assert before is not None
    return str(before.get("method", "")), ", ".join([str(before.get("title", "")), *deviations(kind, method, preset, config)])
