"""Blobs as objects of S3-compatible storage, through `obstore`.

Credentials and region come from the usual variables (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, …) or
from the machine's role. A process that is killed during an upload may leave parts behind that are in no listing; a
life-cycle rule of the bucket removes them (docs/operations.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hokku.blobs.store import PIECE_BYTES, Blob, BlobEntry, Meter, fresh_name, unavailable
from hokku.protocol.errors import HokkuError, NotFound

if TYPE_CHECKING:
    from obstore.store import S3Store

_PART_BYTES = 8 << 20  # of a multipart upload, kept in memory; S3 takes 10,000 parts of 5 MB and more
_PARTS_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class S3Config:
    """Where objects go. Without `endpoint` it is Amazon's; `http://` ones are for tests and one's own network."""

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None


class S3Writer:
    """An upload, in parts if it is large; see `BlobWriter`."""

    def __init__(self, store: S3Store, max_bytes: int | None, name: str | None = None) -> None:
        import obstore

        self._store = store
        self._name = name or fresh_name()
        self._meter = Meter(max_bytes)
        self._is_open = True
        self._upload = obstore.open_writer(
            store, self._name, buffer_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE
        )

    def write(self, piece: bytes) -> None:
        """See `BlobWriter`."""
        self._meter.add(piece)
        with _named_errors():
            self._upload.write(piece)

    def keep(self) -> Blob:
        """See `BlobWriter`."""
        with _named_errors():
            self._upload.close()
        self._is_open = False
        return self._meter.blob(self._name)

    def discard(self) -> None:
        """See `BlobWriter`. An upload is finished and deleted: left alone, its parts would stay and be paid for."""
        if self._is_open:
            self._is_open = False
            with suppress(Exception):  # not written, so not there
                self._upload.close()
            with suppress(Exception):  # a sweep will find it
                _delete(self._store, self._name)

    def __enter__(self) -> S3Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()


class S3:
    """The objects under a prefix of a bucket; see `BlobStore`."""

    def __init__(self, config: S3Config) -> None:
        self._config = config

    @cached_property
    def _store(self) -> S3Store:
        # Loaded with the first blob, not with the server.
        from obstore.store import S3Store

        config = self._config
        given: dict[str, Any] = {"endpoint": config.endpoint, "region": config.region}
        options = {name: value for name, value in given.items() if value is not None}
        if (config.endpoint or "").startswith("http://"):
            options["client_options"] = {"allow_http": True}
        return S3Store(config.bucket, prefix=config.prefix or None, **options)

    def writer(self, max_bytes: int | None = None) -> S3Writer:
        """See `BlobStore`."""
        with _named_errors():
            return S3Writer(self._store, max_bytes)

    def writer_of(self, name: str) -> S3Writer:
        """See `Bucket`."""
        with _named_errors():
            return S3Writer(self._store, None, name)

    @contextmanager
    def open(self, name: str, offset: int = 0, length: int | None = None) -> Iterator[Iterator[bytes]]:
        """See `BlobStore`."""
        with _named_errors():
            try:
                stream = self._stream(name, offset, length)
            except FileNotFoundError as cause:
                raise NotFound(f"there is no blob {name}") from cause
        yield _pieces(stream)

    def _stream(self, name: str, offset: int, length: int | None) -> Iterator[Any]:
        import obstore

        if offset == 0 and length is None:
            return iter(obstore.get(self._store, name).stream(min_chunk_size=PIECE_BYTES))
        # A range that begins past the end would be an error, and so the size is asked for first.
        num_bytes = int(obstore.head(self._store, name)["size"])
        end = num_bytes if length is None else min(offset + length, num_bytes)
        if offset >= end:
            return iter(())
        found = obstore.get(self._store, name, options={"range": (offset, end)})
        return iter(found.stream(min_chunk_size=PIECE_BYTES))

    def delete(self, name: str) -> None:
        """See `BlobStore`."""
        with _named_errors():
            _delete(self._store, name)

    def entries(self) -> Iterable[BlobEntry]:
        """See `BlobStore`. The moment is that of the upload's beginning."""
        import obstore

        with _named_errors():
            pages = list(obstore.list(self._store))
        return [BlobEntry(found["path"], found["last_modified"]) for page in pages for found in page]


def _delete(store: S3Store, name: str) -> None:
    import obstore

    with suppress(FileNotFoundError):  # some stores mind, Amazon's does not
        obstore.delete(store, name)


def _pieces(stream: Iterator[Any]) -> Iterator[bytes]:
    while True:
        with _named_errors():
            piece = next(stream, None)
        if piece is None:
            return
        yield bytes(piece)


@contextmanager
def _named_errors() -> Iterator[None]:
    try:
        yield
    except HokkuError:
        raise
    except Exception as cause:  # the library's own family, and what its network and credentials raise
        raise unavailable(cause) from cause
