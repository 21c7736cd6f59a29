"""A reply in the objects of this form: whole, and in chunks (wire.md section 15)."""

from __future__ import annotations

import json
from typing import Any

from hokku.protocol.events import Reply, StopReason, ToolUseBlock, Usage

Object = dict[str, Any]

FINISH_REASONS: dict[StopReason, str] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def chat_object(reply: Reply, created: int, *, uses_functions: bool) -> Object:
    """A whole chat completion."""
    choice = {
        "index": 0,
        "message": _message(reply, uses_functions),
        "logprobs": None,
        "finish_reason": finish_reason(reply.stop_reason, uses_functions=uses_functions),
    }
    return {
        "id": chat_id(reply.id),
        "object": "chat.completion",
        "created": created,
        "model": reply.model,
        "choices": [choice],
        "usage": usage_object(reply.usage),
    }


def completion_object(reply: Reply, created: int, echoed: str) -> Object:
    """A whole text completion."""
    choice = {
        "text": echoed + reply.text,
        "index": 0,
        "logprobs": None,
        "finish_reason": finish_reason(reply.stop_reason, uses_functions=False),
    }
    return {
        "id": completion_id(reply.id),
        "object": "text_completion",
        "created": created,
        "model": reply.model,
        "choices": [choice],
        "usage": usage_object(reply.usage),
    }


def usage_object(usage: Usage) -> Object:
    """Token counts; the prompt's are all of it, cached or not."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.prompt_tokens + usage.output_tokens,
    }


def finish_reason(reason: StopReason, *, uses_functions: bool) -> str:
    """Why a reply ended, in this form's words."""
    return "function_call" if uses_functions and reason == "tool_use" else FINISH_REASONS[reason]


def chat_id(message_id: str) -> str:
    """A message's id under the prefix that these replies have."""
    return "chatcmpl-" + message_id.removeprefix("msg_")


def completion_id(message_id: str) -> str:
    """A message's id under the prefix that text completions have."""
    return "cmpl-" + message_id.removeprefix("msg_")


def call_id(tool_use_id: str) -> str:
    """A call's id under the prefix that it has here."""
    return "call_" + tool_use_id.removeprefix("toolu_")


def _message(reply: Reply, uses_functions: bool) -> Object:
    calls = [block for block in reply.content if isinstance(block, ToolUseBlock)]
    message: Object = {
        "role": "assistant",
        "content": reply.text if reply.text or not calls else None,
        "refusal": None,
    }
    if calls and uses_functions:
        return {**message, "function_call": _function(calls[0])}
    if calls:
        listed = [{"id": call_id(call.id), "type": "function", "function": _function(call)} for call in calls]
        return {**message, "tool_calls": listed}
    return message


def _function(call: ToolUseBlock) -> Object:
    return {"name": call.name, "arguments": json.dumps(call.input, ensure_ascii=False)}
