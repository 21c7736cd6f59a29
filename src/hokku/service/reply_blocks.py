"""Pieces of a reply as events of content blocks: prose in one block, each call in one of its own, and each stretch of
prose that has its own citations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hokku.protocol.citations import Citation
from hokku.protocol.events import (
    BlockStart,
    BlockStop,
    CallEnd,
    CallInput,
    CallStart,
    CitationDelta,
    InputDelta,
    ReplyBlock,
    ReplyEvent,
    ReplyPiece,
    TextBlock,
    TextDelta,
    ToolUseBlock,
)
from hokku.service.ids import tool_use_id


@dataclass(frozen=True, slots=True)
class CitedProse:
    """Prose that rests on these passages, of which there is at least one."""

    text: str
    citations: tuple[Citation, ...]


BlockPiece = ReplyPiece | CitedProse


class ReplyBlocks:
    """The blocks of one reply, of which at most one is open."""

    def __init__(self) -> None:
        self.num_calls = 0
        self._index = -1  # of the last block opened
        self._open: ReplyBlock | None = None
        self._citations: tuple[Citation, ...] = ()  # of the open block; told when it closes

    def events_of(self, pieces: Sequence[BlockPiece]) -> list[ReplyEvent]:
        """The events that tell these pieces; neighbouring deltas of one block are one."""
        events: list[ReplyEvent] = []
        for piece in pieces:
            match piece:
                case str():
                    self._prose(events, piece, ())
                case CitedProse(text=text, citations=citations):
                    self._prose(events, text, citations)
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
        index, citations = self._index, self._citations
        self._open, self._citations = None, ()
        return [*(CitationDelta(index, citation) for citation in citations), BlockStop(index)]

    def _prose(self, events: list[ReplyEvent], text: str, citations: tuple[Citation, ...]) -> None:
        # White space joins any prose: a block of nothing else would be refused when the reply is sent back.
        continues = isinstance(self._open, TextBlock) and (citations == self._citations or text.isspace())
        if not continues:
            events += self._opened(TextBlock())
            self._citations = citations
        self._delta(events, TextDelta(self._index, text))

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
