"""Content blocks and cache marks of a request body (wire.md sections 2.3 and 2.4)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from hokku.api.anthropic.fields import (
    a_boolean,
    a_string,
    an_array,
    an_object,
    joined,
    one_of,
    refuse,
    refuse_deep,
    refuse_extras,
    refuse_tag,
    required,
)
from hokku.grammar.schema import MAX_VALUES
from hokku.protocol.errors import InvalidRequest
from hokku.protocol.messages import Part, Role, TextPart, ToolResultPart, ToolUsePart

# What the hosted service knows but this release does not serve, as a sentence about a model id. Refusals of
# this kind come after every check of the body's form.
Refusal = Callable[[str], str]
CacheTtl = Literal["5m", "1h"]

ASSISTANT_ONLY = ("thinking", "redacted_thinking", "tool_use")
USER_ONLY = ("tool_result", "image", "search_result")
NOT_SERVED = ("document", "image", "search_result")
BLOCK_TYPES = sorted({"text", *ASSISTANT_ONLY, *USER_ONLY, *NOT_SERVED})
RESULT_TYPES = ("document", "image", "search_result", "text")  # in the content of a tool_result
ID_PATTERN = "^[a-zA-Z0-9_-]+$"
MAX_REPLAYED_NAME_CHARS = 200
MAX_INPUT_DEPTH = 100
MAX_CACHE_MARKS = 4
LIFETIME_SECS: dict[CacheTtl, int] = {"5m": 300, "1h": 3600}


@dataclass(frozen=True, slots=True)
class CacheMark:
    """A `cache_control` in the body."""

    path: str
    ttl: CacheTtl


@dataclass(slots=True)
class Findings:
    """What reading the blocks brought to light besides their text."""

    serves_structured_output: bool = True
    schema_values_left: int = MAX_VALUES  # that the schemas still to come may have together
    marks: list[CacheMark] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)

    def not_served(self, path: str, what: str) -> None:
        """Note that this release does not serve something yet."""
        self.refusals.append(lambda _model: f"{path}: this release of Hokku does not serve {what} yet")


def content_block(value: object, role: Role, path: str, findings: Findings) -> Part | None:
    """One block of a message, or None for a block the model does not see."""
    block, kind = _tagged_block(value, path, BLOCK_TYPES)
    if kind in ASSISTANT_ONLY and role == "user":
        refuse(path, f"`{kind}` blocks can only be in `assistant` messages")
    if kind in USER_ONLY and role == "assistant":
        refuse(path, f"`{kind}` blocks can only be in `user` messages")
    tagged = f"{path}.{kind}"
    if kind == "text":
        return text_block(block, tagged, findings, mark_path=path)
    if kind == "tool_use":
        return tool_use_block(block, tagged, findings, mark_path=path)
    if kind == "tool_result":
        return tool_result_block(block, tagged, findings, mark_path=path)
    if kind in NOT_SERVED:
        findings.not_served(tagged, f"{kind} blocks")
    else:
        thinking_block(block, tagged)
    return None


def _tagged_block(value: object, path: str, types: Sequence[str]) -> tuple[dict[str, Any], str]:
    block = an_object(value, path)
    kind = required(block, "type", path)
    if kind not in types:
        refuse_tag(path, kind, types)
    return block, kind


def system_block(value: object, path: str, findings: Findings) -> TextPart:
    """One block of the system prompt."""
    if not isinstance(value, dict):
        refuse(path, "Input does not match the expected shape.")
    if required(value, "type", path) != "text":
        refuse(joined(path, "type"), one_of(["text"]))
    return text_block(value, path, findings, mark_path=path)


def text_block(block: dict[str, Any], path: str, findings: Findings, *, mark_path: str) -> TextPart:
    """A text block, possibly empty. `mark_path` is where rules over all marks place its cache mark."""
    text = a_string(required(block, "text", path), joined(path, "text"))
    citations = block.get("citations")
    if citations is not None and an_array(citations, joined(path, "citations")):
        findings.not_served(joined(path, "citations"), "citations")
    cache_secs = _note_mark(block, path, findings, mark_path)
    if cache_secs and not text:
        refuse(path, "cache_control cannot be set for empty text blocks")
    refuse_extras(block, ("type", "text", "citations", "cache_control"), path)
    return TextPart(text, cache_secs)


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
    cache_secs = _note_mark(block, path, findings, mark_path)
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
    cache_secs = max(_note_mark(block, path, findings, mark_path) or 0, *lifetimes, 0) or None
    _refuse_toolset(block, path)
    known = ("type", "tool_use_id", "content", "is_error", "cache_control", "toolset_name")
    refuse_extras(block, known, path)
    return ToolResultPart(call_id, parts, bool(is_error), cache_secs)


def _result_parts(content: object, path: str, findings: Findings) -> tuple[TextPart, ...]:
    if isinstance(content, str):
        return (TextPart(content),) if content else ()
    parts = []
    for index, value in enumerate(an_array(content, path)):
        block, kind = _tagged_block(value, f"{path}.{index}", RESULT_TYPES)
        tagged = f"{path}.{index}.{kind}"
        if kind == "text":
            parts.append(text_block(block, tagged, findings, mark_path=f"{path}.{index}"))
        else:
            findings.not_served(tagged, f"{kind} blocks")
    return tuple(part for part in parts if part.text)


def _call_id(block: dict[str, Any], name: str, path: str) -> str:
    call_id = a_string(required(block, name, path), joined(path, name))
    if not re.fullmatch(ID_PATTERN[1:-1], call_id):
        refuse(joined(path, name), f"String should match pattern '{ID_PATTERN}'")
    return call_id


def _note_mark(block: dict[str, Any], path: str, findings: Findings, mark_path: str) -> int | None:
    """The lifetime that a block's mark asks for."""
    ttl = cache_ttl(block.get("cache_control"), joined(path, "cache_control"))
    if ttl is None:
        return None
    findings.marks.append(CacheMark(joined(mark_path, "cache_control"), ttl))
    return LIFETIME_SECS[ttl]


def _refuse_toolset(block: dict[str, Any], path: str) -> None:
    if block.get("toolset_name") is not None:
        refuse(joined(path, "toolset_name"), "Input should be null: there are no toolsets")


def thinking_block(block: dict[str, Any], path: str) -> None:
    """A thought replayed from another model's turn: checked, and not shown to this one (section 2.3)."""
    names = ("data",) if block["type"] == "redacted_thinking" else ("thinking", "signature")
    for name in names:
        a_string(required(block, name, path), joined(path, name))
    refuse_extras(block, ("type", *names), path)


def cache_ttl(value: object, path: str) -> CacheTtl | None:
    """The time to live of a `cache_control` object, None for null."""
    if value is None:
        return None
    mark = an_object(value, path)
    if required(mark, "type", path) != "ephemeral":
        refuse(joined(path, "type"), one_of(["ephemeral"]))
    ttl = mark.get("ttl", "5m")
    if ttl not in ("5m", "1h"):
        refuse(f"{path}.ephemeral.ttl", one_of(["5m", "1h"]))
    refuse_extras(mark, ("type", "ttl"), f"{path}.ephemeral")
    return "1h" if ttl == "1h" else "5m"


def check_marks(marks: list[CacheMark], automatic: CacheTtl | None) -> None:
    """The rules over all marks together, which come in prefix order, and the automatic one after them."""
    num_marks = len(marks) + (automatic is not None)
    if num_marks > MAX_CACHE_MARKS:
        raise InvalidRequest(
            f"A maximum of {MAX_CACHE_MARKS} blocks with cache_control may be provided. Found {num_marks}."
        )
    all_marks = [*marks, CacheMark("cache_control", automatic)] if automatic else marks
    for earlier, later in pairwise(all_marks):
        if (earlier.ttl, later.ttl) == ("5m", "1h"):
            refuse(
                f"{later.path}.ttl",
                "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block. "
                "Note that blocks are processed in the following order: `tools`, `system`, `messages`.",
            )
