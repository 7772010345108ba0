"""Files out of an archive or out of the folder it was unpacked to, read into memory; nothing is unpacked to disk.

Names are those inside the archive's one top folder. Archives are read whole and in their order (a compressed one cannot be read
otherwise in reasonable time), members larger than any we know are refused.
"""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from engine.data.dataset import Source
from engine.errors import DataError

LARGEST_MEMBER = 2**29


def locate(source: Source, folder: Path) -> Path | None:
    """Where a source lies in `folder`: the file itself, or the folder it unpacks to (which may be `folder` itself)."""
    if (folder / source.file).is_file():
        return folder / source.file
    if source.unpacked and (folder / source.unpacked).is_dir():
        return folder / source.unpacked
    return folder if source.unpacked and folder.name == source.unpacked and folder.is_dir() else None


def read_files(place: Path, names: Iterable[str]) -> dict[str, bytes]:
    """The content of each named file of a folder or of a .tar.gz archive.

    Raises:
        DataError: a file is missing, or the archive cannot be read.
    """
    names = tuple(names)
    try:
        found = _of_folder(place, names) if place.is_dir() else _of_tar(place, names)
    except (OSError, EOFError, tarfile.TarError, zlib.error) as problem:
        raise DataError(f"{place} must be readable, and is not ({problem}); restore it.") from None
    missing = [name for name in names if name not in found]
    if missing:
        raise DataError(f"{place} must hold {', '.join(names)}, and lacks {', '.join(missing)}; restore it.")
    return found


class Pictures:
    """Many small files of a folder or of a .zip archive, one at a time.

    Example:
        with opened(place) as files:
            files.names(), files.read("wnids.txt")
    """

    def __init__(self, place: Path, archive: zipfile.ZipFile | None) -> None:
        """archive: None when `place` is a folder."""
        self.place, self._archive = place, archive
        self._members: dict[str, zipfile.ZipInfo] = {}
        if archive is not None:
            self._members = {_inside(info.filename): info for info in archive.infolist() if not info.is_dir()}

    def names(self) -> list[str]:
        """All files, in the order of their names."""
        if self._archive is not None:
            return sorted(self._members)
        return sorted(path.relative_to(self.place).as_posix() for path in self.place.rglob("*") if path.is_file())

    def read(self, name: str) -> bytes:
        """The content of one file.

        Raises:
            DataError: it is not there or cannot be read.
        """
        try:
            if self._archive is None:
                return (self.place / name).read_bytes()
            info = self._members[name]
            if info.file_size > LARGEST_MEMBER:
                raise DataError(f"{name} in {self.place} must have at most {LARGEST_MEMBER} bytes, got {info.file_size}; "
                                "restore it.")
            return self._archive.read(info)
        except KeyError:
            raise DataError(f"{self.place} must hold {name}, and does not; restore it.") from None
        except (OSError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as problem:
            raise DataError(f"{name} in {self.place} must be readable, and is not ({problem}); restore it.") from None


@contextmanager
def opened(place: Path) -> Iterator[Pictures]:
    """The files of a folder or of a .zip archive.

    Raises:
        DataError: it is no archive.
    """
    if place.is_dir():
        yield Pictures(place, None)
        return
    try:
        archive = zipfile.ZipFile(place)
    except (OSError, zipfile.BadZipFile) as problem:
        raise DataError(f"{place} must be a zip archive, and is not ({problem}); restore it.") from None
    with archive:
        yield Pictures(place, archive)


def _of_folder(place: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    return {name: (place / name).read_bytes() for name in names if (place / name).is_file()}


def _of_tar(place: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with tarfile.open(place, "r|gz") as archive:
        for member in archive:
            name = _inside(member.name)
            if name in names and member.isfile():
                if member.size > LARGEST_MEMBER:
                    raise DataError(f"{name} in {place} must have at most {LARGEST_MEMBER} bytes, got {member.size}; restore it.")
                content = archive.extractfile(member)
                assert content is not None, "it is a file"
                found[name] = content.read()
    return found


def _inside(name: str) -> str:
    """A member's name without the archive's top folder."""
    return "/".join(PurePosixPath(name).parts[1:])
