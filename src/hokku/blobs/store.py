"""The port of this room, and what its implementations share.

A blob is written once and never changed. It gets its name here, so that nothing a client sends is ever a path, and it
can be read only after `keep`, by when all of it is on disk. Whoever keeps blobs writes the name into a row of the
database afterwards; `sweep` removes those that a crash in between left without one.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from hokku.protocol.errors import RequestTooLarge, StorageUnavailable

_log = logging.getLogger(__name__)

PIECE_BYTES = 1 << 20  # of one read; large enough that what a thread costs to reach does not count


@dataclass(frozen=True, slots=True)
class Blob:
    """What has been written."""

    name: str
    num_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class BlobEntry:
    """Something a store holds, finished or not."""

    name: str
    changed_at: datetime


class BlobWriter(Protocol):
    """A blob in the making. Ends with `keep` or `discard`; as a context manager it is discarded if it was not kept."""

    def write(self, piece: bytes) -> None:
        """Append. Raises `RequestTooLarge` past the limit, `StorageFull`, `StorageUnavailable`."""

    def keep(self) -> Blob:
        """Make it last: when this returns, the blob survives a loss of power. Raises like `write`."""

    def discard(self) -> None:
        """Forget it. Idempotent, harmless after `keep`, and never raises."""

    def __enter__(self) -> BlobWriter: ...

    def __exit__(self, *_: object) -> None: ...


class BlobStore(Protocol):
    """Blobs of one kind. Every verb blocks, and is safe to call from many threads."""

    def writer(self, max_bytes: int | None = None) -> BlobWriter:
        """A new blob of at most `max_bytes`. Raises `StorageFull`, `StorageUnavailable`."""

    def open(
        self, name: str, offset: int = 0, length: int | None = None
    ) -> AbstractContextManager[Iterator[bytes]]:
        """The bytes from `offset` on, `length` of them or all, in pieces of about `PIECE_BYTES`.

        Raises `NotFound` if there is no such blob, `StorageUnavailable`.
        """

    def delete(self, name: str) -> None:
        """Forget a blob; one that is not there is forgotten already. Raises `StorageUnavailable`."""

    def entries(self) -> Iterable[BlobEntry]:
        """All that is there, also what was never finished. Raises `StorageUnavailable`."""


class Bucket(Protocol):
    """Objects under names that others give them: what clients of S3 put there, and will fetch. Every verb blocks."""

    def open(
        self, name: str, offset: int = 0, length: int | None = None
    ) -> AbstractContextManager[Iterator[bytes]]:
        """See `BlobStore`."""

    def writer_of(self, name: str) -> BlobWriter:
        """A new object, which takes the place of one of the same name; of that, nothing may be left if it is not kept.
        Raises `StorageFull`, `StorageUnavailable`."""


class Meter:
    """Counts and digests what a writer is given, and refuses what is over its limit."""

    def __init__(self, max_bytes: int | None) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._digest = hashlib.sha256()

    def add(self, piece: bytes) -> None:
        """Raises `RequestTooLarge`."""
        self._num_bytes += len(piece)
        if self._max_bytes is not None and self._num_bytes > self._max_bytes:
            raise RequestTooLarge("Request exceeds the maximum allowed number of bytes.")
        self._digest.update(piece)

    def blob(self, name: str) -> Blob:
        """What has been counted, under its name."""
        return Blob(name, self._num_bytes, self._digest.hexdigest())


def fresh_name() -> str:
    """A name that nobody can guess and no two blobs share."""
    return secrets.token_hex(16)


def sweep(store: BlobStore, known: Callable[[Collection[str]], Collection[str]], before: datetime) -> int:
    """Remove what no row names and nobody has changed since `before`; how many that were.

    Args:
        known: of these names, those that have a row.

    Raises `StorageUnavailable`.
    """
    old = [entry.name for entry in store.entries() if entry.changed_at < before]
    orphans = set(old) - set(known(old)) if old else set()
    for name in orphans:
        store.delete(name)
    if orphans:
        _log.info("removed %d blobs that nothing names", len(orphans))
    return len(orphans)


def unavailable(cause: Exception) -> StorageUnavailable:
    """The error for the caller, with its cause in the log only: it may name paths and hosts."""
    _log.error("the store of blobs did not answer: %s", str(cause).partition("\n")[0])
    return StorageUnavailable("The file storage is unavailable")
