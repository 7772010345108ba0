"""Import of files that public code has written. Each imported file becomes a finished run.

The run log, pages, retrainings and attacks treat an imported run like any other run. An imported run contains only what the file
says. The configuration holds the few settings that are known. There are no losses and no accuracies. The run records the name and
the hash of the file. If an import fails, no run folder remains.
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
from engine.exchange.reading import Reading, epochs_in, genotype_in, read_text, unreadable
from engine.files import atomic_write_json, sync
from engine.run import admission, provenance
from engine.run.documents import SCHEMA
from engine.run.event_kinds import Alert, DerivedGenotype, Finished, Progress
from engine.run.events import EventWriter
from engine.run.folder import RunFolder, free_id
from engine.run.values import printable

METHOD = PRESET = "imported"  # shown instead of the name of a method and of a preset
_RENAMED = ("The file has the cell names of DSARA's public code: its robust cell was read as accurate (before the second "
            "reduction), its normal cell as robust (after it).")


@dataclass(frozen=True)
class Origin:
    """A record of the file from which a run was imported.

    Attributes:
        file: name of the file, without folders.
        sha256: SHA-256 hash of the file's content, in hex.
        form: kind of file: "genotype", "log", "curves" or "checkpoint".
        command: command line that imported the file.
    """

    file: str
    sha256: str
    form: str
    command: str


def origin_of(path: Path, form: str, command: str) -> Origin:
    """Return a record of a file to import. The whole file is read to compute the hash.

    Args:
        path: the file.
        form: kind of file: "genotype", "log", "curves" or "checkpoint".
        command: command line that imports the file.

    Raises:
        ConfigError: the file cannot be read, or is not a regular file but a folder, a device or a pipe.
    """
    if path.exists() and not path.is_file():
        raise unreadable(path, OSError(errno.EINVAL, "Not a file" if not path.is_dir() else os.strerror(errno.EISDIR)))
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
    except OSError as problem:
        raise unreadable(path, problem) from None
    return Origin(printable(path.name), digest.hexdigest(), form, printable(command))


def import_genotype(runs: Path, path: Path, origin: Origin, *, name: str | None = None, title: str | None = None,
                    dataset: str | None = None) -> str:
    """Import a genotype as a finished search without epochs, and return the run's id. The genotype can then be retrained.

    Args:
        runs: folder of all runs.
        path: file with the genotype, as JSON or as Python with `NAME = Genotype(...)`.
        origin: record of the file at `path`, made by `origin_of`.
        name: name of the genotype to import. Required if the file contains several genotypes.
        title: title of the run; None to use the name of the genotype in the file or, if there is no name, the genotype's hash.
        dataset: registry name of the dataset on which the genotype was found; None if unknown.

    Raises:
        ConfigError: the file cannot be read, or the dataset or `name` is unknown.
        GenotypeError: the file contains no valid genotype, or contains several genotypes and `name` is None.
        RunError: the run cannot be written.
    """
    name_in_file, reading = genotype_in(read_text(path), name)
    return _search(runs, [reading], origin, title or name_in_file or f"genotype {reading.genotype.hash}", dataset)


def import_log(runs: Path, path: Path, origin: Origin, *, title: str | None = None, dataset: str | None = None) -> str:
    """Import the log.txt of a search as a finished search, and return the id of the new run.

    The new run has a genotype for each epoch. The last genotype is the result of the search.

    Args:
        runs: folder of all runs.
        path: the log.
        origin: record of the file at `path`, made by `origin_of`.
        title: title of the run; None to name the run after the file.
        dataset: registry name of the dataset on which the search ran; None if unknown.

    Raises:
        ConfigError: the file cannot be read, or the dataset is unknown.
        GenotypeError: the log contains no genotype, an invalid one, or the genotypes of several searches.
        RunError: the run cannot be written.
    """
    return _search(runs, epochs_in(read_text(path)), origin, title or f"search of {origin.file}", dataset)


def _search(runs: Path, readings: list[Reading], origin: Origin, title: str, dataset: str | None) -> str:
    config = check_dataset(dataset)
    with new_run(runs, "search", title, config, origin) as (folder, events):
        if any(one.renamed for one in readings):
            events.write(Alert(level="info", text=_RENAMED), step=0, epoch=0)
        for one in readings:
            events.write(DerivedGenotype(genotype=one.genotype), step=one.epochs, epoch=one.epochs)
        last = readings[-1]
        if origin.form != "genotype":
            events.write(Progress(phase="search", done=last.epochs, total=last.epochs, unit="epochs", detail=""),
                         step=last.epochs, epoch=last.epochs)
        write_result(folder, last.genotype)
        events.write(Finished(), step=last.epochs, epoch=last.epochs)
    return folder.id


def check_dataset(dataset: str | None) -> dict[str, Any]:
    """Check that a dataset exists, and return the settings that record the dataset in an imported search.

    Returns:
        {"dataset": dataset}, or {} if `dataset` is None.

    Raises:
        ConfigError: there is no dataset of this name.
    """
    if dataset is None:
        return {}
    DATASETS[dataset]
    return {"dataset": dataset}


def write_result(folder: RunFolder, genotype: Genotype) -> None:
    """Write a genotype to results/genotype.json in a run's folder, where a retraining reads it."""
    folder.results.mkdir()
    atomic_write_json(folder.results / "genotype.json", genotype.to_dict())


@contextlib.contextmanager
def new_run(runs: Path, kind: str, title: str, config: Mapping[str, Any],
            origin: Origin) -> Iterator[tuple[RunFolder, EventWriter]]:
    """Yield a draft of a run folder, and an event writer for the draft.

    The caller writes to both in the `with` block. When the block ends, the draft becomes a finished run in `runs`. If the block
    raises an exception, the draft is deleted.

    Args:
        runs: folder of all runs; created if missing.
        kind: "search" or "retrain".
        title: title of the run, to which ", imported" is appended.
        config: {name of the setting: value} for the known settings of the run.
        origin: record of the imported file.

    Raises:
        RunError: the run folder cannot be written.
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
            events.write(Alert(level="info", text=note), step=0, epoch=0)
            yield folder, events
        finally:
            events.close()
        # An imported run never had a process. These two files prevent the supervisor from starting one.
        atomic_write_json(folder.process_json, {"attempt": 1, "started": created, "device": "", "boot_id": ""})
        atomic_write_json(folder.exit_json, {"attempt": 1, "code": 0, "status": "finished", "cause": "", "ended": created,
                                             "last_lines": []})
        folder.path.rename(runs / folder.id)
        sync(runs)
    except OSError as problem:
        raise RunError(f"The imported run could not be written to {runs} ({problem.strerror or problem}); nothing was imported: "
                       "free some space, make the folder writable or choose another one (--runs DIR).") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _record(run_id: str, kind: str, title: str, config: Mapping[str, Any], origin: Origin, created: float) -> dict[str, Any]:
    """Return the content of the run.json of an imported run."""
    return {
        "schema": SCHEMA, "id": run_id, "kind": kind, "method": METHOD, "preset": PRESET,
        "title": f"{printable(title)}, imported",
        "config": dict(config), "parent": None, "children_of_chain": [],
        # The splits of the imported training are unknown. Retrainings and attacks that follow this run use this seed for theirs.
        "split_seed": RunConfig.model_fields["split_seed"].default,
        "created": created, "command": origin.command,
        "imported": {"file": origin.file, "sha256": origin.sha256, "as": origin.form},
        **provenance.describe()}
