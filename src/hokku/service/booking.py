"""Requests that are booked, however they end: with the reply's last event, by a failure or a refusal, or because the
client has left.

One request that was let in is one row. What is turned away at the door is none: a key that is not known, a limit that
is reached, a server that is about to stop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from hokku.protocol.errors import NotFound, RequestError
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
        with self._booked_if_it_fails(request, identity):
            return await self._replies.read(request, identity)

    async def reply(
        self, request: MessagesRequest, identity: Identity, prompt: ReadPrompt | None = None
    ) -> ReplyStream:
        """See `ReadingReplies`. A request that is refused, or fails before there is a reply, has used nothing."""
        asked = self._manifest_of(request.model)
        with self._booked_if_it_fails(request, identity):
            stream = await self._replies.reply(request, identity, prompt)

        def prices() -> Prices:
            return self._prices(stream.model_id, asked)

        return BookedReply(stream, request.id, identity, prices, self._ledger.book)

    async def count(self, model_name: str, conversation: Conversation, identity: Identity) -> int:
        """See `Replies`; counting is free."""
        return await self._replies.count(model_name, conversation, identity)

    @contextmanager
    def _booked_if_it_fails(self, request: MessagesRequest, identity: Identity) -> Iterator[None]:
        try:
            yield
        except Exception:
            model_id = self._manifest_of(request.model).id
            self._ledger.book(_nothing_used(request.id, identity, model_id))
            raise

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


@contextmanager
def booked_if_refused(
    book: Callable[[LedgerEntry], None], request_id: str, identity: Identity
) -> Iterator[None]:
    """Inside, a request is read that no model has been asked yet: one that is refused here is booked for nothing."""
    try:
        yield
    except RequestError:
        book(_nothing_used(request_id, identity, ""))
        raise


def _nothing_used(request_id: str, identity: Identity, model_id: str) -> LedgerEntry:
    return LedgerEntry(
        at=datetime.now(UTC),
        request_id=request_id,
        workspace_id=identity.workspace_id,
        key_id=identity.key_id,
        model=model_id,
        tier="standard",
        outcome="errored",
        tokens={},
        micro_cents={},
    )
