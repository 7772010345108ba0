"""Archives of studies: compressed files with studies and their runs, but no checkpoints. The example study is such an archive.

After an archive is added to a runs folder, the pages show the same as on the original machine. The networks cannot be attacked
again, because an archive has no network weights. Imports no torch.
"""

from __future__ import annotations

import io
import json
import lzma
import re
import secrets
import shutil
import tarfile
import zlib
from collections.abc import Callable, Collection, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any

from engine.acts import act, returned
from engine.errors import ConfigError, RampartError, RunError
from engine.files import sync
from engine.run.folder import ID_PATTERN, RunFolder, read_json, run_ids
from engine.run.state import compute
from engine.study.folder import StudyFolder, study_ids
from engine.study.identity import Runs
from engine.study.names import check_names, check_run_names
from engine.study.planning import Plan

EXAMPLE = Path(__file__).parent / "example.tar.xz"
# Files of a run that an archive contains. Others are checkpoints, logs and requests.
KEPT = ("run.json", "environment.json", "process.json", "exit.json", "events.jsonl", "results/genotype.json",
        "results/network.json", "results/candidates.json", "results/outcomes.parquet", "results/samples.parquet",
        "results/distances.parquet")
LARGEST_BYTES = 2 * 2**30  # of all files in an archive together
LARGEST_END = 1 << 20  # bytes of zeros that end an archive; tar writes up to 10 KiB


def write_archive(runs: Path | str, ids: Sequence[str], target: Path, *,
                  pictured: Collection[int] | None = None) -> int:
    """Write studies and all the runs that they use to an archive, and return the number of runs.

    Paths, process ids and uncommitted changes to the code are left out, because they belong to the machine.

    Args:
        runs: folder of all runs.
        ids: ids of the studies.
        target: the file to write; its name should end with .tar.xz.
        pictured: search seeds whose attack runs keep their stored images, for the gallery; None for all search seeds.

    Raises:
        RunError: a study does not exist, or one of its runs has not ended.
    """
    known = Runs(runs)
    steps = [(cell.cell, step.run) for study_id in ids for cell in Plan(StudyFolder(runs, study_id).read(), known).cells
             for step in cell.steps if step.run]
    taken = {run_id for _, run_id in steps}
    with_images = {run_id for cell, run_id in steps if pictured is None or cell.search_seed in pictured}
    for run_id in sorted(taken):
        if not (state := compute(RunFolder(runs, run_id), with_parent=False)).is_over:
            raise RunError(f"An archive needs studies whose runs have ended, and {run_id} is {state.status}; wait for it or stop "
                           "the study.")
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(3)}")
    try:
        with tarfile.open(temporary, "w:xz", preset=9) as archive:
            for folder in (StudyFolder(runs, study_id) for study_id in ids):
                for path in (folder.file, *sorted(folder.requests.glob("extend-*.json"))):
                    _add(archive, path.relative_to(runs).as_posix(), path.read_bytes())
            for run_id in sorted(taken):
                for name in KEPT:
                    if run_id in with_images or name != "results/samples.parquet":
                        _add_file(archive, RunFolder(runs, run_id).path, name)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return len(taken)


@act("unpack studies", returned)
def read_archive(runs: Path | str, source: Path | IO[bytes], *, example: bool = False) -> list[str]:
    """Add the studies of an archive and their runs to a runs folder, and return the ids of the studies.

    Runs and studies that the folder already contains are not changed.

    Args:
        runs: folder of all runs; created if it does not exist.
        source: the archive.
        example: True to mark the studies and their runs as the example.

    Raises:
        RunError: the file is not an archive of studies, or the disk is full. Nothing is added then.
    """
    root = Path(runs).absolute()
    root.mkdir(parents=True, exist_ok=True)
    draft = root / f".draft-archive-{secrets.token_hex(4)}"
    try:
        ids = _unpack(source, draft, example)
        _add_unpacked(draft, root, ids)
    except ConfigError as refusal:
        raise RunError(f"This archive cannot be unpacked, and nothing was added. {refusal}") from None
    except (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error, OSError, ValueError) as problem:
        raise RunError(f"An archive of a study must be a file that `rampart study pack` wrote, and {_named(source)} cannot be "
                       f"read ({_cause(problem)}); nothing was added.") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return ids


def _add_unpacked(draft: Path, root: Path, ids: Sequence[str]) -> None:
    """Move the unpacked runs and studies from the folder `draft` to the runs folder `root`, unless they exist there.

    Raises:
        OSError, RunError: a folder or file cannot be moved or written. Everything that was added before is removed.
    """
    added: list[Path] = []
    try:
        for run_id in run_ids(draft):
            if not (root / run_id).exists():
                added.append((draft / run_id).rename(root / run_id))
        (root / "studies").mkdir(exist_ok=True)
        for study_id in ids:
            if not (study := StudyFolder(root, study_id)).exists():
                if (requested := draft / "studies" / study_id).is_dir():
                    requested.rename(root / "studies" / study_id)
                added.append(root / "studies" / study_id)
                study.mark("complete")  # runs that are missing are not launched here
                added.append((draft / "studies" / f"{study_id}.json").rename(study.file))
        sync(root)
    except (OSError, RunError):
        for path in added:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        raise


def _named(source: Path | IO[bytes]) -> str:
    return str(source) if isinstance(source, Path) else "this one"


def _cause(problem: Exception) -> str:
    """Return a phrase that says why an archive cannot be read."""
    if isinstance(problem, OSError) and problem.strerror:
        return problem.strerror
    if isinstance(problem, tarfile.ReadError) and "opened successfully" in str(problem):
        return "it is no archive"
    if isinstance(problem, (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error)):
        return "it is damaged or incomplete"
    return " ".join(str(problem).split())[:160]


def open_example(runs: Path | str) -> list[str]:
    """Add the example studies that ship with Rampart to a runs folder, and return their ids.

    Raises:
        RunError: the disk is full.
    """
    return read_archive(runs, EXAMPLE, example=True)


@act("remove example", lambda *_: ())
def remove_example(runs: Path | str) -> None:
    """Remove the example studies and their runs from a runs folder."""
    for study_id in study_ids(runs):
        folder = StudyFolder(runs, study_id)
        try:
            if folder.read().example:
                folder.remove()
        except RampartError:
            continue  # a damaged study is not the example
    for known in Runs(runs).examples():
        shutil.rmtree(RunFolder(runs, known.id).path, ignore_errors=True)


def _unpack(source: Path | IO[bytes], draft: Path, example: bool) -> list[str]:
    """Unpack an archive into a new folder, and return the ids of its studies.

    Args:
        source: the archive.
        draft: the new folder.
        example: True to mark the studies and their runs as the example.
    """
    total = 0
    with tarfile.open(source) if isinstance(source, Path) else tarfile.open(fileobj=source) as archive:
        for member in archive:
            total += member.size
            if not (member.isfile() and _is_expected(member.name)) or total > LARGEST_BYTES:
                raise ValueError(f"it contains {member.name[:80]!r}, which no archive of a study contains")
            path = draft / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            content = archive.extractfile(member)
            assert content is not None  # a regular file
            with path.open("xb") as file:
                shutil.copyfileobj(content, file)
        _check_end(archive)
    ids = study_ids(draft)
    if not ids:
        raise ValueError("it contains no study")
    for study_id in ids:
        check_names(StudyFolder(draft, study_id).read())
    for run_id in run_ids(draft):
        check_run_names(RunFolder(draft, run_id).read_run())
    if example:
        for study_id in ids:
            _mark(StudyFolder(draft, study_id).file, lambda record: record | {"example": True})
        for run_id in run_ids(draft):
            _mark(RunFolder(draft, run_id).run_json, lambda run: run | {"study": {**(run.get("study") or {}), "example": True}})
    return ids


def _check_end(archive: tarfile.TarFile) -> None:
    """Raise ValueError if data follow the last file of an archive. `tarfile` takes a damaged entry for the end of the archive."""
    assert archive.fileobj is not None
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(LARGEST_END + 1).strip(b"\0") or archive.fileobj.read(1):
        raise ValueError("it is damaged")


def _mark(path: Path, changed: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    path.write_text(json.dumps(changed(read_json(path) or {}), indent=2) + "\n", encoding="utf-8")


def _is_expected(name: str) -> bool:
    """Return True if an archive may contain a file with this name. Paths that leave the target folder are not allowed."""
    first, *rest = PurePosixPath(name).parts
    if first == "studies":
        return bool(re.fullmatch(rf"{ID_PATTERN.pattern}(\.json|/extend-\d+\.json)", "/".join(rest)))
    return bool(ID_PATTERN.fullmatch(first)) and "/".join(rest) in KEPT


def _add_file(archive: tarfile.TarFile, folder: Path, name: str) -> None:
    path = folder / name
    if path.is_file():
        content = path.read_bytes()
        _add(archive, f"{folder.name}/{name}", _impersonal(name, content) if name.count("/") == 0 else content)


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def _impersonal(name: str, content: bytes) -> bytes:
    """Return the content of a run's file without paths, process ids and other data about the machine."""
    if not name.endswith(".json"):
        return content
    record = json.loads(content)
    if name == "run.json":
        record["command"] = re.sub(r" --runs \S+", "", str(record.get("command", "")))
        record["code"] = {**(record.get("code") or {}), "diff": ""}
    for field in ("pid", "create_time", "boot_id", "start_ticks", "platform", "job", "ticket", "cluster"):
        record.pop(field, None)
    return (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode()

