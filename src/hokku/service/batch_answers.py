"""One request of a batch, answered: read as Messages would read it, replied to at low priority, priced at half."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from time import perf_counter
from typing import Literal, Protocol

from hokku.protocol.batches import Answer, Claim
from hokku.protocol.errors import HokkuError, Overloaded, RequestError, StorageUnavailable
from hokku.protocol.events import Reply, fold
from hokku.protocol.messages import MessagesRequest
from hokku.protocol.records import LedgerEntry
from hokku.registry.manifest import Manifest
from hokku.service.ids import worker_request_id
from hokku.service.keys import Identity
from hokku.service.prices import cost, tokens_of
from hokku.service.replies import Replies

_log = logging.getLogger(__name__)

TO_TRY_AGAIN = (Overloaded, StorageUnavailable)  # no answer: the request can be answered later


class BatchWire(Protocol):
    """How a wire reads the requests of its batches, and words their results, as JSON."""

    def read(self, body: bytes, dialect: str) -> MessagesRequest:
        """A request, checked. Raises `RequestError`."""

    def succeeded(self, reply: Reply, body: bytes, dialect: str) -> str:
        """The result with the reply to a request."""

    def errored(self, error: Exception, request_id: str | None, dialect: str) -> str:
        """The result with an error; without an id it lies in the request itself."""


class BatchAnswers:
    """Answers requests of batches.

    Args:
        replies: who replies, at the priority of batches.
        wire: the wire of whoever made the batch.
        manifest_of: a model's manifest, which has its prices. Raises `NotFound`.
        admit: asked before each request. Raises `InvalidRequest` where its workspace may have no more of them.
    """

    def __init__(
        self,
        replies: Replies,
        wire: BatchWire,
        manifest_of: Callable[[str], Manifest],
        admit: Callable[[Identity], Awaitable[None]] | None = None,
    ) -> None:
        self._replies = replies
        self._wire = wire
        self._manifest_of = manifest_of
        self._admit = admit

    async def answer(self, claim: Claim, body: bytes, dialect: str, identity: Identity) -> Answer:
        """What becomes of a request. Raises what is in `TO_TRY_AGAIN`."""
        began_at = perf_counter()
        outcome, result, entry = await self._answer(claim, body, dialect, identity)
        return Answer(claim.position, outcome, result, entry, perf_counter() - began_at)

    async def _answer(
        self, claim: Claim, body: bytes, dialect: str, identity: Identity
    ) -> tuple[Literal["succeeded", "errored"], str, LedgerEntry]:
        entry = _nothing_used(claim, identity)
        try:
            if self._admit is not None:
                await self._admit(identity)
            request = replace(self._wire.read(body, dialect), id=entry.request_id)
            entry = replace(entry, model=self._manifest_of(request.model).id)
            reply = await self._reply(request, identity)
        except TO_TRY_AGAIN:
            raise
        except RequestError as refusal:
            return "errored", self._wire.errored(refusal, None, dialect), entry
        except Exception as failure:
            if not isinstance(failure, HokkuError):
                _log.exception("request %s of batch %s failed", entry.request_id, claim.batch_id)
            return "errored", self._wire.errored(failure, entry.request_id, dialect), entry
        return "succeeded", self._wire.succeeded(reply, body, dialect), self._booked(entry, reply)

    async def _reply(self, request: MessagesRequest, identity: Identity) -> Reply:
        stream = await self._replies.reply(request, identity)
        try:
            reply = fold(await stream.all_events())
        finally:
            stream.cancel()
        return replace(reply, usage=replace(reply.usage, service_tier="batch"))

    def _booked(self, entry: LedgerEntry, reply: Reply) -> LedgerEntry:
        tokens = tokens_of(reply.usage)
        prices = self._manifest_of(reply.model).prices
        micro_cents = cost(tokens, prices, "batch")
        return replace(
            entry,
            at=datetime.now(UTC),
            model=reply.model,
            outcome="succeeded",
            tokens=tokens,
            micro_cents=micro_cents,
        )


def _nothing_used(claim: Claim, identity: Identity) -> LedgerEntry:
    """What is booked of a request that comes to nothing: one that fails is not billed (wire.md section 5.4)."""
    return LedgerEntry(
        at=datetime.now(UTC),
        request_id=worker_request_id(),
        workspace_id=identity.workspace_id,
        key_id=identity.key_id,
        model="",
        tier="batch",
        outcome="errored",
        tokens={},
        micro_cents={},
        batch_id=claim.batch_id,
        batch_position=claim.position,
    )
