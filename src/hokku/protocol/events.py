"""A reply as a stream of events; the whole message is the stream summed up (`fold`).

These are the values between `chat/`, `service/` and the wires. A wire turns each into its own frame.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

StopReason = Literal[
    "end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal", "model_context_window_exceeded"
]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request. `input` + `cache_write_5m` + `cache_write_1h` + `cache_read` is the whole prompt."""

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    service_tier: str = "standard"


@dataclass(frozen=True, slots=True)
class TextBlock:
    """Prose."""

    text: str = ""


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
class BlockStop:
    """The open block is complete."""

    index: int


@dataclass(frozen=True, slots=True)
class ReplyEnd:
    """Last event: why it ended and the final usage."""

    stop_reason: StopReason
    stop_sequence: str | None
    usage: Usage


ReplyEvent = ReplyStart | BlockStart | TextDelta | BlockStop | ReplyEnd


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
    for event in events:
        match event:
            case ReplyStart():
                start = event
            case BlockStart(block=block):
                blocks.append(block)
                pieces = []
            case TextDelta(text=text):
                pieces.append(text)
            case BlockStop():
                if isinstance(blocks[-1], TextBlock):
                    blocks[-1] = replace(blocks[-1], text=blocks[-1].text + "".join(pieces))
            case ReplyEnd(stop_reason=reason, stop_sequence=sequence, usage=usage):
                if start is None:
                    raise ValueError("a reply's events begin with ReplyStart")
                return Reply(start.id, start.model, tuple(blocks), reason, sequence, usage)
    raise ValueError("a reply's events end with ReplyEnd")
