"""Replies that are booked when they end, however they end: with their last event, by a failure, or because the client
has left."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from hokku.protocol.errors import NotFound
from hokku.protocol.messages import Conversation, MessagesRequest
from hokku.protocol.records import LedgerEntry, Outcome
from hokku.registry.manifest import Manifest, Prices
from hokku.service.keys import Identity
from hokku.service.ledger import Ledger
from hokku.service.passing import WatchedReply
from hokku.service.prices import cost, tokens_of
from hokku.service.prompts import ReadPrompt
from hokku.service.replies import ReadingReplies, ReplyStream


class BookedReplies:
    """The same replies, each with a row of the ledger behind it.

    Args:
        manifest_of: a model's manifest, which has its prices. Raises `NotFound`.
    """

    def __init__(
        self, replies: ReadingReplies, ledger: Ledger, manifest_of: Callable[[str], Manifest]
    ) -> None:
        self._replies = replies
        self._ledger = ledger
        self._manifest_of = manifest_of

    async def read(self, request: MessagesRequest, identity: Identity) -> ReadPrompt | None:
        """See `ReadingReplies`; reading is free."""
        return await self._replies.read(request, identity)

    async def reply(
        self, request: MessagesRequest, identity: Identity, prompt: ReadPrompt | None = None
    ) -> ReplyStream:
        """See `ReadingReplies`. A request that is refused uses nothing and is not booked."""
        asked = self._manifest_of(request.model)
        stream = await self._replies.reply(request, identity, prompt)

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


class BookedReply(WatchedReply):
    """A reply that books itself once."""

    def __init__(
        self,
        stream: ReplyStream,
        request_id: str,
        identity: Identity,
        prices: Callable[[], Prices],
        book: Callable[[LedgerEntry], None],
    ) -> None:
        super().__init__(stream)
        self._request_id = request_id
        self._identity = identity
        self._prices = prices
        self._book = book

    def _ended(self, outcome: Outcome) -> None:
        tokens = tokens_of(self.usage)
        self._book(
            LedgerEntry(
                at=datetime.now(UTC),
                request_id=self._request_id,
                workspace_id=self._identity.workspace_id,
                key_id=self._identity.key_id,
                model=self.model_id,
                tier="standard",
                outcome=outcome,
                tokens=tokens,
                micro_cents=cost(tokens, self._prices(), "standard"),
            )
        )
