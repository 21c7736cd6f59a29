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

# The most frequent frame by far is put together by hand; only its text needs escaping.
DELTA_HEAD = 'event: content_block_delta\ndata: {"type":"content_block_delta","index":'


def frame(name: str, **fields: Any) -> str:
    """One server-sent event. Escaped to ASCII: some clients take U+2028 inside JSON for the end of a line."""
    return f"event: {name}\ndata: {json.dumps({'type': name, **fields}, separators=(',', ':'))}\n\n"


PING = frame("ping")


def event_frames(event: ReplyEvent) -> str:
    """The frames of one reply event."""
    match event:
        case TextDelta(index=index, text=text):
            escaped = encode_basestring_ascii(text)
            return f'{DELTA_HEAD}{index},"delta":{{"type":"text_delta","text":{escaped}}}}}\n\n'
        case InputDelta(index=index, json=text):
            escaped = encode_basestring_ascii(text)
            return f'{DELTA_HEAD}{index},"delta":{{"type":"input_json_delta","partial_json":{escaped}}}}}\n\n'
        case CitationDelta(index=index, citation=citation):
            delta = {"type": "citations_delta", "citation": citation_object(citation)}
            return frame("content_block_delta", index=index, delta=delta)
        case ReplyStart():
            return frame("message_start", message=_started_message(event))
        case BlockStart(index=index, block=block):
            started = frame("content_block_start", index=index, content_block=block_object(block))
            # The hosted service sends its first ping right here (section 3.2).
            return started + PING if index == 0 else started
        case BlockStop(index=index):
            return frame("content_block_stop", index=index)
        case ReplyEnd(stop_reason=reason, stop_sequence=sequence, usage=usage):
            ending = {"stop_reason": reason, "stop_sequence": sequence, "stop_details": None}
            ended = frame("message_delta", delta=ending, usage=usage_object(usage))
            return ended + frame("message_stop")


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
