"""A reply as Converse tells it: one object, or the events of ConverseStream (wire.md section 16.4)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from json.encoder import encode_basestring_ascii
from typing import Any

from hokku.api.anthropic.sse import message_object
from hokku.api.bedrock.converse_body import AnswerForm
from hokku.api.bedrock.converse_citations import citation_object
from hokku.api.bedrock.errors import error_frame
from hokku.api.bedrock.event_stream import MEDIA_TYPE, FrameMaker, event_frame
from hokku.api.bedrock.invoke_replies import MARK, cache_write_tokens, millis_since
from hokku.api.cloud_ids import marked_events, marked_reply
from hokku.api.replies import StreamedReply, WholeReply
from hokku.protocol.events import (
    BlockStart,
    BlockStop,
    CitationDelta,
    InputDelta,
    Reply,
    ReplyBlock,
    ReplyEnd,
    ReplyEvent,
    ReplyStart,
    TextBlock,
    TextDelta,
    ToolUseBlock,
    Usage,
    fold,
)
from hokku.protocol.messages import MessagesRequest
from hokku.service.replies import ReplyStream

Event = tuple[str, str]  # an event's type, and its payload as JSON
_DELTA = "contentBlockDelta"
_DELTAS = FrameMaker("event", ":event-type", _DELTA)


class ReplyTeller:
    """Tells one reply.

    Args:
        form: what the client wants to be told besides.
        began_at: when its request came, by `perf_counter`.
    """

    def __init__(self, form: AnswerForm, began_at: float) -> None:
        self._form = form
        self._began_at = began_at
        self.remembers = bool(form.field_paths)  # something of the whole reply is asked for
        self._told: list[ReplyEvent] = []

    def whole(self, reply: Reply) -> dict[str, Any]:
        """The answer of Converse."""
        message = {"role": "assistant", "content": [_content_block(block) for block in reply.content]}
        return {
            "output": {"message": message},
            "stopReason": _stop_reason(reply.stop_reason),
            **self._fields(reply),
            **self._metadata(reply.usage),
        }

    def events(self, events: Sequence[ReplyEvent]) -> list[Event]:
        """The events of ConverseStream for these."""
        if self.remembers:
            self._told += events
        told = [each for event in events if (each := _event(event)) is not None]
        if events and isinstance(events[-1], ReplyEnd):
            told += self._ending(events[-1])
        return told

    def _ending(self, end: ReplyEnd) -> list[Event]:
        fields = self._fields(fold(self._told)) if self._told else {}
        stop = {"stopReason": _stop_reason(end.stop_reason), **fields}
        return [("messageStop", _json(stop)), ("metadata", _json(self._metadata(end.usage)))]

    def _fields(self, reply: Reply) -> dict[str, Any]:
        """The members of the model's own response that are asked for; those that it does not have are left out."""
        if not self._form.field_paths:
            return {}
        return {"additionalModelResponseFields": pointed_out(message_object(reply), self._form.field_paths)}

    def _metadata(self, usage: Usage) -> dict[str, Any]:
        form = self._form
        return {
            "usage": usage_object(usage),
            "metrics": {"latencyMs": millis_since(self._began_at)},
            **({"performanceConfig": {"latency": form.latency}} if form.latency else {}),
            **({"serviceTier": {"type": form.service_tier}} if form.service_tier else {}),
        }


class WholeConversation(WholeReply):
    """The answer of Converse."""

    def __init__(self, stream: ReplyStream, asked: MessagesRequest, teller: ReplyTeller) -> None:
        super().__init__(stream, {}, asked)
        self._teller = teller

    def _object(self, reply: Reply) -> dict[str, Any]:
        return self._teller.whole(marked_reply(reply, MARK))


class StreamedConversation(StreamedReply):
    """The events of ConverseStream, one in each frame."""

    stream_headers = {"content-type": MEDIA_TYPE}  # noqa: RUF012
    keep_alive = b""  # there is no event that says nothing

    def __init__(
        self,
        stream: ReplyStream,
        asked: MessagesRequest,
        teller: ReplyTeller,
        ping_interval_secs: float,
    ) -> None:
        super().__init__(stream, {}, asked, ping_interval_secs)
        self._teller = teller

    def _frames(self, events: list[ReplyEvent]) -> bytes:
        if len(events) == 1 and type(event := events[0]) is TextDelta and not self._teller.remembers:
            return _DELTAS.frame(_text_delta(event).encode())  # as nearly always
        told = self._teller.events(marked_events(events, MARK))
        return b"".join([event_frame(name, payload.encode()) for name, payload in told])

    def _error_frame(self, error: Exception) -> bytes:
        return error_frame(error)


def usage_object(usage: Usage) -> dict[str, Any]:
    """Token counts; what was read from or written to the cache is in the total and not in `inputTokens`."""
    written = {"1h": usage.cache_write_1h_tokens, "5m": usage.cache_write_5m_tokens}
    details = [{"ttl": ttl, "inputTokens": num_tokens} for ttl, num_tokens in written.items() if num_tokens]
    return {
        "inputTokens": usage.input_tokens,
        "outputTokens": usage.output_tokens,
        "totalTokens": usage.prompt_tokens + usage.output_tokens,
        "cacheReadInputTokens": usage.cache_read_tokens,
        "cacheWriteInputTokens": cache_write_tokens(usage),
        "cacheDetails": details,
    }


def pointed_out(value: dict[str, Any], pointers: Sequence[str]) -> dict[str, Any]:
    """What JSON pointers (RFC 6901) find in `value`, under the same names; an array's members under their indices."""
    found: dict[str, Any] = {}
    for pointer in pointers:
        names = [name.replace("~1", "/").replace("~0", "~") for name in pointer.split("/")[1:]]
        member: Any = value
        for name in names:
            member = _member(member, name)
        if member is not _MISSING:
            _put(found, names, member)
    return found


_MISSING = object()


def _member(value: object, name: str) -> Any:
    if isinstance(value, dict):
        return value.get(name, _MISSING)
    if isinstance(value, list) and (name == "0" or (name.isascii() and name.isdigit() and name[0] != "0")):
        return value[int(name)] if len(name) < 10 and int(name) < len(value) else _MISSING
    return _MISSING


def _put(found: dict[str, Any], names: Sequence[str], member: object) -> None:
    *outer, last = names
    for name in outer:
        inner = found.setdefault(name, {})
        if not isinstance(inner, dict):
            return  # it is there whole already
        found = inner
    found[last] = member


def _content_block(block: ReplyBlock) -> dict[str, Any]:
    match block:
        case TextBlock(text=text, citations=()):
            return {"text": text}
        case TextBlock(text=text, citations=citations):
            cited = list(map(citation_object, citations))
            return {"citationsContent": {"content": [{"text": text}], "citations": cited}}
        case ToolUseBlock(id=call_id, name=name, input=arguments):
            return {"toolUse": {"toolUseId": call_id, "name": name, "input": arguments}}


def _event(event: ReplyEvent) -> Event | None:
    """The event that tells this one; None where there is none, or where it is the last."""
    match event:
        case TextDelta():
            return _DELTA, _text_delta(event)
        case InputDelta(index=index, json=text):
            return _DELTA, _delta(index, toolUse={"input": text})
        case CitationDelta(index=index, citation=citation):
            return _DELTA, _delta(index, citation=citation_object(citation))
        case ReplyStart():
            return "messageStart", _json({"role": "assistant"})
        # The start of a text says nothing, and is not told.
        case BlockStart(index=index, block=ToolUseBlock(id=call_id, name=name)):
            start = {"toolUse": {"toolUseId": call_id, "name": name}}
            return "contentBlockStart", _json({"contentBlockIndex": index, "start": start})
        case BlockStop(index=index):
            return "contentBlockStop", _json({"contentBlockIndex": index})
    return None


def _text_delta(event: TextDelta) -> str:
    # The most frequent by far is put together by hand; only its text needs escaping.
    return f'{{"contentBlockIndex":{event.index},"delta":{{"text":{encode_basestring_ascii(event.text)}}}}}'


def _delta(index: int, **delta: Any) -> str:
    return _json({"contentBlockIndex": index, "delta": delta})


def _stop_reason(reason: str) -> str:
    return "content_filtered" if reason == "refusal" else reason


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
