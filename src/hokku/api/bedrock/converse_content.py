"""Content blocks of a Converse request, as blocks of the model's own body (wire.md section 16.4).

Each becomes one block, so borders and cache marks stay where the client has put them: a cache point is a mark on the
block before it. How blocks may follow each other is checked with the model's own body.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hokku.api.anthropic.fields import refuse_deep
from hokku.api.bedrock.converse_attachments import (
    Block,
    document_block,
    image_block,
    search_result_block,
    text_block,
    texts,
)
from hokku.api.bedrock.converse_citations import read_citation
from hokku.api.bedrock.converse_fields import (
    a_choice,
    a_document,
    a_list,
    a_structure,
    a_text,
    a_union,
    joined,
    needed,
    not_served,
)
from hokku.protocol.errors import InvalidRequest

NOT_SERVED = {
    "video": "videos",
    "audio": "sound",
    "toolAddition": "tools that come and go within a conversation",
    "toolRemoval": "tools that come and go within a conversation",
}
SYSTEM_MEMBERS = ("text", "guardContent", "cachePoint")
RESULT_MEMBERS = ("json", "text", "image", "document", "video", "searchResult")
CONTENT_MEMBERS = (
    "text",
    "image",
    "document",
    "toolUse",
    "toolResult",
    "guardContent",
    "cachePoint",
    "reasoningContent",
    "citationsContent",
    "searchResult",
    *NOT_SERVED,
)
QUALIFIERS = ("grounding_source", "query", "guard_content")
GUARDED_IMAGE_FORMATS = ("png", "jpeg")
CALL_ID_PATTERN = "[a-zA-Z0-9_.:-]+"
TOOL_NAME_PATTERN = "[a-zA-Z0-9_-]+"
MAX_NAME_CHARS = 64  # of a tool, and of a call's id
MAX_JSON_DEPTH = 100


def read_content(value: object, path: str) -> list[Block]:
    """The content of a message."""
    return _blocks(value, path, CONTENT_MEMBERS, _content_block)


def read_system(value: object, path: str) -> list[Block]:
    """The system prompt."""
    return _blocks(value, path, SYSTEM_MEMBERS, _system_block)


def mark_last(blocks: list[Block], value: object, path: str) -> None:
    """A cache point, as the mark of the block, or the tool, before it."""
    point = a_structure(value, path, ("type", "ttl"))
    a_choice(needed(point, "type", path), joined(path, "type"), ("default",))
    ttl = a_choice(point.get("ttl", "5m"), joined(path, "ttl"), ("5m", "1h"))
    if not blocks:
        raise InvalidRequest("nothing stands before it that could be cached", place=path)
    if "cache_control" in blocks[-1]:
        raise InvalidRequest("another cache point stands right before it", place=path)
    blocks[-1]["cache_control"] = {"type": "ephemeral", "ttl": ttl}


def a_tool_name(value: object, path: str) -> str:
    """The name of a tool."""
    return a_text(value, path, least=1, most=MAX_NAME_CHARS, pattern=TOOL_NAME_PATTERN)


def _blocks(
    value: object, path: str, members: tuple[str, ...], read: Callable[[str, Any, str], Block]
) -> list[Block]:
    """A list of a union; `read` makes a block of a member's name, its value and its path."""
    blocks: list[Block] = []
    for index, each in enumerate(a_list(value, path)):
        name, member = a_union(each, f"{path}.{index}", members)
        place = f"{path}.{index}.{name}"
        if name == "cachePoint":
            mark_last(blocks, member, place)
        else:
            blocks.append(read(name, member, place))
    return blocks


def _content_block(name: str, value: object, path: str) -> Block:
    match name:
        case "text":
            return text_block(a_text(value, path))
        case "image":
            return image_block(value, path)
        case "document":
            return document_block(value, path)
        case "searchResult":
            return search_result_block(value, path)
        case "toolUse":
            return _tool_use(value, path)
        case "toolResult":
            return _tool_result(value, path)
        case "guardContent":
            return _guarded(value, path)
        case "reasoningContent":
            return _reasoning(value, path)
        case "citationsContent":
            return _cited_text(value, path)
    return not_served(path, NOT_SERVED[name])


def _system_block(name: str, value: object, path: str) -> Block:
    return text_block(a_text(value, path, least=1)) if name == "text" else _guarded(value, path)


def _result_block(name: str, value: object, path: str) -> Block:
    if name != "json":
        return _content_block(name, value, path)
    refuse_deep(value, MAX_JSON_DEPTH, path)
    return text_block(json.dumps(value, ensure_ascii=False))


def _guarded(value: object, path: str) -> Block:
    """What a guardrail would look at: there are none here, so it is what the model reads of it."""
    name, member = a_union(value, path, ("text", "image"))
    place = joined(path, name)
    if name == "image":
        return image_block(member, place, GUARDED_IMAGE_FORMATS)
    guarded = a_structure(member, place, ("text", "qualifiers"))
    for index, qualifier in enumerate(a_list(guarded.get("qualifiers", []), joined(place, "qualifiers"))):
        a_choice(qualifier, f"{place}.qualifiers.{index}", QUALIFIERS)
    return text_block(a_text(needed(guarded, "text", place), joined(place, "text")))


def _tool_use(value: object, path: str) -> Block:
    call = a_structure(value, path, ("toolUseId", "name", "input", "type"))
    _refuse_servers_tool(call, path)
    return {
        "type": "tool_use",
        "id": _call_id(call, path),
        "name": a_tool_name(needed(call, "name", path), joined(path, "name")),
        "input": a_document(needed(call, "input", path), joined(path, "input")),
    }


def _tool_result(value: object, path: str) -> Block:
    result = a_structure(value, path, ("toolUseId", "content", "status", "type"))
    _refuse_servers_tool(result, path)
    content = needed(result, "content", path)
    status = a_choice(result.get("status", "success"), joined(path, "status"), ("success", "error"))
    return {
        "type": "tool_result",
        "tool_use_id": _call_id(result, path),
        "content": _blocks(content, joined(path, "content"), RESULT_MEMBERS, _result_block),
        "is_error": status == "error",
    }


def _call_id(fields: dict[str, Any], path: str) -> str:
    call_id = needed(fields, "toolUseId", path)
    place = joined(path, "toolUseId")
    return a_text(call_id, place, least=1, most=MAX_NAME_CHARS, pattern=CALL_ID_PATTERN)


def _refuse_servers_tool(fields: dict[str, Any], path: str) -> None:
    if "type" in fields:
        not_served(joined(path, "type"), "tools on the server's side")


def _reasoning(value: object, path: str) -> Block:
    name, member = a_union(value, path, ("reasoningText", "redactedContent"))
    place = joined(path, name)
    if name == "redactedContent":
        return {"type": "redacted_thinking", "data": a_text(member, place)}
    thought = a_structure(member, place, ("text", "signature"))
    return {
        "type": "thinking",
        "thinking": a_text(needed(thought, "text", place), joined(place, "text")),
        "signature": a_text(thought.get("signature", ""), joined(place, "signature")),
    }


def _cited_text(value: object, path: str) -> Block:
    """A text of a reply and the passages it rests on, sent back."""
    cited = a_structure(value, path, ("content", "citations"))
    block = text_block("".join(texts(needed(cited, "content", path), joined(path, "content"))))
    place = joined(path, "citations")
    citations = [
        read_citation(each, f"{place}.{index}")
        for index, each in enumerate(a_list(cited.get("citations", []), place))
    ]
    return {**block, "citations": citations} if citations else block
