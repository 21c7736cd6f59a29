"""Events of a reply in the one order that its readers rely on, whatever a service sends."""

from __future__ import annotations

from hokku.protocol.citations import Citation
from hokku.protocol.errors import UpstreamFailed
from hokku.protocol.events import (
    BlockStart,
    BlockStop,
    CitationDelta,
    InputDelta,
    ReplyBlock,
    ReplyEnd,
    ReplyEvent,
    ReplyStart,
    StopReason,
    TextBlock,
    TextDelta,
    ToolUseBlock,
    Usage,
)


class ReplyWriter:
    """Start, blocks one after the other from index 0, end. Methods give the events that say so.

    Raises `UpstreamFailed` for what comes at a time at which it means nothing.
    """

    def __init__(self) -> None:
        self.has_started = False
        self.has_ended = False
        self.num_calls = 0
        self._index = -1  # of the last block opened
        self._open: ReplyBlock | None = None
        self._held = ""  # the first half of a surrogate pair, whose second half is still to come

    def start(self, reply_id: str, model: str, usage: Usage) -> list[ReplyEvent]:
        """The reply begins."""
        if self.has_started:
            raise UpstreamFailed("the service began its reply twice")
        self.has_started = True
        return [ReplyStart(reply_id, model, usage)]

    def open_text(self) -> list[ReplyEvent]:
        """A block of prose begins."""
        return self._opened(TextBlock())

    def text(self, text: str) -> list[ReplyEvent]:
        """More prose, in a new block where none is open."""
        opening = [] if isinstance(self._open, TextBlock) else self.open_text()
        whole = self._whole(text)
        return [*opening, TextDelta(self._index, whole)] if whole else opening

    def cite(self, citation: Citation) -> list[ReplyEvent]:
        """One more passage that the open block's prose rests on."""
        if not isinstance(self._open, TextBlock):
            raise UpstreamFailed("the service cited something where no prose was open")
        return [CitationDelta(self._index, citation)]

    def open_call(self, call_id: str, name: str) -> list[ReplyEvent]:
        """A call begins."""
        if not name:
            raise UpstreamFailed("the service called a tool without a name")
        self.num_calls += 1
        return self._opened(ToolUseBlock(call_id, name))

    def call_input(self, json: str) -> list[ReplyEvent]:
        """More of the open call's input."""
        if not isinstance(self._open, ToolUseBlock):
            raise UpstreamFailed("the service sent a call's input where no call was open")
        whole = self._whole(json)
        return [InputDelta(self._index, whole)] if whole else []

    def close(self) -> list[ReplyEvent]:
        """The open block, if there is one, is complete."""
        block, self._open = self._open, None
        if block is None:
            return []
        rest = self._flush()
        if not rest:
            return [BlockStop(self._index)]
        delta = TextDelta if isinstance(block, TextBlock) else InputDelta
        return [delta(self._index, rest), BlockStop(self._index)]

    def end(self, stop_reason: StopReason, stop_sequence: str | None, usage: Usage) -> list[ReplyEvent]:
        """The reply is complete."""
        self._check_under_way()
        closing = self.close()
        self.has_ended = True
        return [*closing, ReplyEnd(stop_reason, stop_sequence, usage)]

    def _opened(self, block: ReplyBlock) -> list[ReplyEvent]:
        self._check_under_way()
        closing = self.close()
        self._index += 1
        self._open = block
        return [*closing, BlockStart(self._index, block)]

    def _check_under_way(self) -> None:
        if not self.has_started or self.has_ended:
            raise UpstreamFailed("the service sent a part of a reply that has not begun, or is over")

    def _whole(self, text: str) -> str:
        """`text` without half a character: JSON may tell one in two escapes, and the two in two events."""
        if not self._held and text.isascii():
            return text
        text, self._held = self._held + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._held = text[:-1], text[-1]
        return _paired(text)

    def _flush(self) -> str:
        rest, self._held = self._held, ""
        return _paired(rest)


def _paired(text: str) -> str:
    """Surrogates in pairs as the characters that they stand for; single ones replaced."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
