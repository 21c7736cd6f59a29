"""One request of a batch, answered: read as Messages would read it, replied to at low priority, priced at half."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

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

    def succeeded(self, reply: Reply) -> str:
        """The result with a reply."""

    def errored(self, error: Exception, request_id: str | None) -> str:
        """The result with an error; without an id it lies in the request itself."""


class BatchAnswers:
    """Answers requests of batches.

    Args:
        replies: who replies, at the priority of batches.
        wire: the wire of whoever made the batch.
        manifest_of: a model's manifest, which has its prices. Raises `NotFound`.
    """

    def __init__(self, replies: Replies, wire: BatchWire, manifest_of: Callable[[str], Manifest]) -> None:
        self._replies = replies
        self._wire = wire
        self._manifest_of = manifest_of

    async def answer(self, claim: Claim, body: bytes, dialect: str, identity: Identity) -> Answer:
        """What becomes of a request. Raises what is in `TO_TRY_AGAIN`."""
        request_id = worker_request_id()
        try:
            request = replace(self._wire.read(body, dialect), id=request_id)
            reply = await self._reply(request, identity)
        except TO_TRY_AGAIN:
            raise
        except RequestError as refusal:
            return Answer(claim.position, "errored", self._wire.errored(refusal, None))
        except Exception as failure:
            if not isinstance(failure, HokkuError):
                _log.exception("request %s of batch %s failed", request_id, claim.batch_id)
            result = self._wire.errored(failure, request_id)
            return Answer(claim.position, "errored", result)
        entry = self._entry(claim, request, reply, identity)
        return Answer(claim.position, "succeeded", self._wire.succeeded(reply), entry)

    async def _reply(self, request: MessagesRequest, identity: Identity) -> Reply:
        stream = await self._replies.reply(request, identity)
        try:
            reply = fold(await stream.all_events())
        finally:
            stream.cancel()
        return replace(reply, usage=replace(reply.usage, service_tier="batch"))

    def _entry(self, claim: Claim, request: MessagesRequest, reply: Reply, identity: Identity) -> LedgerEntry:
        tokens = tokens_of(reply.usage)
        return LedgerEntry(
            at=datetime.now(UTC),
            request_id=request.id,
            workspace_id=identity.workspace_id,
            key_id=identity.key_id,
            model=reply.model,
            tier="batch",
            outcome="succeeded",
            tokens=tokens,
            micro_cents=cost(tokens, self._manifest_of(reply.model).prices, "batch"),
            batch_id=claim.batch_id,
            batch_position=claim.position,
        )
