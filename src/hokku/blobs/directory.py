"""Blobs as files of one directory, readable by their owner only."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path

from hokku.blobs.store import PIECE_BYTES, Blob, BlobEntry, Meter, fresh_name, unavailable
from hokku.protocol.errors import InvalidRequest, NotFound, StorageFull

_UNFINISHED = ".part"  # the ending of what is still being written
_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DirectoryWriter:
    """A temporary file that `keep` renames; see `BlobWriter`."""

    def __init__(self, folder: Path, max_bytes: int | None, name: str | None = None) -> None:
        self._name = name or fresh_name()
        self._folder = folder
        self._meter = Meter(max_bytes)
        self._path = folder / (fresh_name() + _UNFINISHED)
        with _named_errors():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            self._file = os.fdopen(descriptor, "wb", buffering=0)

    def write(self, piece: bytes) -> None:
        """See `BlobWriter`."""
        self._meter.add(piece)
        rest = memoryview(piece)
        with _named_errors():
            while rest:  # an unbuffered file may take less than it is given
                rest = rest[self._file.write(rest) :]

    def keep(self) -> Blob:
        """See `BlobWriter`."""
        with _named_errors():
            os.fsync(self._file.fileno())
            self._file.close()
            self._path.rename(self._folder / self._name)
            _sync_folder(self._folder)
        return self._meter.blob(self._name)

    def discard(self) -> None:
        """See `BlobWriter`."""
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def __enter__(self) -> DirectoryWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()


class Directory:
    """A folder of blobs, made when the first one is written; see `BlobStore`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def writer(self, max_bytes: int | None = None) -> DirectoryWriter:
        """See `BlobStore`."""
        return DirectoryWriter(self._folder, max_bytes)

    def writer_of(self, name: str) -> DirectoryWriter:
        """See `Bucket`. A name's steps are folders."""
        path = self._folder / name
        with _named_errors():
            try:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError) as cause:
                raise InvalidRequest(f"a step of {name} is a file") from cause
        return DirectoryWriter(path.parent, None, path.name)

    @contextmanager
    def open(self, name: str, offset: int = 0, length: int | None = None) -> Iterator[Iterator[bytes]]:
        """See `BlobStore`."""
        with _named_errors():
            try:
                file = (self._folder / name).open("rb", buffering=0)
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as cause:
                raise NotFound(f"there is no blob {name}") from cause
        with file:
            file.seek(offset)
            yield _pieces(file, length)

    def delete(self, name: str) -> None:
        """See `BlobStore`."""
        with _named_errors():
            (self._folder / name).unlink(missing_ok=True)

    def entries(self) -> Iterable[BlobEntry]:
        """See `BlobStore`."""
        with _named_errors():
            try:
                files = list(os.scandir(self._folder))
            except FileNotFoundError:
                return []
            return [entry for file in files if (entry := _entry(file)) is not None]


def _entry(file: os.DirEntry[str]) -> BlobEntry | None:
    try:
        return BlobEntry(file.name, datetime.fromtimestamp(file.stat().st_mtime, UTC))
    except FileNotFoundError:  # gone since the folder was read
        return None


def _pieces(file: FileIO, length: int | None) -> Iterator[bytes]:
    left = length
    while left is None or left > 0:
        with _named_errors():
            piece = file.read(PIECE_BYTES if left is None else min(left, PIECE_BYTES))
        if not piece:
            return
        left = None if left is None else left - len(piece)
        yield piece


def _sync_folder(folder: Path) -> None:
    """A renamed file is found again after a loss of power only once its folder is on disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _named_errors() -> Iterator[None]:
    try:
        yield
    except OSError as cause:
        if cause.errno in _IS_FULL:
            raise StorageFull("The disk of the file storage is full") from cause
        raise unavailable(cause) from cause
