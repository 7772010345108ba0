"""What the page and the command line ask for: new runs, stop, resume, and what is going on. Files only; imports no torch.

A request is a file. Nothing here waits for it to be fulfilled: the supervisor (started when there is none) does that, and
`status` says what is true at the moment it is asked.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.command import ROOT, program
from engine.config import PRESETS, RetrainConfig, RunConfig, parse_pixels, pixels_text
from engine.config.run import KINDS
from engine.configuring import build, config_class, deviations, preset_values
from engine.errors import ConfigError, RunError
from engine.registry import unknown_name
from engine.run import admission, provenance
from engine.run.folder import (
    SCHEMA,
    RunFolder,
    atomic_write_json,
    check_id,
    free_id,
    read_json,
    run_ids,
    sync_directory,
)
from engine.run.matching import matched
from engine.run.state import RunState, compute, is_alive
from engine.search.methods.registry import METHODS

# Settings that a chain's children take over from the run they follow, beside the dataset. Threads only where they were chosen:
# a preset's own number suits one kind of run.
INHERITED = ("seed", "device")
INHERITED_IF_CHOSEN = ("threads",)
MOST_DRAWS = 100
_started: list[subprocess.Popen[bytes]] = []


def runs_root(path: str | Path | None = None) -> Path:
    """The folder of all runs: `path`, else the environment variable RAMPART_RUNS, else ./runs."""
    return Path(path or os.environ.get("RAMPART_RUNS") or "runs").absolute()


def status(runs: Path | str, run_id: str) -> RunState:
    """The state of a run, computed now.

    Raises:
        RunError: there is no such run.
    """
    return compute(RunFolder(runs, run_id))


def queue(runs: Path | str) -> list[dict[str, Any]]:
    """Runs that wait, in the order in which they will start: [{"id", "kind", "title", "cause"}]."""
    waiting = []
    order = _order(Path(runs))
    for run_id in run_ids(runs):
        folder = RunFolder(runs, run_id)
        if folder.exists():
            state = compute(folder)
            if state.status == "queued":
                run = folder.read_run()
                place = (order.index(run_id) if run_id in order else len(order), run.get("created", 0.0))
                waiting.append((place, {"id": run_id, "kind": run["kind"], "title": run.get("title", ""), "cause": state.cause}))
    return [entry for _, entry in sorted(waiting, key=lambda pair: pair[0])]


def check_config(kind: str, config: RunConfig) -> None:
    """Refuses what `submit` would refuse of a configuration alone, before anything is asked for.

    Raises:
        ConfigError, GenotypeError: what was expected, what came, what to do.
    """
    admission.check_config(kind, config)


def submit(runs: Path | str, kind: str, config: RunConfig | Mapping[str, Any], *, method: str | None = None,
           preset: str = "quick", parent: str | None = None, then: Sequence[str] = (), key: str | None = None,
           then_changes: Mapping[str, Mapping[str, Any]] | None = None) -> list[str]:
    """Checks a run and its followers, writes their folders, and has them started.

    Args:
        runs: folder of all runs; made when it is not there.
        kind: "search", "retrain" or "attack".
        config: a complete configuration, or changes laid over the preset's values.
        method: search method; ignored by the other kinds.
        preset: name of the preset the configuration started from; followers are built from the same one.
        parent: id of the run this one follows (a search for retrain, a retrain for attack).
        then: kinds that follow, for example ("retrain", "attack").
        key: a token of the click: the same token launches once and returns the same ids.
        then_changes: changes of a follower's configuration, by kind.

    Returns:
        The ids: this run, then its followers.

    Raises:
        ConfigError, DataError, GenotypeError, RunError: a sentence; nothing was written then.
    """
    runs = Path(runs).absolute()
    try:
        runs.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise RunError(f"The runs folder must be a folder that can be made and written, {runs} is not ({problem.strerror}); "
                       "choose another one (--runs DIR).") from None
    configs = _check(runs, kind, config, method, preset, parent, tuple(then), then_changes or {})
    admission.check_disk(runs, max(admission.checkpoint_bytes(one) for _, one in configs))
    for _ in range(MOST_DRAWS):
        try:
            ids = _publish(runs, _records(runs, configs, method, preset, parent), key)
        except FileExistsError:
            continue  # another request has drawn the same at the same time
        ensure_supervisor(runs)
        return ids
    raise RunError(f"An id must be free for the run, and {MOST_DRAWS} that were drawn are taken in {runs}; wait a minute.")


def request_stop(runs: Path | str, run_id: str) -> None:
    """Asks a run to abandon its step, write a checkpoint and exit; a queued run is taken out of the queue.

    Raises:
        RunError: no such run, or it does not run.
    """
    _ask_to_stop(runs, run_id)


def force_stop(runs: Path | str, run_id: str) -> None:
    """The second press: the supervisor kills the run's whole process group.

    Raises:
        RunError: no such run, or it does not run.
    """
    folder, state = _ask_to_stop(runs, run_id)
    if state.status in ("running", "stopping"):
        _ask(folder, "force", {"attempt": state.attempt})
    ensure_supervisor(runs)


def resume(runs: Path | str, run_id: str) -> None:
    """Asks for a new attempt that continues from the last checkpoint.

    Raises:
        RunError: no such run, or it is queued, running or finished.
    """
    folder, state = _state_for(runs, run_id)
    if state.status == "failed" and not state.can_resume:  # nothing can be read of it; the cause says what and why
        raise RunError(state.cause)
    if not state.can_resume:
        raise RunError(f"Only a stopped or failed run can be resumed, {run_id} is {state.status}; nothing to do.")
    folder.read_run()
    admission.check_disk(folder.runs)
    if state.attempt:
        _ask(folder, "resume", {"after_attempt": state.attempt})
    # Last, since without it the run is queued again.
    folder.request("force").unlink(missing_ok=True)
    folder.request("stop").unlink(missing_ok=True)
    ensure_supervisor(runs)


def ensure_supervisor(runs: Path | str) -> None:
    """Starts the supervisor of `runs` as a detached process unless one is alive. Returns at once; any number may call it."""
    runs = Path(runs).absolute()
    (runs / "control").mkdir(parents=True, exist_ok=True)
    _started[:] = [process for process in _started if process.poll() is None]
    if is_alive(_supervisor_record(runs)):
        return
    with (runs / "supervisor.log").open("ab") as log:
        # Two callers may start two: the file lock lets one of them live.
        _started.append(subprocess.Popen(
            [sys.executable, "-m", "engine.run.supervisor", "--runs", str(runs)], stdin=subprocess.DEVNULL, stdout=log,
            stderr=subprocess.STDOUT, start_new_session=True, cwd=Path(__file__).resolve().parents[1]))


def supervisor_pid(runs: Path | str) -> int | None:
    """Process id of the living supervisor of `runs`, None when there is none."""
    record = _supervisor_record(Path(runs))
    return int(record["pid"]) if is_alive(record) else None


def command_of(kind: str, method: str | None = None, preset: str = "quick", dataset: str = "digits",
               changes: Mapping[str, Any] | None = None, then: Sequence[str] = (), parent: str | None = None,
               runs: Path | str | None = None) -> str:
    """The line to paste into a shell that asks for exactly the same run.

    Args:
        changes: only what differs from the preset's values.
        runs: named in the line unless it is `runs` in the project's root.
    """
    words = [kind]
    if kind == "search" and method:
        words += ["--method", method]
    words += ["--dataset", dataset, "--preset", preset]
    if parent:
        words += ["--parent", parent]
    for name, value in (changes or {}).items():
        if name != "dataset":
            words += _flag(name, value)
    if then:
        words += ["--then", ",".join(then)]
    # The shell it is pasted into need not know our environment variable.
    if runs is not None and Path(runs).absolute() != ROOT / "runs":
        words += ["--runs", str(runs)]
    return f"{program()} {shlex.join(words)}"


def changes_of(kind: str, method: str | None, preset: str, config: RunConfig) -> dict[str, Any]:
    """What a configuration changes of its preset's values, by setting name."""
    reference = preset_values(kind, method, config.dataset, preset)
    cls = config_class(kind, method)
    return {name: value for name, value in config.model_dump().items()
            if name in cls.model_fields and value != reference[name]}


def _flag(name: str, value: Any) -> list[str]:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    if isinstance(value, (list, tuple)):
        return [f"--{flag}", *map(str, value)]
    if isinstance(value, float) and name in ("epsilon", "step_size") and parse_pixels(pixels_text(value)) == value:
        return [f"--{flag}", pixels_text(value)]
    return [f"--{flag}", str(value)]


def _state_for(runs: Path | str, run_id: str) -> tuple[RunFolder, RunState]:
    folder = RunFolder(Path(runs).absolute(), run_id)
    return folder, compute(folder, with_parent=False)


def _ask_to_stop(runs: Path | str, run_id: str) -> tuple[RunFolder, RunState]:
    """Writes the request; the run and its state before it. Raises RunError when there is nothing to stop."""
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
            folder.request(name).touch()  # only its being there counts, and an empty file fits on a full disk
    except OSError as problem:
        raise RunError(f"The request to {name} must be written to {folder.control} and could not be ({problem.strerror}); "
                       "free some space or make the folder writable, and ask again.") from None


def _order(runs: Path) -> list[str]:
    """Ids in the order in which the supervisor means to start them; empty when its note cannot be read."""
    try:
        order = (read_json(runs / "queue.json") or {}).get("order")
    except RunError:
        return []
    return order if isinstance(order, list) else []


def _supervisor_record(runs: Path) -> dict[str, Any]:
    try:
        return read_json(runs / "control" / "supervisor.json") or {}
    except RunError:
        return {}


def _check(runs: Path, kind: str, config: RunConfig | Mapping[str, Any], method: str | None, preset: str,
           parent: str | None, then: tuple[str, ...], then_changes: Mapping[str, Mapping[str, Any]],
           ) -> list[tuple[str, RunConfig]]:
    """Validated (kind, configuration) of the run and of each follower."""
    cls = config_class(kind, method)
    if preset not in PRESETS:
        raise ConfigError(unknown_name("preset", preset, PRESETS))
    following = KINDS[KINDS.index(kind) + 1:]
    if then != following[:len(then)]:
        raise ConfigError(f"After a run of kind {kind} can follow {' then '.join(following) or 'nothing'}, "
                          f"got {', '.join(then)}; give --then {','.join(following) or 'nothing'} or leave it out.")
    if not isinstance(config, RunConfig):
        config = build(kind, method, str(config.get("dataset", "digits")), preset, config)
    elif not isinstance(config, cls):
        raise ConfigError(f"A run of kind {kind} needs a {cls.__name__}, got a {type(config).__name__}; build it with "
                          "engine.configuring.build.")
    configs = [(kind, config)]
    by_preset = build(kind, method, config.dataset, preset)
    shared = {name: getattr(config, name) for name in INHERITED}
    shared |= {name: getattr(config, name) for name in INHERITED_IF_CHOSEN if getattr(config, name) != getattr(by_preset, name)}
    for follower in then:
        changes = shared | dict(then_changes.get(follower, {}))
        following_config = build(follower, None, config.dataset, preset, changes)
        if isinstance(following_config, RetrainConfig):
            admission.check_follows(following_config)
            admission.check_arrangement(following_config, config.model_dump())
        configs.append((follower, following_config))
    for of_kind, one in configs:
        check_config(of_kind, one)
    admission.check_present(config)
    admission.check_parent(runs, kind, config, parent)
    return configs


def _records(runs: Path, configs: Sequence[tuple[str, RunConfig]], method: str | None, preset: str,
             parent: str | None) -> list[dict[str, Any]]:
    """run.json of each run of the chain."""
    created, origin = time.time(), provenance.describe()
    above = RunFolder(runs, parent).read_run() if parent else None
    records: list[dict[str, Any]] = []
    for position, (kind, config) in enumerate(configs):
        before = records[-1] if records else above
        parent_id = before["id"] if before else None
        name, title = _name_and_title(runs, kind, config, method, before)
        if isinstance(config, RetrainConfig):
            config, size = matched(runs, config, parent_id)
            title = f"{title}, {size}" if size else title
        changes = changes_of(kind, method, preset, config)
        records.append({
            "schema": SCHEMA, "id": free_id(runs, name if kind == "search" else kind, config.dataset, created), "kind": kind,
            "method": name, "preset": preset, "title": title, "config": config.model_dump(mode="json"), "parent": parent_id,
            "children_of_chain": [],
            # All runs of one lineage share their splits: nothing that was searched or trained on is ever attacked.
            "split_seed": before.get("split_seed", before["config"].get("seed")) if before else config.seed,
            # Later by position, so that sorting by time keeps the chain in order.
            "created": created + position * 1e-3,
            "command": command_of(kind, method, preset, config.dataset, changes, parent=parent_id,
                                  then=[k for k, _ in configs[1:]] if position == 0 else (), runs=runs),
            **origin})
    for position, record in enumerate(records):
        record["children_of_chain"] = [later["id"] for later in records[position + 1:]]
    return records


def _name_and_title(runs: Path, kind: str, config: RunConfig, method: str | None,
                    before: Mapping[str, Any] | None) -> tuple[str, str]:
    if kind == "search":
        entry = METHODS[method or ""]
        return entry.name, ", ".join([entry.title, *deviations(config)])
    if isinstance(config, RetrainConfig) and admission.needs_no_parent(config):
        name = admission.network_title(config)
        return name, ", ".join([name, *admission.searched_arrangement(runs, config, before), *deviations(config)])
    assert before is not None
    return str(before.get("method", "")), ", ".join([str(before.get("title", "")), *deviations(config)])


def _publish(runs: Path, records: Sequence[Mapping[str, Any]], key: str | None) -> list[str]:
    """Writes each folder under a temporary name and renames it; a token that was used returns its ids instead.

    Raises:
        FileExistsError: a run has one of the ids; nothing is left of these then.
        RunError: the folders cannot be written; the same.
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
        # The first run last: until it is there the others cannot start, so that all of it can still be taken back.
        for draft, run_id in reversed([*zip(drafts, ids)]):
            draft.rename(runs / run_id)
            published.append(runs / run_id)
        sync_directory(runs)
        return ids
    except OSError as problem:
        for folder in published:
            shutil.rmtree(folder, ignore_errors=True)
        if claimed and key is not None:  # or the token would go on naming runs that are not its own
            _key_file(runs, key).unlink(missing_ok=True)
        if problem.errno in (errno.EEXIST, errno.ENOTEMPTY):  # a rename never replaces the folder of a run
            raise FileExistsError(problem.errno, problem.strerror) from None
        raise RunError(f"The run could not be written to {runs} ({problem.strerror or problem}); nothing was launched: "
                       "free some space or make the folder writable.") from None
    finally:
        for draft in drafts:
            shutil.rmtree(draft, ignore_errors=True)


def _key_file(runs: Path, key: str) -> Path:
    """Where the ids that a token launched are written."""
    return runs / "control" / "keys" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def _claim(runs: Path, key: str, ids: list[str]) -> list[str] | None:
    """Takes the token for `ids`; the ids of an earlier request with the same token, or None when this is the first."""
    path = _key_file(runs, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    mine = path.parent / f".{secrets.token_hex(8)}"
    mine.write_text(json.dumps({"ids": ids}))
    try:
        for _ in range(2):
            try:
                os.link(mine, path)  # unlike a rename, fails when the name is taken
                return None
            except FileExistsError:
                earlier = (read_json(path) or {}).get("ids", [])
            deadline = time.monotonic() + 2.0
            while time.monotonic() < deadline:
                if earlier and all(RunFolder(runs, run_id).exists() for run_id in earlier):
                    return list(earlier)
                time.sleep(0.02)
            path.unlink(missing_ok=True)  # its owner died before the folders were in place
        raise RunError(f"The launch token {key!r} is taken and its runs are not in {runs}; click Launch again.")
    finally:
        mine.unlink(missing_ok=True)
