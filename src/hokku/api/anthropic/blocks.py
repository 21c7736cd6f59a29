"""Content blocks of a request body (wire.md section 2.3)."""

from __future__ import annotations

import re
from typing import Any

from hokku.api.anthropic.attachments import ATTACHMENT_TYPES, attachment_block
from hokku.api.anthropic.fields import (
    a_boolean,
    a_string,
    a_tagged_object,
    an_array,
    an_object,
    joined,
    refuse,
    refuse_deep,
    refuse_extras,
    refuse_tag,
    required,
)
from hokku.api.anthropic.findings import Findings, note_mark
from hokku.api.anthropic.texts import text_block, users_text_block
from hokku.protocol.messages import (
    Attachment,
    Part,
    Role,
    SearchResultPart,
    TextPart,
    ToolResultPart,
    ToolUsePart,
)

ASSISTANT_ONLY = ("thinking", "redacted_thinking", "tool_use")
USER_ONLY = ("tool_result", "image", "search_result")
BLOCK_TYPES = sorted({"text", *ASSISTANT_ONLY, *USER_ONLY, *ATTACHMENT_TYPES})
RESULT_TYPES = sorted({"text", *ATTACHMENT_TYPES})  # in the content of a tool_result
ID_PATTERN = "^[a-zA-Z0-9_-]+$"
MAX_REPLAYED_NAME_CHARS = 200
MAX_INPUT_DEPTH = 100


def content_block(value: object, role: Role, path: str, findings: Findings) -> Part | None:
    """One block of a message, or None for a block the model does not see."""
    block, kind = a_tagged_object(value, path, BLOCK_TYPES)
    if kind in ASSISTANT_ONLY and role == "user":
        refuse(path, f"`{kind}` blocks can only be in `assistant` messages")
    is_user_only = kind in USER_ONLY or (kind == "document" and not findings.takes_assistant_documents)
    if is_user_only and role == "assistant":
        refuse(path, f"`{kind}` blocks can only be in `user` messages")
    tagged = f"{path}.{kind}"
    if kind == "text":
        read_text = users_text_block if role == "user" else text_block
        return read_text(block, tagged, findings, mark_path=path)
    if kind == "tool_use":
        return tool_use_block(block, tagged, findings, mark_path=path)
    if kind == "tool_result":
        return tool_result_block(block, tagged, findings, mark_path=path)
    if kind in ATTACHMENT_TYPES:
        return attachment_block(block, tagged, findings, mark_path=path)
    thinking_block(block, tagged)
    return None


def tool_use_block(block: dict[str, Any], path: str, findings: Findings, *, mark_path: str) -> ToolUsePart:
    """A call that the assistant made, replayed."""
    call_id = _call_id(block, "id", path)
    name = a_string(required(block, "name", path), joined(path, "name"))
    if not name:
        refuse(joined(path, "name"), "String should have at least 1 character")
    if len(name) > MAX_REPLAYED_NAME_CHARS:
        refuse(joined(path, "name"), f"String should have at most {MAX_REPLAYED_NAME_CHARS} characters")
    arguments = required(block, "input", path)
    if not isinstance(arguments, dict):
        refuse(joined(path, "input"), "Input should be a valid dictionary")
    refuse_deep(arguments, MAX_INPUT_DEPTH, joined(path, "input"))
    cache_secs = note_mark(block, path, findings, mark_path)
    caller = block.get("caller")
    if caller is not None:
        kind = required(an_object(caller, joined(path, "caller")), "type", joined(path, "caller"))
        if kind != "direct":
            refuse_tag(joined(path, "caller"), kind, ["direct"])
    _refuse_toolset(block, path)
    refuse_extras(block, ("type", "id", "name", "input", "cache_control", "caller", "toolset_name"), path)
    return ToolUsePart(call_id, name, arguments, cache_secs)


def tool_result_block(
    block: dict[str, Any], path: str, findings: Findings, *, mark_path: str
) -> ToolResultPart:
    """What a call gave, as the client tells it. A mark inside counts as one on the whole block."""
    call_id = _call_id(block, "tool_use_id", path)
    parts = _result_parts(block.get("content", ""), joined(path, "content"), findings)
    is_error = block.get("is_error")
    if is_error is not None:
        a_boolean(is_error, joined(path, "is_error"))
    lifetimes = [part.cache_secs or 0 for part in parts]
    cache_secs = max(note_mark(block, path, findings, mark_path) or 0, *lifetimes, 0) or None
    _refuse_toolset(block, path)
    known = ("type", "tool_use_id", "content", "is_error", "cache_control", "toolset_name")
    refuse_extras(block, known, path)
    return ToolResultPart(call_id, parts, bool(is_error), cache_secs)


def _result_parts(content: object, path: str, findings: Findings) -> tuple[TextPart | Attachment, ...]:
    if isinstance(content, str):
        return (TextPart(content),) if content else ()
    blocks = enumerate(an_array(content, path))
    parts = [_result_part(value, f"{path}.{index}", findings) for index, value in blocks]
    if len({isinstance(part, SearchResultPart) for part in parts}) > 1:
        refuse(path, "a `tool_result` that contains `search_result` blocks must contain no others")
    return tuple(part for part in parts if not isinstance(part, TextPart) or part.text)


def _result_part(value: object, path: str, findings: Findings) -> TextPart | Attachment:
    block, kind = a_tagged_object(value, path, RESULT_TYPES)
    read = users_text_block if kind == "text" else attachment_block
    return read(block, f"{path}.{kind}", findings, mark_path=path)


def _call_id(block: dict[str, Any], name: str, path: str) -> str:
    call_id = a_string(required(block, name, path), joined(path, name))
    if not re.fullmatch(ID_PATTERN[1:-1], call_id):
        refuse(joined(path, name), f"String should match pattern '{ID_PATTERN}'")
    return call_id


def _refuse_toolset(block: dict[str, Any], path: str) -> None:
    if block.get("toolset_name") is not None:
        refuse(joined(path, "toolset_name"), "Input should be null: there are no toolsets")


def thinking_block(block: dict[str, Any], path: str) -> None:
    """A thought replayed from another model's turn: checked, and not shown to this one (section 2.3)."""
    names = ("data",) if block["type"] == "redacted_thinking" else ("thinking", "signature")
    for name in names:
        a_string(required(block, name, path), joined(path, name))
    refuse_extras(block, ("type", *names), path)
