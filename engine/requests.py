"""Functions with which the dashboard and the command line launch, stop and resume runs and read their state.

Each request writes a file, which the supervisor or the worker acts on later. No function here waits for that. Most requests also
start a supervisor if none is alive. Imports no torch.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.command import changes_of, command_of
from engine.config import PRESETS, AttackConfig, RetrainConfig, RunConfig
from engine.configuring import build, config_class, deviations
from engine.errors import ConfigError, RunError
from engine.files import atomic_write_json, sync_directory
from engine.registry import unknown_name
from engine.run import admission, provenance
from engine.run.chain import followers, inherited
from engine.run.folder import SCHEMA, RunFolder, check_id, free_id, read_json
from engine.run.lineage import trained_network
from engine.run.matching import matched
from engine.run.state import RunState, compute, is_alive
from engine.search.methods.registry import METHODS

MOST_DRAWS = 100
_started: list[subprocess.Popen[bytes]] = []


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
            run in a study are taken as they are. None of them comes from the parent.
        exact: True to take the settings as they are, as for a run in a study.

    Returns:
        The ids of this run and of its followers, in order.

    Raises:
        ConfigError, DataError, GenotypeError, RunError: one of the runs cannot be launched, so none of them has been created.
    """
    runs = Path(runs).absolute()
    try:
        runs.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise RunError(f"The runs folder must be a writable folder, {runs} is not ({problem.strerror}); choose another one "
                       "(--runs DIR).") from None
    then_changes = then_changes or {}
    configs = _check(runs, kind, config, method, preset, parent, then, then_changes, inherits=study is None and not exact)
    admission.check_disk(runs, max(admission.checkpoint_bytes(one) for _, one in configs))
    for _ in range(MOST_DRAWS):
        try:
            records = _records(runs, configs, method, preset, parent, then_changes)
            ids = _publish(runs, [record | ({"study": dict(study)} if study else {}) for record in records], key)
        except FileExistsError:
            continue  # another request drew the same id at the same time
        ensure_supervisor(runs)
        return ids
    raise RunError(f"A run needs a free id, and all {MOST_DRAWS} ids drawn are taken in {runs}; try again in a minute.")


def request_stop(runs: Path | str, run_id: str) -> None:
    """Ask a running run to abandon its step, write a checkpoint and exit. A queued run leaves the queue.

    Raises:
        RunError: there is no such run, or it is neither queued nor running.
    """
    _ask_to_stop(runs, run_id)


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


def resume(runs: Path | str, run_id: str) -> None:
    """Put a stopped or failed run back into the queue for a new attempt, which continues from the last checkpoint.

    Raises:
        RunError: there is no such run, the run is queued, running or finished, or the disk is nearly full.
    """
    folder, state = _state_for(runs, run_id)
    if state.status == "failed" and not state.can_resume:  # the run's files cannot be read, and the cause explains why
        raise RunError(state.cause)
    if not state.can_resume:
        raise RunError(f"Only a stopped or failed run can be resumed, {run_id} is {state.status}; nothing to do.")
    folder.read_run()
    admission.check_disk(folder.runs)
    if state.attempt:
        _ask(folder, "resume", {"after_attempt": state.attempt})
    # The other requests are removed last, because the run is queued again as soon as they are gone.
    folder.request("force").unlink(missing_ok=True)
    folder.request("stop").unlink(missing_ok=True)
    ensure_supervisor(runs)


def ensure_supervisor(runs: Path | str) -> None:
    """Start a supervisor for the folder `runs` as a detached process, unless one is alive.

    The function does not wait for the process, and it can be called at any time.
    """
    runs = Path(runs).absolute()
    (runs / "control").mkdir(parents=True, exist_ok=True)
    _started[:] = [process for process in _started if process.poll() is None]
    if is_alive(_supervisor_record(runs)):
        return
    with (runs / "supervisor.log").open("ab") as log:
        # Two callers may start two supervisors at the same time. The one that does not get the file lock exits.
        _started.append(subprocess.Popen(
            [sys.executable, "-m", "engine.background", "--runs", str(runs)], stdin=subprocess.DEVNULL, stdout=log,
            stderr=subprocess.STDOUT, start_new_session=True, cwd=Path(__file__).resolve().parents[1]))


def supervisor_pid(runs: Path | str) -> int | None:
    """Return the process id of the supervisor of the folder `runs`, or None if no supervisor is alive."""
    record = _supervisor_record(Path(runs))
    return int(record["pid"]) if is_alive(record) else None


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
        folder.control.mkdir(exist_ok=True)
        try:
            atomic_write_json(folder.request(name), {"at": time.time(), **content})
        except OSError:
            if name != "stop":
                raise
            folder.request(name).touch()  # an empty file is also a request and fits on a full disk
    except OSError as problem:
        raise RunError(f"The request to {name} could not be written to {folder.control} ({problem.strerror}); free some space or "
                       "make the folder writable, and try again.") from None


def _supervisor_record(runs: Path) -> dict[str, Any]:
    try:
        return read_json(runs / "control" / "supervisor.json") or {}
    except RunError:
        return {}


def _check(runs: Path, kind: str, config: RunConfig | Mapping[str, Any], method: str | None, preset: str, parent: str | None,
           then: Sequence[str], then_changes: Mapping[str, Mapping[str, Any]], inherits: bool) -> list[tuple[str, RunConfig]]:
    """Check a launch, and return a pair (kind, validated configuration) for the run and for each of its followers.

    The arguments are those of `submit`. In addition, `inherits` is True if the run takes settings over from its parent.
    """
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
    above = admission.check_parent(runs, kind, config, parent)
    if above and inherits:
        config = inherited(above, config, explicit)
    configs = [(kind, config), *followers(kind, config, method, preset, then, then_changes)]
    for position, (_, one) in enumerate(configs):
        admission.check_against(runs, one, None if position else parent)
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


def _records(runs: Path, configs: Sequence[tuple[str, RunConfig]], method: str | None, preset: str, parent: str | None,
             then_changes: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the content of run.json for each run of a launch, that is, for the first run and its followers.

    Args:
        runs: folder of all runs.
        configs: (kind, configuration) of each run, in order.
        method: search method of the first run; None if it is not a search.
        preset: preset of all runs.
        parent: id of the run that the first run follows; None if it follows none.
        then_changes: changed settings of the followers, as {kind: {name of the setting: value}}.
    """
    created, origin = time.time(), provenance.describe()
    above = RunFolder(runs, parent).read_run() if parent else None
    then = tuple(kind for kind, _ in configs[1:])
    changed = {kind: {name: value for name, value in config if name in then_changes.get(kind, {})}
               for kind, config in configs[1:]}
    records: list[dict[str, Any]] = []
    for position, (kind, config) in enumerate(configs):
        before = records[-1] if records else above
        parent_id = before["id"] if before else None
        name, title = _name_and_title(runs, kind, config, method, preset, before)
        if isinstance(config, RetrainConfig):
            config, size = matched(runs, config, parent_id)
            title = f"{title}, {size}" if size else title
        command = command_of(kind, method, preset, config.dataset, changes_of(kind, method, preset, config), parent=parent_id,
                             runs=runs, then=() if position else then, then_changes={} if position else changed)
        records.append({
            "schema": SCHEMA, "id": free_id(runs, name if kind == "search" else kind, config.dataset, created), "kind": kind,
            "method": name, "preset": preset, "title": title, "config": config.model_dump(mode="json"), "parent": parent_id,
            "children_of_chain": [],
            # The times differ by a millisecond, so that sorting by time keeps the order of the chain.
            "created": created + position * 1e-3, "command": command, **origin})
    for position, record in enumerate(records):
        record["children_of_chain"] = [later["id"] for later in records[position + 1:]]
    return records


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


def _publish(runs: Path, records: Sequence[Mapping[str, Any]], key: str | None) -> list[str]:
    """Write the folders of all runs of a launch, and return their ids. Each folder is written under a temporary name first.

    Args:
        runs: folder of all runs.
        records: content of run.json for each run.
        key: text that identifies the launch; None for no such text. If an earlier launch used the same key, nothing is written,
            and the ids of the earlier launch are returned.

    Raises:
        FileExistsError: another run already has one of the ids. All new folders have been removed again.
        RunError: the folders cannot be written. All new folders have been removed again.
    """
    ids = [check_id(record["id"]) for record in records]
    drafts: list[Path] = []
    published: list[Path] = []
    claimed = False
    try:
        for record in records:
            draft = runs / f".draft-{record['id']}-{secrets.token_hex(3)}"
            drafts.append(draft)
            (draft / "control").mkdir(parents=True)
            atomic_write_json(draft / "run.json", record)
        if key is not None:
            earlier = _claim(runs, key, ids)
            if earlier is not None:
                return earlier
            claimed = True
        # The first run is renamed last. No follower can start before it exists, so the whole chain can be removed on an error.
        for draft, run_id in reversed([*zip(drafts, ids)]):
            draft.rename(runs / run_id)
            published.append(runs / run_id)
        sync_directory(runs)
        return ids
    except OSError as problem:
        for folder in published:
            shutil.rmtree(folder, ignore_errors=True)
        if claimed and key is not None:  # frees the key, so that it does not return the ids of runs that do not exist
            _key_file(runs, key).unlink(missing_ok=True)
        if problem.errno in (errno.EEXIST, errno.ENOTEMPTY):  # a rename never replaces the folder of a run
            raise FileExistsError(problem.errno, problem.strerror) from None
        raise RunError(f"The run could not be written to {runs} ({problem.strerror or problem}); nothing was launched: "
                       "free some space or make the folder writable.") from None
    finally:
        for draft in drafts:
            shutil.rmtree(draft, ignore_errors=True)


def _key_file(runs: Path, key: str) -> Path:
    """Return the path of the file that stores the ids of the runs launched with `key` (a text that identifies a launch)."""
    return runs / "control" / "keys" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def _claim(runs: Path, key: str, ids: list[str]) -> list[str] | None:
    """Store `ids` as the ids of the runs launched with `key`, unless an earlier launch has used the key.

    Args:
        runs: folder of all runs.
        key: text that identifies the launch.
        ids: ids of the runs of this launch.

    Returns:
        None if the key is new; otherwise the ids of the earlier launch.

    Raises:
        RunError: the key was used, but the runs of the earlier launch do not exist.
    """
    path = _key_file(runs, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    mine = path.parent / f".{secrets.token_hex(8)}"
    mine.write_text(json.dumps({"ids": ids}))
    try:
        for _ in range(2):
            try:
                os.link(mine, path)  # unlike a rename, this fails if the name is taken
                return None
            except FileExistsError:
                earlier = (read_json(path) or {}).get("ids", [])
            deadline = time.monotonic() + 2.0
            while time.monotonic() < deadline:
                if earlier and all(RunFolder(runs, run_id).exists() for run_id in earlier):
                    return list(earlier)
                time.sleep(0.02)
            path.unlink(missing_ok=True)  # the process that claimed the key died before it wrote the folders
        raise RunError(f"The launch token {key!r} was used, but its runs are not in {runs}; click Launch again.")
    finally:
        mine.unlink(missing_ok=True)
