"""From the `messages` array to turns: items in, merged turns out, and the rules over their order (2.2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import Any, Literal

from hokku.api.anthropic.blocks import content_block
from hokku.api.anthropic.fields import (
    a_string,
    an_array,
    an_object,
    joined,
    refuse,
    refuse_extras,
    required,
)
from hokku.api.anthropic.findings import LIFETIME_SECS, CacheTtl, Findings
from hokku.api.anthropic.pairing import Placed, check_pairs
from hokku.api.anthropic.texts import system_block
from hokku.protocol.messages import Part, Role, TextPart, ToolChoice, Turn

MAX_MESSAGES = 100_000
# Agent CLIs put a line with a per-request number before the system prompt; shown to the model it would change
# every prompt's first tokens and defeat the prefix cache (wire.md section 19.3).
BILLING_LINE = "x-anthropic-billing-header:"
# How the model is told what the operator says between two turns: most chat templates know a system prompt at the top
# only, and moving it there would change every prompt's first tokens (wire.md sections 2.2 and 19.2).
SYSTEM_TURN = "<system>\n{}\n</system>"


@dataclass(frozen=True, slots=True)
class Item:
    """One element of `messages`, before merging."""

    index: int  # position in the client's array
    role: Role  # a system turn's is the user's, whose turn it becomes part of
    parts: tuple[Placed, ...]  # empty texts included
    is_empty: bool  # "" or []


def read_items(value: object, findings: Findings) -> list[Item]:
    """The `messages` array, each item checked by itself."""
    array = an_array(value, "messages")
    if not array:
        refuse("messages", "at least one message is required")
    if len(array) > MAX_MESSAGES:
        refuse("messages", f"at most {MAX_MESSAGES} messages are allowed")
    return [_item(index, value, findings) for index, value in enumerate(array)]


def read_system(value: object, findings: Findings) -> tuple[TextPart, ...]:
    """The system prompt; an empty string is the same as none."""
    if isinstance(value, str):
        parts = [TextPart(value)] if value else []
    else:
        blocks = an_array(value, "system")
        parts = [system_block(block, f"system.{index}", findings) for index, block in enumerate(blocks)]
    for part in parts:
        _refuse_blank(part, "system")
    visible = map(_without_billing_line, parts)
    return tuple(part for part in visible if part.text.strip())


def merge_turns(items: list[Item]) -> tuple[Turn, ...]:
    """Alternating turns, beginning with the user's; a final assistant turn is a prefill."""
    if items[0].role != "user":
        refuse("messages", 'first message must use the "user" role')
    runs = [list(run) for _, run in groupby(items, key=lambda item: item.role)]
    for run in runs:
        _refuse_silent_user(run)
    _refuse_blank_texts(runs)
    check_pairs([[placed for item in run for placed in item.parts] for run in runs])
    turns = [Turn(run[0].role, tuple(_visible_parts(run))) for run in runs]
    return tuple(_without_empty_prefill(turns))


def needs_automatic_mark(turns: tuple[Turn, ...], ttl: CacheTtl | None) -> bool:
    """Whether the top-level `cache_control` has a block to mark: the last one, unless it is marked the same already
    (6.2)."""
    parts = turns[-1].parts
    if ttl is None or not parts:
        return False
    if parts[-1].cache_secs not in (None, LIFETIME_SECS[ttl]):
        refuse("cache_control.ttl", "the last block has a cache_control with another ttl")
    return parts[-1].cache_secs is None


def with_automatic_mark(turns: tuple[Turn, ...], ttl: CacheTtl) -> tuple[Turn, ...]:
    """The turns with a mark on the last block."""
    *others, last = turns
    parts = (*last.parts[:-1], replace(last.parts[-1], cache_secs=LIFETIME_SECS[ttl]))
    return (*others, replace(last, parts=parts))


def refuse_prefill(
    turns: tuple[Turn, ...], tool_choice: ToolChoice, output_schema: Mapping[str, Any] | None
) -> None:
    """A reply whose first words are given can be neither a forced call nor JSON of a schema (2.2)."""
    if turns[-1].role == "user":
        return
    if tool_choice.is_forced:
        refuse("tool_choice", f"'{tool_choice.kind}' cannot be combined with a final assistant message")
    if output_schema is not None:
        refuse("output_config.format", "cannot be combined with a final assistant message")


def _item(index: int, value: object, findings: Findings) -> Item:
    path = f"messages.{index}"
    item = an_object(value, path)
    role = _role(item, path, findings)
    content = required(item, "content", path)
    content_path = joined(path, "content")
    if role == "system":
        parts = _system_turn(index, content, content_path, findings)
    elif isinstance(content, str):
        parts = [Placed(TextPart(content), index, 0)] if content else []
    else:
        parts = [
            Placed(part, index, position)
            for position, block in enumerate(an_array(content, content_path))
            if (part := content_block(block, role, f"{content_path}.{position}", findings)) is not None
        ]
        if role == "assistant":
            parts = _without_breaks(parts, [bool(block.get("citations")) for block in content])
    refuse_extras(item, ("role", "content"), path)
    side: Role = "assistant" if role == "assistant" else "user"
    return Item(index, side, tuple(parts), is_empty=not content)


def _without_breaks(parts: list[Placed], are_cited: list[bool]) -> list[Placed]:
    """The parts, those of a text that citations have cut into blocks put together again: the model reads what it wrote,
    and finds its keys and values in the prefix cache.
    """
    for place, (before, part) in enumerate(pairwise(parts), 1):
        are_texts = isinstance(before.part, TextPart) and before.position + 1 == part.position
        if (
            isinstance(part.part, TextPart)
            and are_texts
            and any(are_cited[before.position : part.position + 1])
        ):
            parts[place] = replace(part, part=replace(part.part, continues=True))
    return parts


def _role(item: dict[str, object], path: str, findings: Findings) -> Role | Literal["system"]:
    role = a_string(required(item, "role", path), joined(path, "role"))
    match role:
        case "user" | "assistant":
            return role
        case "system" if findings.serves_system_turns:
            return role
        case "system":
            sentence = (
                'Unexpected role "system". The Messages API accepts a top-level `system` parameter, '
                'not "system" as an input message role.'
            )
        case _:
            sentence = f'Unexpected role "{role}". Allowed roles are "user" or "assistant"'
    return refuse("messages", sentence)


def _system_turn(index: int, content: object, path: str, findings: Findings) -> list[Placed]:
    """What the operator says between two turns, as text of the user's turn it stands in."""
    if index == 0:
        refuse("messages.0", "use the top-level 'system' parameter for the initial system prompt")
    if isinstance(content, str):
        parts = [TextPart(content)]
    else:
        blocks = an_array(content, path)
        parts = [system_block(block, f"{path}.{place}", findings) for place, block in enumerate(blocks)]
    for part in parts or [TextPart("")]:
        _refuse_blank(part, "messages")
    shown = [replace(part, text=SYSTEM_TURN.format(part.text)) for part in parts]
    return [Placed(part, index, place) for place, part in enumerate(shown)]


def _refuse_silent_user(run: list[Item]) -> None:
    if run[0].role == "user" and all(item.is_empty for item in run):
        refuse(f"messages.{run[0].index}", "user messages must have non-empty content")


def _refuse_blank_texts(runs: list[list[Item]]) -> None:
    """Empty blocks matter in the last user turn only, blank ones anywhere but in a prefill (2.10)."""
    last_user_run = runs[-1] if runs[-1][0].role == "user" else runs[-2]
    for run in runs:
        is_prefill = run is runs[-1] and run[0].role == "assistant"
        for part in _texts(run):
            if (part.text and not is_prefill) or run is last_user_run:
                _refuse_blank(part, "messages")


def _without_billing_line(part: TextPart) -> TextPart:
    is_billing = part.text.startswith(BILLING_LINE)
    return replace(part, text=part.text.partition("\n")[2]) if is_billing else part


def _refuse_blank(part: TextPart, path: str) -> None:
    if not part.text:
        refuse(path, "text content blocks must be non-empty")
    if not part.text.strip():
        refuse(path, "text content blocks must contain non-whitespace text")


def _texts(run: list[Item]) -> Iterator[TextPart]:
    return (part for part in _parts(run) if isinstance(part, TextPart))


def _parts(run: list[Item]) -> Iterator[Part]:
    return (placed.part for item in run for placed in item.parts)


def _visible_parts(run: list[Item]) -> Iterator[Part]:
    return (part for part in _parts(run) if not isinstance(part, TextPart) or part.text)


def _without_empty_prefill(turns: list[Turn]) -> list[Turn]:
    last = turns[-1]
    if last.role == "user":
        return turns
    if not last.parts:
        return turns[:-1]
    end = last.parts[-1]
    if isinstance(end, TextPart) and end.text != end.text.rstrip():
        refuse("messages", "final assistant content cannot end with trailing whitespace")
    return turns
