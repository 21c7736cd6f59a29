"""Ids as the clouds write them: the vendor's own, with the cloud's mark behind the prefix (wire.md section 1.6)."""

from __future__ import annotations

from dataclasses import replace

from hokku.protocol.events import (
    BlockStart,
    Reply,
    ReplyBlock,
    ReplyEvent,
    ReplyStart,
    TextDelta,
    ToolUseBlock,
)


def marked_id(given: str, mark: str) -> str:
    """`msg_01…` as `msg_vrtx_01…`, if the mark is `vrtx`."""
    prefix, _, rest = given.partition("_")
    return f"{prefix}_{mark}_{rest}"


def marked_reply(reply: Reply, mark: str) -> Reply:
    """A whole reply, its message and calls with a cloud's ids."""
    content = tuple(_marked_block(block, mark) for block in reply.content)
    return replace(reply, id=marked_id(reply.id, mark), content=content)


def marked_events(events: list[ReplyEvent], mark: str) -> list[ReplyEvent]:
    """Events of a reply, its message and calls with a cloud's ids."""
    if len(events) == 1 and type(events[0]) is TextDelta:  # as nearly always
        return events
    return [_marked_event(event, mark) for event in events]


def _marked_event(event: ReplyEvent, mark: str) -> ReplyEvent:
    match event:
        case ReplyStart(id=reply_id):
            return replace(event, id=marked_id(reply_id, mark))
        case BlockStart(block=block):
            return replace(event, block=_marked_block(block, mark))
        case _:
            return event


def _marked_block(block: ReplyBlock, mark: str) -> ReplyBlock:
    return replace(block, id=marked_id(block.id, mark)) if isinstance(block, ToolUseBlock) else block
