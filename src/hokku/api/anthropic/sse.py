"""Reply events as server-sent events and as a whole message object (wire.md sections 2.5 and 3)."""

from __future__ import annotations

import json
from json.encoder import encode_basestring_ascii
from typing import Any

from hokku.api.anthropic.citations import citation_object
from hokku.api.anthropic.envelope import error_object
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
)

# The most frequent event by far is put together by hand; only its text needs escaping.
DELTA_HEAD = '{"type":"content_block_delta","index":'


def frame(name: str, **fields: Any) -> str:
    """One server-sent event."""
    return _framed(*_event(name, **fields))


def _framed(name: str, text: str) -> str:
    return f"event: {name}\ndata: {text}\n\n"


def _event(name: str, **fields: Any) -> tuple[str, str]:
    # Escaped to ASCII: some clients take U+2028 inside JSON for the end of a line.
    return name, json.dumps({"type": name, **fields}, separators=(",", ":"))


PING = frame("ping")


def event_frames(event: ReplyEvent) -> str:
    """The frames of one reply event."""
    frames = "".join([_framed(name, text) for name, text in message_events(event)])
    # The hosted service sends its first ping right after the first block's start (section 3.2).
    return frames + PING if isinstance(event, BlockStart) and event.index == 0 else frames


def text_delta(event: TextDelta) -> str:
    """The JSON of the most frequent event."""
    return f'{DELTA_HEAD}{event.index},"delta":{{"type":"text_delta","text":{encode_basestring_ascii(event.text)}}}}}'


def message_events(event: ReplyEvent) -> tuple[tuple[str, str], ...]:
    """The wire's own events for one reply event: name, and JSON."""
    match event:
        case TextDelta():
            return (("content_block_delta", text_delta(event)),)
        case InputDelta(index=index, json=text):
            escaped = encode_basestring_ascii(text)
            delta_text = (
                f'{DELTA_HEAD}{index},"delta":{{"type":"input_json_delta","partial_json":{escaped}}}}}'
            )
            return (("content_block_delta", delta_text),)
        case CitationDelta(index=index, citation=citation):
            delta = {"type": "citations_delta", "citation": citation_object(citation)}
            return (_event("content_block_delta", index=index, delta=delta),)
        case ReplyStart():
            return (_event("message_start", message=_started_message(event)),)
        case BlockStart(index=index, block=block):
            return (_event("content_block_start", index=index, content_block=block_object(block)),)
        case BlockStop(index=index):
            return (_event("content_block_stop", index=index),)
        case ReplyEnd(stop_reason=reason, stop_sequence=sequence, usage=usage):
            ending = {"stop_reason": reason, "stop_sequence": sequence, "stop_details": None}
            ended = _event("message_delta", delta=ending, usage=usage_object(usage))
            return (ended, _event("message_stop"))


def error_frame(error: Exception) -> str:
    """The last frame of a stream that cannot go on."""
    return frame("error", error=error_object(error))


def message_object(reply: Reply) -> dict[str, Any]:
    """A whole reply."""
    return {
        "model": reply.model,
        "id": reply.id,
        "type": "message",
        "role": "assistant",
        "content": [block_object(block) for block in reply.content],
        "stop_reason": reply.stop_reason,
        "stop_sequence": reply.stop_sequence,
        "stop_details": None,
        "container": None,
        "usage": usage_object(reply.usage),
    }


def block_object(block: ReplyBlock) -> dict[str, Any]:
    """A content block of a reply."""
    match block:
        case TextBlock(text=text, citations=citations):
            prose = {"type": "text", "text": text}
            # Strict clients refuse a null, so a block without citations does not speak of them (section 2.5).
            return {**prose, "citations": list(map(citation_object, citations))} if citations else prose
        case ToolUseBlock(id=call_id, name=name, input=arguments):
            call = {"type": "tool_use", "id": call_id, "name": name, "input": arguments}
            return {**call, "caller": {"type": "direct"}}


def usage_object(usage: Usage) -> dict[str, Any]:
    """Token counts, in the order of real captures."""
    return {
        "input_tokens": usage.input_tokens,
        "cache_creation_input_tokens": usage.cache_write_5m_tokens + usage.cache_write_1h_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_5m_tokens,
            "ephemeral_1h_input_tokens": usage.cache_write_1h_tokens,
        },
        "output_tokens": usage.output_tokens,
        "service_tier": usage.service_tier,
        "inference_geo": "not_available",
    }


def _started_message(start: ReplyStart) -> dict[str, Any]:
    return {
        "model": start.model,
        "id": start.id,
        "type": "message",
        "role": "assistant",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "stop_details": None,
        "container": None,
        "usage": usage_object(start.usage),
    }
