"""Ids as the clouds write them: the vendor's own, with the cloud's mark behind the prefix (wire.md section 1.6)."""

from __future__ import annotations

from dataclasses import replace

from hokku.protocol.events import BlockStart, ReplyEvent, ReplyStart, ToolUseBlock
from hokku.service.passing import PassedReply
from hokku.service.replies import ReplyStream


def marked_id(given: str, mark: str) -> str:
    """`msg_01…` as `msg_vrtx_01…`, if the mark is `vrtx`."""
    prefix, _, rest = given.partition("_")
    return f"{prefix}_{mark}_{rest}"


class CloudReply(PassedReply):
    """A reply whose message and calls have a cloud's ids."""

    def __init__(self, stream: ReplyStream, mark: str) -> None:
        super().__init__(stream)
        self._mark = mark

    async def next_events(self, timeout_secs: float | None = None) -> list[ReplyEvent]:
        """See `ReplyStream`."""
        return [self._marked(event) for event in await self._stream.next_events(timeout_secs)]

    async def all_events(self) -> list[ReplyEvent]:
        """See `ReplyStream`."""
        return [self._marked(event) for event in await self._stream.all_events()]

    def _marked(self, event: ReplyEvent) -> ReplyEvent:
        match event:
            case ReplyStart(id=reply_id):
                return replace(event, id=marked_id(reply_id, self._mark))
            case BlockStart(block=ToolUseBlock() as call):
                return replace(event, block=replace(call, id=marked_id(call.id, self._mark)))
            case _:
                return event
