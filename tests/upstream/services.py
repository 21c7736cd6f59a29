"""Other services for tests: a scripted one that speaks whatever it is told to, and requests to ask them with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from hokku.protocol.events import (
    BlockStart,
    BlockStop,
    CitationDelta,
    InputDelta,
    ReplyEnd,
    ReplyEvent,
    ReplyStart,
    TextBlock,
    TextDelta,
    ToolUseBlock,
)
from hokku.protocol.messages import Conversation, MessagesRequest, TextPart, Turn
from tests.live import live_server

KEY = "sk-upstream-0123456789"
Pieces = Sequence[bytes | float]  # bytes to send; seconds to wait


def asking(text: str = "Hi", **changes: object) -> MessagesRequest:
    """A request for a reply to one question."""
    conversation = Conversation((), (Turn("user", (TextPart(text),)),))
    return replace(MessagesRequest("one", conversation, max_tokens=100), **changes)  # type: ignore[arg-type]


def sse(*events: object) -> bytes:
    """Events of these data; strings as they are, all else as JSON."""
    texts = (event if isinstance(event, str) else json.dumps(event) for event in events)
    return b"".join(f"data: {text}\n\n".encode() for text in texts)


@dataclass
class ScriptedService:
    """Answers every request with the same bytes, and keeps what it was asked."""

    pieces: Pieces = ()
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "text/event-stream"})
    asked: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)
    num_left: int = 0  # readers that went before the end

    async def answer(self, request: Request) -> Response:
        self.asked.append((request.url.path, dict(request.headers), await request.json()))
        return StreamingResponse(self._sent(), self.status, self.headers)

    async def _sent(self) -> AsyncIterator[bytes]:
        try:
            for piece in self.pieces:
                if isinstance(piece, float):
                    await asyncio.sleep(piece)
                else:
                    yield piece
        except asyncio.CancelledError:
            self.num_left += 1
            raise

    @contextmanager
    def live(self) -> Iterator[str]:
        """Serve until the block ends; gives the base URL."""
        with live_server(Starlette(routes=[Route("/{path:path}", self.answer, methods=["POST"])])) as url:
            yield url


def check_order(events: Sequence[ReplyEvent]) -> None:
    """Fails where events are not in the order that accumulators of clients rely on; the last may be missing."""
    if not events:
        return
    assert isinstance(events[0], ReplyStart)
    index, block = -1, None
    for place, event in enumerate(events[1:], 1):
        match event:
            case ReplyStart():
                raise AssertionError("two starts")
            case BlockStart():
                assert (block, event.index) == (None, index + 1)
                index, block = event.index, event.block
            case TextDelta():
                assert (event.index, type(block)) == (index, TextBlock)
                assert event.text.encode()
            case CitationDelta():
                assert (event.index, type(block)) == (index, TextBlock)
            case InputDelta():
                assert (event.index, type(block)) == (index, ToolUseBlock)
                assert event.json.encode()
            case BlockStop():
                assert block is not None
                assert event.index == index
                block = None
            case ReplyEnd():
                assert block is None
                assert place == len(events) - 1
