"""Reading of files into memory, from an archive or from the folder to which it was unpacked.

Nothing is unpacked to disk. File names are relative to the single top folder of the archive. Tar archives are read from beginning
to end, because random access to a compressed archive is too slow. Archived files of more than `LARGEST_MEMBER` bytes are
rejected. No supported dataset has such large files.
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

LARGEST_MEMBER = 2**29  # bytes


def locate(source: Source, folder: Path) -> Path | None:
    """Return the path of an official file of a dataset in `folder`, or None if the file is not there.

    If the file is an archive, the result can also be the folder to which it was unpacked. This folder is in `folder`, or is
    `folder` itself.
    """
    if (folder / source.file).is_file():
        return folder / source.file
    if source.unpacked and (folder / source.unpacked).is_dir():
        return folder / source.unpacked
    return folder if source.unpacked and folder.name == source.unpacked and folder.is_dir() else None


def read_files(place: Path, names: Iterable[str]) -> dict[str, bytes]:
    """Read some files from a folder or a .tar.gz archive, and return {name: content}.

    Args:
        place: the folder or the archive.
        names: names of the files, relative to the folder or to the top folder of the archive.

    Raises:
        DataError: a file is missing or too large, or the folder or archive cannot be read.
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
    """A folder or a .zip archive, from which files are read one at a time.

    Example:
        with opened(place) as files:
            files.names(), files.read("wnids.txt")
    """

    def __init__(self, place: Path, archive: zipfile.ZipFile | None) -> None:
        """Read from the folder at `place`, or from the open zip archive whose path is `place`.

        Args:
            place: path of the folder or of the archive.
            archive: the open archive; None for a folder.
        """
        self.place, self._archive = place, archive
        self._members: dict[str, zipfile.ZipInfo] = {}
        if archive is not None:
            self._members = {_inside(info.filename): info for info in archive.infolist() if not info.is_dir()}

    def names(self) -> list[str]:
        """Return the sorted names of all files, relative to the folder or to the top folder of the archive."""
        if self._archive is not None:
            return sorted(self._members)
        return sorted(path.relative_to(self.place).as_posix() for path in self.place.rglob("*") if path.is_file())

    def read(self, name: str) -> bytes:
        """Return the content of one file.

        Raises:
            DataError: the file is missing, too large or unreadable.
        """
        try:
            if self._archive is None:
                return _bytes_of(self.place / name)
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
    """Open a folder or a .zip archive for reading, and close it when the `with` block ends.

    Raises:
        DataError: `place` is neither a folder nor a zip archive.
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
    return {name: _bytes_of(place / name) for name in names if (place / name).is_file()}


def _bytes_of(path: Path) -> bytes:
    """Return the content of a file. Raise DataError if it has more than `LARGEST_MEMBER` bytes, as a sparse file may."""
    if (size := path.stat().st_size) > LARGEST_MEMBER:
        raise DataError(f"{path} must have at most {LARGEST_MEMBER} bytes, got {size}; restore it.")
    return path.read_bytes()


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
    """Return the name of an archived file without the top folder of the archive."""
    return "/".join(PurePosixPath(name).parts[1:])
