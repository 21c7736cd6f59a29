"""Message Batches: taken in, shown, canceled, deleted, and their results given out. `batch_runner.py` works them off.

Everything is scoped to the caller's workspace: of another's batches nothing is seen, not even that they are there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Protocol

from hokku.blobs.store import BlobStore, BlobWriter
from hokku.protocol.batches import Batch, BatchCounts, BatchedRequest
from hokku.protocol.errors import NotFound
from hokku.service.ids import MESSAGE_BATCH
from hokku.service.ids import batch_id as new_batch_id
from hokku.service.keys import Identity

LIFETIME = timedelta(hours=24)  # then what is not done has expired
RESULTS_KEPT = timedelta(days=29)  # from the batch's beginning
_PIECE_BYTES = 1 << 20  # of one write


class BatchRows(Protocol):
    """Where batches are kept. Every verb blocks, and raises `StorageUnavailable`."""

    def add(self, batch: Batch, requests: Iterable[BatchedRequest]) -> None:
        """Keep a new one. Raises `RateLimited` where too many requests wait already."""

    def batch(self, batch_id: str, workspace_id: str) -> Batch:
        """One. Raises `NotFound`."""

    def page(
        self,
        workspace_id: str | None,
        limit: int,
        *,
        after_id: str | None = None,
        before_id: str | None = None,
        prefix: str = "",
    ) -> tuple[list[Batch], bool]:
        """Some whose ids begin with `prefix`, newest first, and whether there are more. Raises `InvalidRequest`."""

    def cancel(self, batch_id: str, workspace_id: str, now: datetime) -> Batch:
        """Begin to cancel one. Raises `NotFound`."""

    def delete(self, batch_id: str, workspace_id: str) -> str | None:
        """Forget an ended one; the blob of its results. Raises `NotFound`, `InvalidRequest`."""


class OpensBatches(Protocol):
    """Opens the database of batches when it is first needed."""

    @property
    def batches(self) -> BatchRows:
        """The opened batches. Raises `StorageUnavailable`."""


class Batches:
    """What callers may do with batches.

    Args:
        storage: where they are kept.
        blobs: where their requests and results are.
        wake: tells the runner that there is something new to do.
        prefix: of their ids. Batches of other wires, which have another, are none here.
    """

    def __init__(
        self,
        storage: OpensBatches,
        blobs: BlobStore,
        wake: Callable[[], None] = lambda: None,
        prefix: str = MESSAGE_BATCH,
    ) -> None:
        self._storage = storage
        self._blobs = blobs
        self._wake = wake
        self._prefix = prefix

    def draft(self, identity: Identity, dialect: str) -> BatchDraft:
        """A new batch, to be given its requests. Raises `StorageUnavailable`, `StorageFull`."""
        return BatchDraft(self._storage, self._blobs, identity, dialect, self._wake)

    async def batch(self, batch_id: str, identity: Identity) -> Batch:
        """One. Raises `NotFound`."""
        self._refuse_others(batch_id)
        return await asyncio.to_thread(lambda: self._storage.batches.batch(batch_id, identity.workspace_id))

    async def page(
        self, identity: Identity, limit: int, after_id: str | None, before_id: str | None
    ) -> tuple[list[Batch], bool]:
        """Some, newest first, and whether there are more. Raises `InvalidRequest` for an id that is none of theirs."""
        workspace_id = identity.workspace_id
        return await asyncio.to_thread(
            lambda: self._storage.batches.page(
                workspace_id, limit, after_id=after_id, before_id=before_id, prefix=self._prefix
            )
        )

    async def cancel(self, batch_id: str, identity: Identity) -> Batch:
        """Begin to cancel; what runs already may finish. Raises `NotFound`."""
        self._refuse_others(batch_id)
        now = datetime.now(UTC)
        batch = await asyncio.to_thread(
            lambda: self._storage.batches.cancel(batch_id, identity.workspace_id, now)
        )
        self._wake()
        return batch

    async def delete(self, batch_id: str, identity: Identity) -> None:
        """Forget an ended batch and its results. Raises `NotFound`, `InvalidRequest`."""
        self._refuse_others(batch_id)
        await asyncio.to_thread(self._delete, batch_id, identity)

    async def results(self, batch_id: str, identity: Identity) -> AsyncIterator[bytes]:
        """The results of an ended batch, in pieces. Raises `NotFound`, the moment that it is awaited."""
        batch = await self.batch(batch_id, identity)
        if batch.results_blob is None:
            raise NotFound(f"Message Batch {batch_id} has no available results.")
        return self._pieces(batch.results_blob)

    def _refuse_others(self, batch_id: str) -> None:
        if not batch_id.startswith(self._prefix):
            raise NotFound(f"Message Batch {batch_id} not found.")

    async def _pieces(self, name: str) -> AsyncIterator[bytes]:
        opened = self._blobs.open(name)
        pieces = await asyncio.to_thread(opened.__enter__)
        try:
            while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
                yield piece
        finally:
            opened.__exit__(None, None, None)

    def _delete(self, batch_id: str, identity: Identity) -> None:
        results = self._storage.batches.delete(batch_id, identity.workspace_id)
        if results is not None:
            self._blobs.delete(results)


class BatchDraft:
    """A batch that is being taken in. Ends with `keep` or `discard`; every verb blocks.

    Requests are written to a blob as they come; what stays in memory is some 200 bytes of each.
    """

    def __init__(
        self,
        storage: OpensBatches,
        blobs: BlobStore,
        identity: Identity,
        dialect: str,
        wake: Callable[[], None],
    ) -> None:
        self._storage = storage
        self._identity = identity
        self._dialect = dialect
        self._wake = wake
        self._requests: list[tuple[bytes, BatchedRequest]] = []
        self._writer: BlobWriter = blobs.writer()
        self._delete = blobs.delete
        self._waiting = bytearray()
        self._num_bytes = 0

    def take(self, custom_id: str, body: bytes, kinship: bytes) -> None:
        """One more request. Those of like `kinship` are worked off one after the other, as their prompts begin alike.
        Raises `StorageFull`, `StorageUnavailable`."""
        self._requests.append((kinship, BatchedRequest(custom_id, self._num_bytes, len(body))))
        self._num_bytes += len(body) + 1
        self._waiting += body
        self._waiting += b"\n"
        if len(self._waiting) >= _PIECE_BYTES:
            self._flush()

    def keep(self, batch_id: str | None = None, lifetime: timedelta = LIFETIME) -> Batch:
        """Make it last, under a fresh id where none is given, and let the runner have it. Raises `RateLimited` where
        too many requests wait already, `StorageFull`, `StorageUnavailable`."""
        self._flush()
        blob = self._writer.keep()
        self._requests.sort(key=lambda each: each[0])  # and as the client has ordered them, where alike
        created_at = datetime.now(UTC)
        batch = Batch(
            id=batch_id or new_batch_id(),
            workspace_id=self._identity.workspace_id,
            key_id=self._identity.key_id,
            dialect=self._dialect,
            created_at=created_at,
            expires_at=created_at + lifetime,
            counts=BatchCounts(len(self._requests)),
            input_blob=blob.name,
        )
        try:
            self._storage.batches.add(batch, (request for _, request in self._requests))
        except BaseException:
            self._delete(blob.name)
            raise
        self._wake()
        return batch

    def discard(self) -> None:
        """Forget it. Idempotent, harmless after `keep`."""
        self._writer.discard()

    def _flush(self) -> None:
        self._writer.write(bytes(self._waiting))
        self._waiting.clear()
