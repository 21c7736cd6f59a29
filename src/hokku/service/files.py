"""Uploaded files: taken in piece by piece, listed, used in requests, and forgotten when their time has come.

The bytes are a blob, everything else is a row. A blob is written before its row and removed after it, so a crash leaves
at most a blob that nothing names, which `tidy` removes a day later.
"""

from __future__ import annotations

import asyncio
import mimetypes
import re
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeVar

from hokku.blobs.store import BlobStore, sweep
from hokku.protocol.errors import InvalidRequest, NotFound, StorageUnavailable
from hokku.protocol.records import UploadedFile
from hokku.service.ids import file_id, moment_of_file_id
from hokku.service.keys import Identity

T = TypeVar("T")

_NUM_THREADS = 4
_NAME_CHARS = 255
_BAD_NAME = re.compile(r'[\x00-\x1f<>:"|?*]')
_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,127}/[a-z0-9!#$&^_.+-]{1,127}")  # RFC 6838 section 4.2
_UNKNOWN_TYPE = "application/octet-stream"
# What people upload; what the machine has installed would make the same upload differ between machines.
_EXTENSIONS = mimetypes.MimeTypes(filenames=())
_EXTENSIONS.add_type("image/webp", ".webp")  # missing before Python 3.13


@dataclass(frozen=True, slots=True)
class FilesConfig:
    """Limits of this room."""

    max_file_bytes: int = 500_000_000
    max_total_bytes: int = 100 << 30  # of everybody's files
    kept_after_expiry: timedelta = timedelta(days=30)  # the metadata
    orphans_after: timedelta = timedelta(
        days=1
    )  # far longer than any upload takes between its blob and its row


@dataclass(frozen=True, slots=True)
class FileContent:
    """What an uploaded file holds, and what its uploader called it."""

    data: bytes
    media_type: str


class FileStore(Protocol):
    """Where requests find uploaded files. A workspace sees its own only."""

    async def find(self, file_id: str, workspace_id: str) -> UploadedFile | None:
        """The file, or None where the workspace has none of that id, or no longer."""

    async def content(self, file: UploadedFile) -> bytes | None:
        """What it holds, or None if it has been removed since."""


class NoFiles:
    """The store of those who keep no files: nothing was ever uploaded."""

    async def find(self, file_id: str, workspace_id: str) -> UploadedFile | None:
        """None."""
        return None

    async def content(self, file: UploadedFile) -> bytes | None:
        """None."""
        return None


class FileRows(Protocol):
    """The rows of files. Blocks; every verb raises `StorageUnavailable`."""

    def add(self, file: UploadedFile, max_total_bytes: int) -> None:
        """Keep a new one. Raises `InvalidRequest` if all together would be too much."""

    def file(self, file_id: str, workspace_id: str) -> UploadedFile | None:
        """One of a workspace's, expired or not."""

    def some(self, file_ids: Collection[str], workspace_id: str) -> list[UploadedFile]:
        """Those of these that the workspace has, newest first."""

    def page(
        self,
        workspace_id: str,
        limit: int,
        *,
        after: tuple[datetime, str] | None = None,
        before: tuple[datetime, str] | None = None,
    ) -> tuple[list[UploadedFile], bool]:
        """Some of a workspace's, newest first, and whether there are more."""

    def remove(self, file_id: str, workspace_id: str) -> UploadedFile | None:
        """Forget one of a workspace's; what it was."""

    def expire(self, now: datetime) -> list[str]:
        """Part the expired from their blobs; the blobs' names."""

    def forget(self, before: datetime) -> None:
        """Forget files that expired before this moment."""

    def known_blobs(self, names: Collection[str]) -> set[str]:
        """Those of these blobs that a file has."""

    def total_bytes(self) -> int:
        """Of all files whose bytes are there."""


class OpensFiles(Protocol):
    """Opens the rows of files when they are first needed."""

    @property
    def may_have_files(self) -> bool:
        """False as long as a first look has found none and nobody has opened the database since."""

    @property
    def files(self) -> FileRows:
        """The opened rows. Raises `StorageUnavailable`."""


class Files:
    """What callers may do with files; as a `FileStore`, what requests do with them.

    Args:
        storage: where their rows are.
        blobs: where their bytes are.
    """

    def __init__(self, storage: OpensFiles, blobs: BlobStore, config: FilesConfig | None = None) -> None:
        self._storage = storage
        self._blobs = blobs
        self.config = config or FilesConfig()
        # Of its own, for a slow disk must not keep others' keys from being looked up.
        self._threads = ThreadPoolExecutor(_NUM_THREADS, "hokku-files")

    async def run(self, work: Callable[[], T]) -> T:
        """Do what blocks on a thread of this room."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def run_later(self, work: Callable[[], None]) -> None:
        """Do what nobody waits for on a thread of this room."""
        self._threads.submit(work)

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def upload(self, identity: Identity) -> Upload:
        """A new file, to be given its bytes. Blocks. Raises `StorageFull`, `StorageUnavailable`."""
        return Upload(self._storage, self._blobs, identity.workspace_id, self.config)

    async def file(self, file_id: str, identity: Identity) -> UploadedFile:
        """One, expired or not. Raises `NotFound`."""
        found = await self.run(lambda: self._storage.files.file(file_id, identity.workspace_id))
        if found is None:
            raise no_such_file(file_id)
        return found

    async def some(self, file_ids: Collection[str], identity: Identity) -> list[UploadedFile]:
        """Those of these that the caller has, newest first."""
        return await self.run(lambda: self._storage.files.some(file_ids, identity.workspace_id))

    async def page(
        self, identity: Identity, limit: int, *, after_id: str | None = None, before_id: str | None = None
    ) -> tuple[list[UploadedFile], bool]:
        """Some, newest first, and whether there are more in the direction of reading.

        The places are ids, also of files that have been deleted since. Raises `InvalidRequest` for what never was one.
        """
        after, before = _place(after_id, "after_id"), _place(before_id, "before_id")
        return await self.run(
            lambda: self._storage.files.page(identity.workspace_id, limit, after=after, before=before)
        )

    async def delete(self, file_id: str, identity: Identity) -> None:
        """Forget a file. Raises `NotFound`."""
        await self.run(lambda: self._delete(file_id, identity.workspace_id))

    async def find(self, file_id: str, workspace_id: str) -> UploadedFile | None:
        """See `FileStore`."""
        found = await self.run(lambda: self._storage.files.file(file_id, workspace_id))
        return None if found is None or found.is_expired(datetime.now(UTC)) else found

    async def content(self, file: UploadedFile) -> bytes | None:
        """See `FileStore`. The caller has looked at the size: all of it comes into memory."""
        return await self.run(lambda: self._content(file))

    def tidy(self, now: datetime) -> None:
        """Remove what has expired and what a crash has left. Blocks. Raises `StorageUnavailable`."""
        if not self._storage.may_have_files and not any(True for _ in self._blobs.entries()):
            return  # and no database is opened for it
        rows = self._storage.files
        for blob in rows.expire(now):
            self._blobs.delete(blob)
        rows.forget(now - self.config.kept_after_expiry)
        sweep(self._blobs, rows.known_blobs, now - self.config.orphans_after)

    def _delete(self, file_id: str, workspace_id: str) -> None:
        removed = self._storage.files.remove(file_id, workspace_id)
        if removed is None:
            raise no_such_file(file_id)
        if removed.blob is not None:
            self._blobs.delete(removed.blob)

    def _content(self, file: UploadedFile) -> bytes | None:
        if file.blob is None:
            return None
        try:
            with self._blobs.open(file.blob) as pieces:
                return b"".join(pieces)
        except NotFound:  # deleted since its row was read
            return None


class Upload:
    """A file that is being taken in. Ends with `keep` or `discard`; every verb blocks."""

    def __init__(self, storage: OpensFiles, blobs: BlobStore, workspace_id: str, config: FilesConfig) -> None:
        self._storage = storage
        self._blobs = blobs
        self._writer = blobs.writer(config.max_file_bytes)
        self._workspace_id = workspace_id
        self._max_total_bytes = config.max_total_bytes

    def write(self, piece: bytes) -> None:
        """Append. Raises `RequestTooLarge`, `StorageFull`, `StorageUnavailable`."""
        self._writer.write(piece)

    def keep(self, filename: str, media_type: str, expires_in: timedelta | None) -> UploadedFile:
        """Make it a file. Raises `InvalidRequest` if all files together would be too much, and like `write`.

        Args:
            filename: checked by `clean_filename`.
            media_type: checked by `clean_media_type`.
        """
        blob = self._writer.keep()
        now = datetime.now(UTC)
        file = UploadedFile(
            id=file_id(now),
            workspace_id=self._workspace_id,
            filename=filename,
            media_type=media_type,
            num_bytes=blob.num_bytes,
            sha256=blob.sha256,
            blob=blob.name,
            created_at=now,
            expires_at=None if expires_in is None else now + expires_in,
        )
        try:
            self._storage.files.add(file, self._max_total_bytes)
        except Exception:
            with suppress(StorageUnavailable):  # `tidy` will find it
                self._blobs.delete(blob.name)
            raise
        return file

    def discard(self) -> None:
        """Forget it, unless it was kept. Never raises."""
        self._writer.discard()


def clean_filename(given: str, media_type: str) -> str:
    """The last step of a path; where it is empty, a name that says the type. Raises `InvalidRequest`."""
    name = re.split(r"[/\\]", given)[-1]
    if not name:
        return "unnamed" + (_EXTENSIONS.guess_extension(media_type) or "")
    if len(name) > _NAME_CHARS:
        raise InvalidRequest(f"file name should have at most {_NAME_CHARS} characters", place="file")
    if _BAD_NAME.search(name):
        raise InvalidRequest(
            'file name should have none of < > : " | ? * and no control characters', place="file"
        )
    return name


def clean_media_type(given: str, filename: str) -> str:
    """The type without its parameters; guessed from the name where none is given. Raises `InvalidRequest`."""
    media_type = given.partition(";")[0].strip().lower()
    if not media_type:
        return _EXTENSIONS.guess_type(filename)[0] or _UNKNOWN_TYPE
    if not _MEDIA_TYPE.fullmatch(media_type):
        raise InvalidRequest("Content-Type should be a media type, for example application/pdf", place="file")
    return media_type


def no_such_file(file_id: str) -> NotFound:
    """The one answer for files that are not there and for those of others."""
    return NotFound(f"File `{file_id}` not found.")


def _place(given: str | None, name: str) -> tuple[datetime, str] | None:
    if given is None:
        return None
    moment = moment_of_file_id(given)
    if moment is None:
        raise InvalidRequest("is not the id of a file", place=name)
    return moment, given
