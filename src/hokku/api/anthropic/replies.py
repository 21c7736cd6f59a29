"""A message on its way out: one JSON object, or server-sent events (wire.md sections 2.5 and 3)."""

from __future__ import annotations

from typing import Any

from hokku.api.anthropic.sse import PING, error_frame, event_frames, message_object
from hokku.api.replies import StreamedReply, WholeReply
from hokku.protocol.events import Reply, ReplyEvent


class WholeMessage(WholeReply):
    """One JSON message."""

    def _object(self, reply: Reply) -> dict[str, Any]:
        return message_object(reply)


class StreamedMessage(StreamedReply):
    """The events of a message."""

    keep_alive = PING.encode()

    def _frames(self, events: list[ReplyEvent]) -> bytes:
        return "".join(map(event_frames, events)).encode()

    def _error_frame(self, error: Exception) -> bytes:
        return error_frame(error).encode()
