"""The run folder `runs/<id>/`: the paths of its files, readers for the small files, and the rules for run ids.

The folder is the only source of truth about a run. Each file has one writer:

    run.json                   the page or command line that launches the run, once
    environment.json           the worker, at its first start
    process.json, exit.json    the supervisor
    control/                   the page or command line: requests as files (stop, force, resume)
    marks.json                 the page or command line: tags, note, archived
    events.jsonl, checkpoint/, results/, log.txt, heartbeat     the worker
    worker.lock                locked by the worker as long as it runs
    pulled.json                `engine.store`, in a copy of a run that another machine computes, whose files it writes

Imports no torch.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from engine.errors import RunError
from engine.files import atomic_write_json, entry_that_is_no_plain_file, open_to_read
from engine.run.documents import misfit
from engine.run.values import flaw_in_json, printable

SCHEMA = 1
ID_PATTERN = re.compile(r"[0-9]{8}-[0-9]{4}-[a-z0-9-]+-[0-9a-f]{4}")
REMEDY = "restore the file or move the run's folder away"


def check_id(run_id: object) -> str:
    """Return `run_id` if it has the form of a run id. Such an id cannot point outside the runs folder.

    Raises:
        RunError: `run_id` has another form, for example "../x".
    """
    if not isinstance(run_id, str) or not ID_PATTERN.fullmatch(run_id):
        raise RunError(f"A run id looks like 20261120-0915-arnas-digits-7f3a, got {str(run_id)!r}; "
                       "`rampart runs` lists the ids.")
    return run_id


def new_id(name: str, dataset: str, created: float) -> str:
    """Return a new run id, made of date, minute, name, dataset and four random hex digits. Ids sort by time.

    Args:
        name: search method for a search, kind of run for any other run.
        dataset: name of the dataset in the registry.
        created: time of the launch in unix seconds.
    """
    words = re.sub(r"[^a-z0-9]+", "-", f"{name}-{dataset}".lower()).strip("-")
    stamp = time.strftime("%Y%m%d-%H%M", time.localtime(created))
    return f"{stamp}-{words}-{secrets.token_hex(2)}"


def free_id(runs: Path, name: str, dataset: str, created: float, taken: Collection[str] = ()) -> str:
    """Return a new run id that differs from the ids of all runs in the folder `runs`, and from the ids in `taken`."""
    while (run_id := new_id(name, dataset, created)) in taken or (runs / run_id).exists():
        pass
    return run_id


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in the file `path`, or None if the file does not exist.

    Raises:
        RunError: the file cannot be read, is not a JSON object, or holds a value or a field that is not allowed
            (`engine.run.values`, `engine.run.documents`).
    """
    try:
        with open_to_read(path) as file:
            data = file.read()
        value = json.loads(data)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as problem:
        raise _unusable(path, f"must be a JSON object and cannot be read ({problem})") from None
    if not isinstance(value, dict):
        raise _unusable(path, f"must be a JSON object, got {type(value).__name__}")
    if flaw := flaw_in_json(data, value):
        raise _unusable(path, f"must be as it was written, and {flaw}")
    if wrong := misfit(path.name, value, _told(path)):
        raise RunError(f"{wrong}; {REMEDY}.")
    return value


def _unusable(path: Path, what: str) -> RunError:
    return RunError(f"{_told(path)} {what}; {REMEDY}.")


def _told(path: Path) -> str:
    """Format a path for messages, such as "results/genotype.json of run 20261120-0915-arnas-digits-7f3a"."""
    if path.parent.name in ("control", "results"):
        return f"{path.parent.name}/{path.name} of run {path.parents[1].name}"
    return f"{path.name} of run {path.parent.name}"


def damage(run_id: str, problem: Exception) -> str:
    """Return a sentence about an unforeseen error that the files of a run have caused.

    The run then counts as failed for this reason, and all other runs can still be shown.
    """
    told = printable(f"{type(problem).__name__}: {problem}")
    return f"The files of run {run_id} must be as they were written, and one has changed ({told:.200}); {REMEDY}."


def _check_names(run_id: str, run: Mapping[str, Any]) -> None:
    """Check the ids in a run.json, whose fields `read_json` has checked, so that code that uses them needs no checks.

    Args:
        run_id: name of the run's folder. The id in run.json must be the same.
        run: content of run.json.

    Raises:
        RunError: an id is wrong.
    """
    where, wrong = f"run.json of run {run_id}", ""
    if run["id"] != run_id:
        wrong = f"id in {where} must be {run_id!r}, as its folder, got {run['id']!r:.60}"
    elif run.get("parent") is not None and check_id(run["parent"]) == run_id:
        wrong = f"parent in {where} must be another run, got the run itself"
    if wrong:
        raise RunError(f"{wrong}; {REMEDY}.")


class _Place:
    """The path of a file or folder of a run. It is built at the first use, because a look at 10,000 runs needs few of them."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __set_name__(self, owner: type, attribute: str) -> None:
        self._attribute = attribute

    def __get__(self, folder: RunFolder, owner: type) -> Path:
        path = folder.__dict__[self._attribute] = folder.path / self._name
        return path


class RunFolder:
    """The paths of a run's files, and readers for its small files."""

    run_json = _Place("run.json")
    environment_json = _Place("environment.json")
    process_json = _Place("process.json")
    exit_json = _Place("exit.json")
    control = _Place("control")
    events = _Place("events.jsonl")
    checkpoint = _Place("checkpoint")
    results = _Place("results")
    ended_json = _Place("results/ended.json")
    log = _Place("log.txt")
    heartbeat = _Place("heartbeat")
    lock = _Place("worker.lock")
    pulled_json = _Place("pulled.json")

    def __init__(self, runs: Path | str, run_id: str) -> None:
        """Set the paths of a run's files. The folder does not have to exist.

        Args:
            runs: folder of all runs.
            run_id: id of the run.

        Raises:
            RunError: `run_id` does not have the form of a run id.
        """
        self.runs = Path(runs)
        self.id = check_id(run_id)
        self.path = self.runs / self.id

    def exists(self) -> bool:
        """Return True if the run exists, that is, if its folder contains a run.json."""
        return self.run_json.exists()

    def read_run(self) -> dict[str, Any]:
        """Return the content of run.json.

        Raises:
            RunError: there is no such run, or its run.json is missing, cannot be read or is not valid.
        """
        run = read_json(self.run_json)
        if run is None and self.path.is_dir():
            raise RunError(f"run.json of run {self.id} is missing; {REMEDY}.")
        if run is None:
            raise RunError(f"There is no run {self.id!r} in {self.runs}; `rampart runs` lists the ids.")
        _check_names(self.id, run)
        return run

    def write_json(self, path: Path, value: Any) -> None:
        """Replace one of the run's JSON files atomically. Nothing is written through symbolic links.

        Raises:
            OSError: the file cannot be written.
        """
        atomic_write_json(path, value, inside=self.path)

    def check_files(self) -> None:
        """Check that the folder holds only plain files and folders, so that a worker writes nowhere else and waits for nothing.

        Raises:
            RunError: the folder or something in it is a symbolic link, a pipe or a device, or cannot be listed, or a file to
                which a worker appends is a folder.
        """
        try:
            folders = [path.name for path in (self.events, self.log, self.lock) if path.is_dir()]
            wrong = entry_that_is_no_plain_file(self.path) or (f"{folders[0]} is a folder instead of a file" if folders else "")
        except OSError as problem:
            wrong = f"{problem.filename} cannot be listed ({problem.strerror})"
        if wrong:
            raise RunError(f"The folder of run {self.id} must hold only plain files and folders, and {wrong}; replace it by a "
                           "copy or remove it.")

    def request(self, name: str) -> Path:
        """Return the path of a request file. Such a file is written when the user stops or resumes the run.

        Args:
            name: kind of request: "stop", "force" (kill the worker) or "resume".
        """
        return self.control / name

    def last_lines(self, count: int = 20) -> list[str]:
        """Return the last `count` lines of log.txt that are not blank, in the order of the file.

        Only the last 16 KiB of the file are read.
        """
        try:
            with open_to_read(self.log) as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - 16_384))
                text = file.read().decode(errors="replace")
        except OSError:
            return []
        return [line for line in text.splitlines() if line.strip()][-count:]


def run_ids(runs: Path | str) -> list[str]:
    """Return the ids of all run folders in `runs`, oldest first. Entries whose name is not a run id are ignored.

    Raises:
        RunError: the folder `runs` exists but cannot be listed.
    """
    try:
        with os.scandir(runs) as entries:
            return sorted(entry.name for entry in entries if ID_PATTERN.fullmatch(entry.name))
    except FileNotFoundError:
        return []
    except OSError as problem:
        raise RunError(f"The runs folder must be a readable folder, {runs} is not ({problem.strerror}); "
                       "choose another one (--runs DIR).") from None
