"""A reply as a stream of events; the whole message is the stream summed up (`fold`).

These are the values between `chat/`, `service/` and the wires: a codec reads pieces out of tokens, the service makes
events of them, a wire turns each event into its own frame.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from json import JSONDecodeError, JSONDecoder
from typing import Any, Literal

from hokku.protocol.citations import Citation

StopReason = Literal[
    "end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal", "model_context_window_exceeded"
]


@dataclass(frozen=True, slots=True)
class CallStart:
    """The model has begun to call this tool."""

    name: str


@dataclass(frozen=True, slots=True)
class CallInput:
    """More of the call's input, as JSON text."""

    json: str


@dataclass(frozen=True, slots=True)
class CallEnd:
    """The call's input is whole."""


ReplyPiece = str | CallStart | CallInput | CallEnd  # a bare string is prose


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request. `input` + `cache_write_5m` + `cache_write_1h` + `cache_read` is the whole prompt."""

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    service_tier: str = "standard"

    @property
    def prompt_tokens(self) -> int:
        """The whole prompt."""
        cached = self.cache_read_tokens + self.cache_write_5m_tokens + self.cache_write_1h_tokens
        return self.input_tokens + cached


@dataclass(frozen=True, slots=True)
class TextBlock:
    """Prose, and the passages it rests on where the request asks for them."""

    text: str = ""
    citations: tuple[Citation, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolUseBlock:
    """A call of a client tool."""

    id: str
    name: str
    input: dict[str, Any] = field(default_factory=dict)


ReplyBlock = TextBlock | ToolUseBlock


@dataclass(frozen=True, slots=True)
class ReplyStart:
    """First event. `usage.output_tokens` is 1 here, by the wire's custom."""

    id: str
    model: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class BlockStart:
    """A content block opens; indices run 0, 1, 2 … and only one block is open at a time."""

    index: int
    block: ReplyBlock


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More text of the open block. Never half a character."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class CitationDelta:
    """One more passage that the open block's text rests on."""

    index: int
    citation: Citation


@dataclass(frozen=True, slots=True)
class InputDelta:
    """More JSON text of the open call's input; all of it together is one object, unless the reply was cut off."""

    index: int
    json: str


@dataclass(frozen=True, slots=True)
class BlockStop:
    """The open block is complete, or as complete as it will be."""

    index: int


@dataclass(frozen=True, slots=True)
class ReplyEnd:
    """Last event: why it ended and the final usage."""

    stop_reason: StopReason
    stop_sequence: str | None
    usage: Usage


ReplyEvent = ReplyStart | BlockStart | TextDelta | CitationDelta | InputDelta | BlockStop | ReplyEnd


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply."""

    id: str
    model: str
    content: tuple[ReplyBlock, ...]
    stop_reason: StopReason
    stop_sequence: str | None
    usage: Usage

    @property
    def text(self) -> str:
        """All prose of the reply."""
        return "".join(block.text for block in self.content if isinstance(block, TextBlock))


def fold(events: Iterable[ReplyEvent]) -> Reply:
    """Sum a complete event stream up into the message it describes."""
    start: ReplyStart | None = None
    blocks: list[ReplyBlock] = []
    pieces: list[str] = []
    citations: list[Citation] = []
    for event in events:
        match event:
            case ReplyStart():
                start = event
            case BlockStart(block=block):
                blocks.append(block)
                pieces, citations = [], []
            case TextDelta(text=text) | InputDelta(json=text):
                pieces.append(text)
            case CitationDelta(citation=citation):
                citations.append(citation)
            case BlockStop():
                blocks[-1] = _filled(blocks[-1], "".join(pieces), citations)
            case ReplyEnd(stop_reason=reason, stop_sequence=sequence, usage=usage):
                if start is None:
                    raise ValueError("a reply's events begin with ReplyStart")
                return Reply(start.id, start.model, tuple(blocks), reason, sequence, usage)
    raise ValueError("a reply's events end with ReplyEnd")


def complete_members(text: str) -> dict[str, Any]:
    """The members of the JSON object that `text` begins, as far as they are whole: all of them, unless the reply was
    cut off inside."""
    try:
        whole = JSONDecoder().decode(text)
        return whole if isinstance(whole, dict) else {}
    except JSONDecodeError:
        return _whole_members(text)


def _filled(block: ReplyBlock, text: str, citations: Iterable[Citation]) -> ReplyBlock:
    if isinstance(block, TextBlock):
        return TextBlock(block.text + text, (*block.citations, *citations))
    return replace(block, input=complete_members(text)) if text else block


def _whole_members(text: str) -> dict[str, Any]:
    decoder = JSONDecoder()
    members: dict[str, Any] = {}
    at = _past(text, 0, "{")
    try:
        while at:
            name, at = decoder.raw_decode(text, at)
            at = _past(text, at, ":")
            if at:
                value, end = decoder.raw_decode(text, at)
                at = _past(text, end, ",")
                if at or not isinstance(value, int | float) or isinstance(value, bool):
                    members[name] = value  # but a number at the very end may lack digits
    except JSONDecodeError:
        pass  # inside a member
    return members


def _past(text: str, at: int, mark: str) -> int:
    """The place behind `mark` and the white space around it; 0 if something else or nothing stands at `at`."""
    rest = text[at:].lstrip()
    return len(text) - len(rest[1:].lstrip()) if rest.startswith(mark) else 0
