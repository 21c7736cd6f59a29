"""Replies in the form of the legacy Text Completions endpoint (wire.md section 9)."""

from __future__ import annotations

from typing import Any, Literal

from hokku.api.anthropic.replies import StreamedMessage
from hokku.api.anthropic.sse import frame
from hokku.api.replies import WholeReply
from hokku.protocol.events import Reply, ReplyEnd, ReplyEvent, ReplyStart, StopReason, TextBlock, TextDelta

CompletionStop = Literal["stop_sequence", "max_tokens"]


class WholeCompletion(WholeReply):
    """One JSON completion."""

    def _object(self, reply: Reply) -> dict[str, Any]:
        text = "".join(block.text for block in reply.content if isinstance(block, TextBlock))
        stop_reason = completion_stop(reply.stop_reason)
        return {"type": "completion", **completion_fields(reply.id, reply.model, text, stop_reason)}


class StreamedCompletion(StreamedMessage):
    """`completion` events, each with new text; the last has the stop reason."""

    _id = _model = ""

    def _frames(self, events: list[ReplyEvent]) -> bytes:
        frames = []
        for event in events:
            match event:
                case ReplyStart(id=reply_id, model=model):
                    self._id, self._model = reply_id, model
                case TextDelta(text=text):
                    frames.append(self._frame(text, None))
                case ReplyEnd(stop_reason=reason):
                    frames.append(self._frame("", completion_stop(reason)))
        return "".join(frames).encode()

    def _frame(self, text: str, stop_reason: CompletionStop | None) -> str:
        return frame("completion", **completion_fields(self._id, self._model, text, stop_reason))


def completion_fields(
    reply_id: str, model: str, text: str, stop_reason: CompletionStop | None
) -> dict[str, str | None]:
    """All of a completion object but its type. The id is the message's under the other prefix."""
    completion_id = "compl_" + reply_id.removeprefix("msg_")
    return {"id": completion_id, "completion": text, "stop_reason": stop_reason, "model": model}


def completion_stop(reason: StopReason) -> CompletionStop:
    """This endpoint knew two reasons: the end of a turn was the implicit stop sequence's."""
    return "stop_sequence" if reason in ("end_turn", "stop_sequence") else "max_tokens"
