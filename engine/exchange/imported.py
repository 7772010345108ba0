"""Make finished runs of files of public code, which the run log, the pages, retraining and attack treat like any other.

An imported run says only what its file says: its configuration holds the few known facts, it has no losses and no accuracies,
and it carries the file's name and hash. A run folder appears whole or not at all.
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
from engine.files import atomic_write_json, sync_directory
from engine.run import admission, provenance
from engine.run.event_kinds import Alert, DerivedGenotype, Finished, Progress
from engine.run.events import EventWriter
from engine.run.folder import SCHEMA, RunFolder, free_id

METHOD = PRESET = "imported"  # shown in place of a method and a preset
_RENAMED = ("The file has the cell names of DSARA's public code: its robust cell was read as accurate (before the second "
            "reduction), its normal cell as robust (after it).")


@dataclass(frozen=True)
class Origin:
    """The file a run was imported from.

    Attributes:
        file: its name, without folders.
        sha256: of its content.
        form: "genotype", "log", "curves" or "checkpoint".
        command: the command line that imported it.
    """

    file: str
    sha256: str
    form: str
    command: str


def origin_of(path: Path, form: str, command: str) -> Origin:
    """Return the origin of a file. Reads the whole file for its hash.

    Raises:
        ConfigError: not readable, or not a regular file (a folder, a device, a pipe).
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
    """Import a genotype as a finished search without epochs, which a retraining can follow. Returns the run's id.

    Args:
        runs: folder of all runs.
        path: JSON, or Python with `NAME = Genotype(...)`.
        origin: of `path`, by `origin_of`.
        name: the genotype to take; needed where the file has several.
        title: of the run; None for the genotype's name in the file, or its hash if it has none.
        dataset: registry name of the dataset it was searched on; None if unknown.

    Raises:
        ConfigError, GenotypeError, RunError: the file does not fit or the run cannot be written; nothing is left behind.
    """
    name_in_file, reading = genotype_in(read_text(path), name)
    return _search(runs, [reading], origin, title or name_in_file or f"genotype {reading.genotype.hash}", dataset)


def import_log(runs: Path, path: Path, origin: Origin, *, title: str | None = None, dataset: str | None = None) -> str:
    """Import the log.txt of a search as a finished search with a genotype per epoch; the last is its result. Returns its id.

    Args and raises as `import_genotype`; without a title the run is named after the file.
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
    """Return the configuration of an imported search: {"dataset": name}, or {} for None.

    Raises:
        ConfigError: an unknown dataset.
    """
    if dataset is None:
        return {}
    DATASETS[dataset]
    return {"dataset": dataset}


def write_result(folder: RunFolder, genotype: Genotype) -> None:
    """Write results/genotype.json, which a retraining reads."""
    folder.results.mkdir()
    atomic_write_json(folder.results / "genotype.json", genotype.to_dict())


@contextlib.contextmanager
def new_run(runs: Path, kind: str, title: str, config: Mapping[str, Any],
            origin: Origin) -> Iterator[tuple[RunFolder, EventWriter]]:
    """Yield a draft folder and its event writer; on success the run appears in `runs` as finished, on an error nothing does.

    Args:
        runs: folder of all runs; created if missing.
        kind: "search" or "retrain".
        title: of the run; ", imported" is appended.
        config: the known settings.
        origin: the imported file.

    Raises:
        RunError: the folder cannot be written.
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
        # No process ever ran: these two files keep the supervisor from starting one.
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
    """Return the content of run.json."""
    return {
        "schema": SCHEMA, "id": run_id, "kind": kind, "method": METHOD, "preset": PRESET, "title": f"{title}, imported",
        "config": dict(config), "parent": None, "children_of_chain": [],
        # For runs that follow. The splits of the imported training are unknown.
        "split_seed": RunConfig.model_fields["split_seed"].default,
        "created": created, "command": origin.command,
        "imported": {"file": origin.file, "sha256": origin.sha256, "as": origin.form},
        **provenance.describe()}
