"""Pieces of a reply as events of content blocks: prose in one block, each call in one of its own."""

from __future__ import annotations

from collections.abc import Sequence

from hokku.protocol.events import (
    BlockStart,
    BlockStop,
    CallEnd,
    CallInput,
    CallStart,
    InputDelta,
    ReplyBlock,
    ReplyEvent,
    ReplyPiece,
    TextBlock,
    TextDelta,
    ToolUseBlock,
)
from hokku.service.ids import tool_use_id


class ReplyBlocks:
    """The blocks of one reply, of which at most one is open."""

    def __init__(self) -> None:
        self.num_calls = 0
        self._index = -1  # of the last block opened
        self._open: ReplyBlock | None = None

    def events_of(self, pieces: Sequence[ReplyPiece]) -> list[ReplyEvent]:
        """The events that tell these pieces; neighbouring deltas of one block are one."""
        events: list[ReplyEvent] = []
        for piece in pieces:
            match piece:
                case str():
                    if not isinstance(self._open, TextBlock):
                        events += self._opened(TextBlock())
                    self._delta(events, TextDelta(self._index, piece))
                case CallStart(name=name):
                    self.num_calls += 1
                    events += self._opened(ToolUseBlock(tool_use_id(), name))
                case CallInput(json=text):
                    self._delta(events, InputDelta(self._index, text))
                case CallEnd():
                    events += self.close()
        return events

    def close(self) -> list[ReplyEvent]:
        """Close the block that is open, if one is."""
        if self._open is None:
            return []
        self._open = None
        return [BlockStop(self._index)]

    def _opened(self, block: ReplyBlock) -> list[ReplyEvent]:
        closing = self.close()
        self._index += 1
        self._open = block
        return [*closing, BlockStart(self._index, block)]

    def _delta(self, events: list[ReplyEvent], delta: TextDelta | InputDelta) -> None:
        last = events[-1] if events else None
        if isinstance(delta, TextDelta) and isinstance(last, TextDelta):
            events[-1] = TextDelta(delta.index, last.text + delta.text)
        elif isinstance(delta, InputDelta) and isinstance(last, InputDelta):
            events[-1] = InputDelta(delta.index, last.json + delta.json)
        else:
            events.append(delta)
