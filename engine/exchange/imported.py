"""Files of public code become finished runs, so that log, pages, retraining and attack take them like any other.

An imported run says only what its file says: its configuration holds the few facts that are known, it has no losses and no
accuracies, and it is marked with the file's name and hash. A folder appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.architecture.genotype import Genotype
from engine.config import RunConfig
from engine.data.catalogue import DATASETS
from engine.errors import RunError
from engine.exchange.reading import Epoch, epochs_in, genotype_in, read_text, unreadable
from engine.run import admission, provenance
from engine.run.events import EventWriter
from engine.run.folder import SCHEMA, RunFolder, atomic_write_json, free_id, sync_directory

METHOD = PRESET = "imported"  # what the log shows where a run of ours has its method and preset


@dataclass(frozen=True)
class Origin:
    """The file a run was imported from.

    Attributes:
        file: its name, without folders.
        sha256: of its content.
        form: what it was read as: "genotype", "log", "curves" or "checkpoint".
        command: the line that imported it.
    """

    file: str
    sha256: str
    form: str
    command: str


def origin_of(path: Path, form: str, command: str) -> Origin:
    """Reads the whole file once for its hash.

    Raises:
        ConfigError: it cannot be read, or is no file with an end (a device, a pipe).
    """
    if path.exists() and not path.is_file():
        raise unreadable(path, OSError(errno.EINVAL, "Not a file" if not path.is_dir() else os.strerror(errno.EISDIR)))
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as problem:
        raise unreadable(path, problem) from None
    return Origin(path.name, digest.hexdigest(), form, command)


def import_genotype(runs: Path, path: Path, origin: Origin, *, name: str | None = None, title: str | None = None,
                    dataset: str | None = None) -> str:
    """A genotype of a file as a finished search without epochs, which a retraining can follow. Returns the run's id.

    Args:
        runs: folder of all runs.
        path: JSON, or Python with `NAME = Genotype(...)`.
        origin: see `origin_of`.
        name: which one, where the file has several.
        title: what to call the run; None for the genotype's name, else its hash.
        dataset: the one it was searched on, if that is one of ours.

    Raises:
        ConfigError, GenotypeError, RunError: a sentence; nothing was written then.
    """
    found_name, genotype = genotype_in(read_text(path), name)
    return _search(runs, [Epoch(0, genotype)], origin, title or found_name or f"genotype {genotype.hash}", dataset)


def import_log(runs: Path, path: Path, origin: Origin, *, title: str | None = None, dataset: str | None = None) -> str:
    """The log.txt of a search as a finished search with a genotype per epoch; its result is the last. See `import_genotype`.

    Raises:
        ConfigError, GenotypeError, RunError: a sentence; nothing was written then.
    """
    return _search(runs, epochs_in(read_text(path)), origin, title or f"search of {origin.file}", dataset)


def _search(runs: Path, epochs: list[Epoch], origin: Origin, title: str, dataset: str | None) -> str:
    config = check_dataset(dataset)
    with new_run(runs, "search", title, config, origin) as (folder, events):
        for one in epochs:
            events.write("genotype", step=one.epochs, epoch=one.epochs, genotype=one.genotype.to_dict(), hash=one.genotype.hash)
        last = epochs[-1]
        if origin.form != "genotype":
            events.write("progress", step=last.epochs, epoch=last.epochs, phase="search", done=last.epochs, total=last.epochs,
                         unit="epochs", passes=0, detail="")
        write_result(folder, last.genotype)
        events.write("finished", step=last.epochs, epoch=last.epochs)
    return folder.id


def check_dataset(dataset: str | None) -> dict[str, Any]:
    """What the configuration of an imported search says of its dataset.

    Raises:
        ConfigError: an unknown name.
    """
    if dataset is None:
        return {}
    DATASETS[dataset]
    return {"dataset": dataset}


def write_result(folder: RunFolder, genotype: Genotype) -> None:
    """results/genotype.json, which a retraining reads."""
    folder.results.mkdir()
    atomic_write_json(folder.results / "genotype.json", genotype.to_dict())


@contextlib.contextmanager
def new_run(runs: Path, kind: str, title: str, config: Mapping[str, Any],
            origin: Origin) -> Iterator[tuple[RunFolder, EventWriter]]:
    """A folder to fill with events and results; on leaving it is finished and appears in `runs`, on an error nothing does.

    Args:
        runs: folder of all runs; made when it is not there.
        kind: "search" or "retrain".
        title: the run is called this and "imported".
        config: the settings that are known.
        origin: where it comes from.

    Raises:
        RunError: it cannot be written.
    """
    created = time.time()
    draft = runs / f".draft-import-{secrets.token_hex(4)}"
    folder = RunFolder(draft, free_id(runs, METHOD if kind == "search" else kind, str(config.get("dataset", "")), created))
    try:
        runs.mkdir(parents=True, exist_ok=True)
        admission.check_disk(runs)
        folder.control.mkdir(parents=True)
        atomic_write_json(folder.run_json, _record(folder.id, kind, title, config, origin, created))
        events = EventWriter(folder.events, folder.id, 1)
        try:
            note = f"Imported from {origin.file} (SHA-256 {origin.sha256}), read as {origin.form}."
            folder.log.write_text(note + "\n", encoding="utf-8")
            events.write("alert", step=0, epoch=0, level="info", text=note)
            yield folder, events
        finally:
            events.close()
        # No process ever ran: these two say that nothing is to be started.
        atomic_write_json(folder.process_json, {"attempt": 1, "started": created, "device": "", "boot_id": ""})
        atomic_write_json(folder.exit_json, {"attempt": 1, "code": 0, "status": "finished", "cause": "", "ended": created,
                                             "last_lines": []})
        folder.path.rename(runs / folder.id)
        sync_directory(runs)
    except OSError as problem:
        raise RunError(f"The imported run could not be written to {runs} ({problem.strerror or problem}); nothing was imported: "
                       "free some space, make the folder writable or choose another one (--runs DIR).") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _record(run_id: str, kind: str, title: str, config: Mapping[str, Any], origin: Origin, created: float) -> dict[str, Any]:
    """run.json."""
    return {
        "schema": SCHEMA, "id": run_id, "kind": kind, "method": METHOD, "preset": PRESET, "title": f"{title}, imported",
        "config": dict(config), "parent": None, "children_of_chain": [],
        # Of our splits, for whatever follows; nothing is known of those the file comes from.
        "split_seed": RunConfig.model_fields["split_seed"].default,
        "created": created, "command": origin.command,
        "imported": {"file": origin.file, "sha256": origin.sha256, "as": origin.form},
        **provenance.describe()}
