"""Reading files from an archive, or from the folder it was unpacked to, into memory; nothing is unpacked to disk.

Names are relative to the archive's single top folder. Tar archives are read sequentially, because random access to a compressed
one is too slow. Members larger than any of our datasets' are refused.
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
    """Return the path of a source in `folder`: the file itself, or the folder it unpacks to (which may be `folder`)."""
    if (folder / source.file).is_file():
        return folder / source.file
    if source.unpacked and (folder / source.unpacked).is_dir():
        return folder / source.unpacked
    return folder if source.unpacked and folder.name == source.unpacked and folder.is_dir() else None


def read_files(place: Path, names: Iterable[str]) -> dict[str, bytes]:
    """Read the named files of a folder or of a .tar.gz archive.

    Raises:
        DataError: a file is missing, or the archive cannot be read.
    """
    names = tuple(names)
    try:
        contents = _of_folder(place, names) if place.is_dir() else _of_tar(place, names)
    except (OSError, EOFError, tarfile.TarError, zlib.error) as problem:
        raise DataError(f"{place} cannot be read ({problem}); restore it.") from None
    missing = [name for name in names if name not in contents]
    if missing:
        raise DataError(f"{place} must hold {', '.join(names)} and lacks {', '.join(missing)}; restore it.")
    return contents


class Pictures:
    """The files of a folder or of a .zip archive, read one at a time.

    Example:
        with opened(place) as files:
            files.names(), files.read("wnids.txt")
    """

    def __init__(self, place: Path, archive: zipfile.ZipFile | None) -> None:
        """Wrap a folder, or an open archive at `place`; `archive` is None for a folder."""
        self.place, self._archive = place, archive
        self._members: dict[str, zipfile.ZipInfo] = {}
        if archive is not None:
            self._members = {_inside(info.filename): info for info in archive.infolist() if not info.is_dir()}

    def names(self) -> list[str]:
        """Return the names of all files, sorted."""
        if self._archive is not None:
            return sorted(self._members)
        return sorted(path.relative_to(self.place).as_posix() for path in self.place.rglob("*") if path.is_file())

    def read(self, name: str) -> bytes:
        """Read one file.

        Raises:
            DataError: the file is missing, too large or cannot be read.
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
            raise DataError(f"{self.place} must hold {name} and does not; restore it.") from None
        except (OSError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as problem:
            raise DataError(f"{name} in {self.place} cannot be read ({problem}); restore it.") from None


@contextmanager
def opened(place: Path) -> Iterator[Pictures]:
    """Open the files of a folder or of a .zip archive.

    Raises:
        DataError: not a zip archive.
    """
    if place.is_dir():
        yield Pictures(place, None)
        return
    try:
        archive = zipfile.ZipFile(place)
    except (OSError, zipfile.BadZipFile) as problem:
        raise DataError(f"{place} must be a zip archive and is not ({problem}); restore it.") from None
    with archive:
        yield Pictures(place, archive)


def _of_folder(place: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    return {name: (place / name).read_bytes() for name in names if (place / name).is_file()}


def _of_tar(place: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    with tarfile.open(place, "r|gz") as archive:
        for member in archive:
            name = _inside(member.name)
            if name in names and member.isfile():
                if member.size > LARGEST_MEMBER:
                    raise DataError(f"{name} in {place} must have at most {LARGEST_MEMBER} bytes, got {member.size}; restore it.")
                content = archive.extractfile(member)
                assert content is not None, "it is a file"
                contents[name] = content.read()
    return contents


def _inside(name: str) -> str:
    """Return a member's name without the archive's top folder."""
    return "/".join(PurePosixPath(name).parts[1:])
