"""Content blocks and cache marks of a request body (wire.md sections 2.3 and 2.4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from hokku.api.anthropic.fields import (
    a_string,
    an_array,
    an_object,
    joined,
    one_of,
    refuse,
    refuse_extras,
    refuse_tag,
    required,
)
from hokku.protocol.errors import InvalidRequest
from hokku.protocol.messages import Role, TextPart

# What the hosted service knows but this release does not serve, as a sentence about a model id. Refusals of
# this kind come after every check of the body's form.
Refusal = Callable[[str], str]
CacheTtl = Literal["5m", "1h"]

ASSISTANT_ONLY = ("thinking", "redacted_thinking", "tool_use")
USER_ONLY = ("tool_result", "image", "search_result")
NOT_SERVED = ("document", "image", "search_result", "tool_result", "tool_use")
BLOCK_TYPES = sorted({"text", *ASSISTANT_ONLY, *USER_ONLY, *NOT_SERVED})
MAX_CACHE_MARKS = 4


@dataclass(frozen=True, slots=True)
class CacheMark:
    """A `cache_control` in the body."""

    path: str
    ttl: CacheTtl


@dataclass(slots=True)
class Findings:
    """What reading the blocks brought to light besides their text."""

    marks: list[CacheMark] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)

    def not_served(self, path: str, what: str) -> None:
        """Note that this release does not serve something yet."""
        self.refusals.append(lambda _model: f"{path}: this release of Hokku does not serve {what} yet")


def content_block(value: object, role: Role, path: str, findings: Findings) -> TextPart | None:
    """One block of a message: its text, or None for a block the model does not see."""
    block = an_object(value, path)
    kind = required(block, "type", path)
    if kind not in BLOCK_TYPES:
        refuse_tag(path, kind, BLOCK_TYPES)
    if kind in ASSISTANT_ONLY and role == "user":
        refuse(path, f"`{kind}` blocks can only be in `assistant` messages")
    if kind in USER_ONLY and role == "assistant":
        refuse(path, f"`{kind}` blocks can only be in `user` messages")
    tagged = f"{path}.{kind}"
    if kind == "text":
        return text_block(block, tagged, findings, mark_path=path)
    if kind in NOT_SERVED:
        findings.not_served(tagged, f"{kind} blocks")
    else:
        thinking_block(block, tagged)
    return None


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
    ttl = cache_ttl(block.get("cache_control"), joined(path, "cache_control"))
    if ttl:
        if not text:
            refuse(path, "cache_control cannot be set for empty text blocks")
        findings.marks.append(CacheMark(joined(mark_path, "cache_control"), ttl))
    refuse_extras(block, ("type", "text", "citations", "cache_control"), path)
    return TextPart(text)


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
    """The rules over all marks together, which come in prefix order, and the automatic one after them.

    Whether the last block's own mark agrees with the automatic one is for the accounting of cached prompts.
    """
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
