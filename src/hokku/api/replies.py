"""A reply on its way out of any wire: streamed or folded into one object, and abandoned when the client leaves.

A wire says how its object, its frames and its error frame look; the rest is the same for all.
"""

from __future__ import annotations

import asyncio
import json
import logging
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hokku.api.fallback import fallback_headers
from hokku.api.wire import Wire
from hokku.protocol.errors import RequestError
from hokku.protocol.events import Reply, ReplyEnd, ReplyEvent, fold
from hokku.protocol.exchange import Asked, Exchange, ReplyWatch
from hokku.protocol.messages import MessagesRequest
from hokku.service.replies import ReplyStream

log = logging.getLogger(__name__)

SSE_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # keeps a proxy in front from holding frames back
}


class ReplyResponse(Response, ABC):
    """An ASGI answer made from a `ReplyStream`. Whatever happens, the generation is over when it returns."""

    is_streamed = False

    def __init__(self, stream: ReplyStream, extra_headers: dict[str, str], asked: MessagesRequest) -> None:
        self.status_code = 200
        self.background = None
        self._stream = stream
        self._watch = ReplyWatch(Asked.of(asked), self.is_streamed)
        self._extra_headers = extra_headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the reply, and let go of it in every case."""
        exchange: Exchange = scope["hokku.exchange"]
        exchange.reply = self._watch
        watcher = asyncio.create_task(_cancel_on_disconnect(receive, self._stream))
        try:
            # In a task of its own a wake-up goes through these few coroutines, not through the whole framework's.
            await asyncio.create_task(self._answer(scope, send))
        finally:
            watcher.cancel()
            self._stream.cancel()
            self._watch.usage = self._stream.usage
            self._watch.model_id = self._stream.model_id

    def _own_headers(self) -> dict[str, str]:
        """Those that were given, and who answered in whose place; known with the first event."""
        return self._extra_headers | fallback_headers(self._stream)

    @abstractmethod
    async def _answer(self, scope: Scope, send: Send) -> None:
        """Send the whole HTTP answer."""


class WholeReply(ReplyResponse):
    """One JSON object."""

    async def _answer(self, scope: Scope, send: Send) -> None:
        events = await self._stream.all_events()
        self._watch.note(events)
        if not _is_complete(events):
            return  # the client has left
        reply = fold(events)
        body = json.dumps(self._object(reply)).encode()
        kind = {"content-type": "application/json", "content-length": str(len(body))}
        headers = _encoded(kind | self._own_headers() | self._headers_of(reply))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    @abstractmethod
    def _object(self, reply: Reply) -> dict[str, Any]:
        """The JSON object that the client gets."""

    def _headers_of(self, reply: Reply) -> dict[str, str]:
        """What headers say about a whole reply, where this wire has such."""
        return {}


class StreamedReply(ReplyResponse):
    """Frames, one after the other. What fails before anything is sent is answered as an ordinary error."""

    is_streamed = True
    stream_headers: ClassVar[dict[str, str]] = SSE_HEADERS
    keep_alive: ClassVar[
        bytes
    ]  # a frame that says nothing, for a proxy in between; b"" where a wire has none

    def __init__(
        self,
        stream: ReplyStream,
        extra_headers: dict[str, str],
        asked: MessagesRequest,
        ping_interval_secs: float,
    ) -> None:
        super().__init__(stream, extra_headers, asked)
        self._ping_interval_secs = ping_interval_secs

    async def _answer(self, scope: Scope, send: Send) -> None:
        events = await self._stream.next_events(self._ping_interval_secs)
        if self._stream.is_finished and not events:
            return  # the client has left
        headers = _encoded(self.stream_headers | self._own_headers())
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        # The layers in between only look at the start; the rest goes straight to the server.
        send = scope["hokku.send"]
        self._watch.note(events)
        while not self._stream.is_finished:
            await _send_frames(send, self._frames(events) or self.keep_alive, more=True)
            try:
                events = await self._stream.next_events(self._ping_interval_secs)
                self._watch.note(events)
            except Exception as error:
                wire: Wire = scope["hokku.wire"]
                scope["hokku.exchange"].error_type = wire.error_type(error)
                _log_failure(error, scope)
                await _send_frames(send, self._error_frame(error), more=False)
                return
        await _send_frames(send, self._frames(events), more=False)

    @abstractmethod
    def _frames(self, events: list[ReplyEvent]) -> bytes:
        """The frames that the client gets for these events; b"" where it gets none."""

    @abstractmethod
    def _error_frame(self, error: Exception) -> bytes:
        """The last frame of a stream that cannot go on."""


async def _send_frames(send: Send, frames: bytes, *, more: bool) -> None:
    # The frames of one wake-up leave in one send: one system call, one packet.
    await send({"type": "http.response.body", "body": frames, "more_body": more})


async def _cancel_on_disconnect(receive: Receive, stream: ReplyStream) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    stream.cancel()


def _is_complete(events: list[ReplyEvent]) -> bool:
    return bool(events) and isinstance(events[-1], ReplyEnd)


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def _log_failure(error: Exception, scope: Scope) -> None:
    if isinstance(error, RequestError):
        log.warning("request %s ended mid-stream: %s", scope["hokku.request_id"], error)
    else:
        log.error("request %s failed mid-stream", scope["hokku.request_id"], exc_info=error)
