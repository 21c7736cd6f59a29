"""Replies that are booked when they end, however they end: with their last event, by a failure, or because the client
has left."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from hokku.protocol.errors import NotFound
from hokku.protocol.events import ReplyEnd, ReplyEvent, Usage
from hokku.protocol.messages import Conversation, MessagesRequest
from hokku.protocol.records import LedgerEntry, Outcome, RateLevels
from hokku.registry.manifest import Manifest, Prices
from hokku.service.keys import Identity
from hokku.service.ledger import Ledger
from hokku.service.prices import cost, tokens_of
from hokku.service.replies import Replies, ReplyStream


class BookedReplies:
    """The same replies, each with a row of the ledger behind it.

    Args:
        manifest_of: a model's manifest, which has its prices. Raises `NotFound`.
    """

    def __init__(self, replies: Replies, ledger: Ledger, manifest_of: Callable[[str], Manifest]) -> None:
        self._replies = replies
        self._ledger = ledger
        self._manifest_of = manifest_of

    async def reply(self, request: MessagesRequest, identity: Identity) -> ReplyStream:
        """See `Replies`. A request that is refused uses nothing and is not booked."""
        asked = self._manifest_of(request.model)
        stream = await self._replies.reply(request, identity)

        def prices() -> Prices:
            return self._prices(stream.model_id, asked)

        return BookedReply(stream, request.id, identity, prices, self._ledger.book)

    async def count(self, model_name: str, conversation: Conversation, identity: Identity) -> int:
        """See `Replies`; counting is free."""
        return await self._replies.count(model_name, conversation, identity)

    def _prices(self, model_id: str, asked: Manifest) -> Prices:
        """The answering model's; where another service has answered, those of the model that was asked."""
        try:
            return self._manifest_of(model_id).prices
        except NotFound:
            return asked.prices


class BookedReply:
    """A reply that books itself once."""

    def __init__(
        self,
        stream: ReplyStream,
        request_id: str,
        identity: Identity,
        prices: Callable[[], Prices],
        book: Callable[[LedgerEntry], None],
    ) -> None:
        self._stream = stream
        self._request_id = request_id
        self._identity = identity
        self._prices = prices
        self._book = book
        self._is_booked = False

    @property
    def is_finished(self) -> bool:
        """See `ReplyStream`."""
        return self._stream.is_finished

    @property
    def model_id(self) -> str:
        """See `ReplyStream`."""
        return self._stream.model_id

    @property
    def fallback_reason(self) -> str | None:
        """See `ReplyStream`."""
        return self._stream.fallback_reason

    @property
    def rate_levels(self) -> RateLevels | None:
        """See `ReplyStream`."""
        return self._stream.rate_levels

    @property
    def usage(self) -> Usage:
        """See `ReplyStream`."""
        return self._stream.usage

    async def next_events(self, timeout_secs: float | None = None) -> list[ReplyEvent]:
        """See `ReplyStream`."""
        try:
            events = await self._stream.next_events(timeout_secs)
        except Exception:
            self._conclude("errored")
            raise
        return self._noted(events)

    async def all_events(self) -> list[ReplyEvent]:
        """See `ReplyStream`."""
        try:
            events = await self._stream.all_events()
        except Exception:
            self._conclude("errored")
            raise
        return self._noted(events)

    def cancel(self) -> None:
        """See `ReplyStream`."""
        self._stream.cancel()
        self._conclude("canceled")

    def _noted(self, events: list[ReplyEvent]) -> list[ReplyEvent]:
        if events and isinstance(events[-1], ReplyEnd):
            self._conclude("succeeded")
        return events

    def _conclude(self, outcome: Outcome) -> None:
        if self._is_booked:
            return
        self._is_booked = True
        tokens = tokens_of(self._stream.usage)
        self._book(
            LedgerEntry(
                at=datetime.now(UTC),
                request_id=self._request_id,
                workspace_id=self._identity.workspace_id,
                key_id=self._identity.key_id,
                model=self._stream.model_id,
                tier="standard",
                outcome=outcome,
                tokens=tokens,
                micro_cents=cost(tokens, self._prices(), "standard"),
            )
        )
