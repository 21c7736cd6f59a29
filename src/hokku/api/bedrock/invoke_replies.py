"""A message on its way out of InvokeModel: JSON with counts in the headers, or frames (wire.md 16.2 and 16.3)."""

from __future__ import annotations

import json
from binascii import b2a_base64
from time import perf_counter
from typing import Any

from hokku.api.anthropic.sse import message_events, message_object, text_delta
from hokku.api.bedrock.errors import error_frame
from hokku.api.bedrock.event_stream import MEDIA_TYPE, FrameMaker
from hokku.api.cloud_ids import marked_events, marked_reply
from hokku.api.replies import StreamedReply, WholeReply
from hokku.protocol.events import Reply, ReplyEnd, ReplyEvent, TextDelta, Usage
from hokku.protocol.messages import MessagesRequest
from hokku.service.replies import ReplyStream

MARK = "bdrk"
_CHUNKS = FrameMaker("event", ":event-type", "chunk")


class WholeInvocation(WholeReply):
    """One JSON message.

    Args:
        began_at: when the request came, in seconds of `perf_counter`.
    """

    def __init__(
        self, stream: ReplyStream, extra_headers: dict[str, str], asked: MessagesRequest, began_at: float
    ) -> None:
        super().__init__(stream, extra_headers, asked)
        self._began_at = began_at

    def _object(self, reply: Reply) -> dict[str, Any]:
        return message_object(marked_reply(reply, MARK))

    def _headers_of(self, reply: Reply) -> dict[str, str]:
        usage = reply.usage
        counts = {
            "invocation-latency": millis_since(self._began_at),
            "input-token-count": usage.input_tokens,
            "output-token-count": usage.output_tokens,
            "cache-read-input-token-count": usage.cache_read_tokens,
            "cache-write-input-token-count": cache_write_tokens(usage),
        }
        return {f"x-amzn-bedrock-{name}": str(count) for name, count in counts.items()}


class StreamedInvocation(StreamedReply):
    """The events of a message, one in each frame; the last one has the invocation's metrics."""

    stream_headers = {"content-type": MEDIA_TYPE, "x-amzn-bedrock-content-type": "application/json"}  # noqa: RUF012
    keep_alive = b""  # SDKs know no event that says nothing

    def __init__(
        self,
        stream: ReplyStream,
        extra_headers: dict[str, str],
        asked: MessagesRequest,
        ping_interval_secs: float,
        began_at: float,
    ) -> None:
        super().__init__(stream, extra_headers, asked, ping_interval_secs)
        self._began_at = began_at
        self._first_byte_millis: int | None = None

    def _frames(self, events: list[ReplyEvent]) -> bytes:
        if len(events) == 1 and type(event := events[0]) is TextDelta:  # as nearly always
            return _chunk(text_delta(event))
        if events and self._first_byte_millis is None:
            self._first_byte_millis = millis_since(self._began_at)
        texts = [text for event in marked_events(events, MARK) for _, text in message_events(event)]
        if events and isinstance(end := events[-1], ReplyEnd):
            texts[-1] = self._with_metrics(texts[-1], end.usage)
        return b"".join(map(_chunk, texts))

    def _with_metrics(self, message_stop: str, usage: Usage) -> str:
        metrics = {
            "inputTokenCount": usage.input_tokens,
            "outputTokenCount": usage.output_tokens,
            "invocationLatency": millis_since(self._began_at),
            "firstByteLatency": self._first_byte_millis,
        }
        if usage.cache_read_tokens or cache_write_tokens(usage):
            metrics["cacheReadInputTokenCount"] = usage.cache_read_tokens
            metrics["cacheWriteInputTokenCount"] = cache_write_tokens(usage)
        stop = json.loads(message_stop) | {"amazon-bedrock-invocationMetrics": metrics}
        return json.dumps(stop, separators=(",", ":"))

    def _error_frame(self, error: Exception) -> bytes:
        return error_frame(error)


def millis_since(began_at: float) -> int:
    """Milliseconds from a moment of `perf_counter` until now."""
    return int((perf_counter() - began_at) * 1000)


def cache_write_tokens(usage: Usage) -> int:
    """Tokens of the prompt that were put into the cache, for whichever time."""
    return usage.cache_write_5m_tokens + usage.cache_write_1h_tokens


def _chunk(text: str) -> bytes:
    # Put together by hand, for there is one for every few tokens; base64 has nothing that JSON would escape.
    return _CHUNKS.frame(b'{"bytes":"' + b2a_base64(text.encode(), newline=False) + b'"}')
