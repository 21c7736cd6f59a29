"""The end of serving: first nobody new, then, when the time given is over, nobody.

A stream that has to end then says so in its wire's own words, as for any other failure, rather than being cut off.
"""

from __future__ import annotations

from hokku.protocol.errors import Overloaded
from hokku.protocol.events import ReplyEnd, ReplyEvent
from hokku.protocol.messages import Conversation, MessagesRequest
from hokku.service.keys import Identity
from hokku.service.passing import PassedReply
from hokku.service.replies import Replies, ReplyStream


class Drain:
    """Whether the server is about to end, and the replies it still owes. All but `begin` belong to the event loop."""

    def __init__(self) -> None:
        self.is_draining = False
        self.is_over = False
        self._replies: set[DrainingReply] = set()
        self._num_starting = 0

    @property
    def is_empty(self) -> bool:
        """Whether no reply is under way."""
        return not self._replies and not self._num_starting

    def begin(self) -> None:
        """Let nobody new in. May be called by a signal's handler."""
        self.is_draining = True

    def end(self) -> None:
        """End the replies that are still under way."""
        self.is_draining = self.is_over = True
        for reply in list(self._replies):
            reply.end()

    async def started(self, replies: Replies, request: MessagesRequest, identity: Identity) -> DrainingReply:
        """A new reply. Raises `Overloaded` if the server is about to end, and what `replies` raises."""
        self.refuse_if_draining()
        self._num_starting += 1
        try:
            reply = DrainingReply(await replies.reply(request, identity), self)
        finally:
            self._num_starting -= 1
        self._replies.add(reply)
        if self.is_over:
            reply.end()
        return reply

    def refuse_if_draining(self) -> None:
        """Raises `Overloaded` if the server is about to end."""
        if self.is_draining:
            raise shutting_down()

    def forget(self, reply: DrainingReply) -> None:
        """It has ended."""
        self._replies.discard(reply)


def shutting_down() -> Overloaded:
    """What new requests and unfinished replies are told."""
    return Overloaded("The server is shutting down")


class DrainingReplies:
    """The same replies, as long as the server is not about to end."""

    def __init__(self, replies: Replies, drain: Drain) -> None:
        self._replies = replies
        self._drain = drain

    async def reply(self, request: MessagesRequest, identity: Identity) -> ReplyStream:
        """See `Replies`."""
        return await self._drain.started(self._replies, request, identity)

    async def count(self, model_name: str, conversation: Conversation, identity: Identity) -> int:
        """See `Replies`."""
        self._drain.refuse_if_draining()
        return await self._replies.count(model_name, conversation, identity)


class DrainingReply(PassedReply):
    """A reply that can be told to end."""

    def __init__(self, stream: ReplyStream, drain: Drain) -> None:
        super().__init__(stream)
        self._drain = drain
        self._owes_error = False

    @property
    def is_finished(self) -> bool:
        """See `ReplyStream`."""
        return self._stream.is_finished and not self._owes_error

    async def next_events(self, timeout_secs: float | None = None) -> list[ReplyEvent]:
        """See `ReplyStream`. Raises `Overloaded` if it was told to end."""
        return self._whole(await self._stream.next_events(timeout_secs))

    async def all_events(self) -> list[ReplyEvent]:
        """See `ReplyStream`. Raises `Overloaded` if it was told to end."""
        return self._whole(await self._stream.all_events())

    def cancel(self) -> None:
        """See `ReplyStream`."""
        self._owes_error = False
        self._stream.cancel()
        self._drain.forget(self)

    def end(self) -> None:
        """Stop, and raise `Overloaded` where the next events were to come from; nothing if they have all been read."""
        if not self._stream.is_finished:
            self._owes_error = True
            self._stream.cancel()

    def _whole(self, events: list[ReplyEvent]) -> list[ReplyEvent]:
        if not self._owes_error:
            return events
        self._owes_error = False
        if events and isinstance(events[-1], ReplyEnd):
            return events  # it came to its end at the same moment
        raise shutting_down()
