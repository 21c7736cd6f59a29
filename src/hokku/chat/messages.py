"""A conversation as the list of messages that chat templates read, tools included (Hugging Face, "Tool use")."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hokku.chat.formats.base import ToolFormat
from hokku.chat.formats.plain import result_text, tool_object
from hokku.chat.typed import BLOCK_MARKS, PICTURE_MARKS, TypedAlphabet
from hokku.protocol.messages import Conversation, Part, TextPart, Tool, ToolResultPart, ToolUsePart, Turn

_BLOCK_BREAK = "\n\n"  # between the blocks of one turn, which clients mean as separate paragraphs
Message = dict[str, Any]
_PICTURE_BETWEEN_BLOCKS = re.compile(
    f"(?:{_BLOCK_BREAK})?(?P<picture>[{'-'.join(PICTURE_MARKS)}])(?P<marks>[{'-'.join(BLOCK_MARKS)}]*)(?:{_BLOCK_BREAK})?"
)
_ONLY_MARKS = re.compile(f"[{'-'.join(BLOCK_MARKS)}]*")
# Names and values that templates ask for; everything else is people's text.
_OWN_KEYS = {
    *("arguments", "content", "description", "enum", "function", "id", "items", "name", "parameters"),
    *("image", "properties", "required", "role", "text", "tool_call_id", "tool_calls", "type"),
}
_OWN_VALUES = {
    "role": frozenset({"system", "user", "assistant", "tool"}),
    "type": frozenset(
        {
            *(
                "array",
                "boolean",
                "function",
                "image",
                "integer",
                "null",
                "number",
                "object",
                "string",
                "text",
            ),
        }
    ),
}


def text_of(parts: Sequence[Part]) -> str:
    """The prose of a turn."""
    first, *others = [part for part in parts if isinstance(part, TextPart)] or [TextPart("")]
    return first.text + "".join(part.text if part.continues else _BLOCK_BREAK + part.text for part in others)


def template_messages(conversation: Conversation, tool_format: ToolFormat) -> list[Message]:
    """System prompt, turns, calls and results, in order."""
    messages: list[Message] = []
    if conversation.system:
        messages.append({"role": "system", "content": text_of(conversation.system)})
    answered: set[str] = set()  # results that already stand behind their call
    for place, turn in enumerate(conversation.turns):
        if turn.role == "user":
            messages += _user_messages(turn, tool_format, answered)
        elif tool_format.one_call_a_message and len(_calls(turn)) > 1:
            messages += _calls_one_by_one(turn, conversation.turns[place + 1], tool_format)
            answered |= {call.id for call in _calls(turn)}
        else:
            messages.append(_assistant_message(turn, _calls(turn), tool_format))
    return messages


def as_items(message: Message) -> Message:
    """A message as templates of models that see take it: its content a list of texts and images, in which images need
    no paragraphs of their own."""
    items: list[Message] = []
    text = ""
    start = 0
    for match in _PICTURE_BETWEEN_BLOCKS.finditer(message["content"]):
        text += message["content"][start : match.start()]
        # What marks the end of a block alone is no text: templates look at what comes first.
        if not _ONLY_MARKS.fullmatch(text):
            items.append({"type": "text", "text": text})
        items.append({"type": "image", "image": match["picture"]})
        text = match["marks"]
        start = match.end()
    text += message["content"][start:]
    if text or not items:
        items.append({"type": "text", "text": text})
    return {**message, "content": items}


def template_tools(tools: Sequence[Tool]) -> list[Message] | None:
    """Tools as templates take them; None where there are none, which templates ask for."""
    return [{"type": "function", "function": tool_object(tool)} for tool in tools] or None


def typed_value(value: Any, alphabet: TypedAlphabet, key: str = "") -> Any:
    """A JSON value with people's text in it typed: all but the names and values of the templates' own dialect."""
    if isinstance(value, str):
        return value if value in _OWN_VALUES.get(key, ()) else alphabet.typed(value)
    if isinstance(value, Mapping):
        return {
            name if name in _OWN_KEYS else alphabet.typed(name): typed_value(inner, alphabet, name)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [typed_value(inner, alphabet) for inner in value]
    return value


def num_characters(value: Any) -> int:
    """Characters of text in a JSON value."""
    if isinstance(value, Mapping):
        return sum(len(name) + num_characters(inner) for name, inner in value.items())
    if isinstance(value, list | tuple):
        return sum(map(num_characters, value)) + len(value)
    return len(value) if isinstance(value, str) else 8


def _calls(turn: Turn) -> tuple[ToolUsePart, ...]:
    return tuple(part for part in turn.parts if isinstance(part, ToolUsePart))


def _assistant_message(turn: Turn, calls: Sequence[ToolUsePart], tool_format: ToolFormat) -> Message:
    message: Message = {"role": "assistant", "content": text_of(turn.parts)}
    if calls:
        message["tool_calls"] = [
            {
                "id": _call_id(call.id, tool_format),
                "type": "function",
                "function": {"name": call.name, "arguments": dict(call.input)},
            }
            for call in calls
        ]
    return message


def _calls_one_by_one(turn: Turn, next_turn: Turn, tool_format: ToolFormat) -> Iterator[Message]:
    results = {part.tool_use_id: part for part in next_turn.parts if isinstance(part, ToolResultPart)}
    for index, call in enumerate(_calls(turn)):
        said = turn if index == 0 else Turn("assistant", ())
        yield _assistant_message(said, [call], tool_format)
        yield _result_message(results[call.id], tool_format)


def _user_messages(turn: Turn, tool_format: ToolFormat, answered: set[str]) -> list[Message]:
    results = [part for part in turn.parts if isinstance(part, ToolResultPart)]
    messages = [_result_message(part, tool_format) for part in results if part.tool_use_id not in answered]
    text = text_of(turn.parts)
    if text and messages and tool_format.text_goes_with_results:
        messages[-1]["content"] += _BLOCK_BREAK + text
    elif text or not results:
        messages.append({"role": "user", "content": text})
    return messages


def _result_message(result: ToolResultPart, tool_format: ToolFormat) -> Message:
    call_id = _call_id(result.tool_use_id, tool_format)
    return {"role": "tool", "tool_call_id": call_id, "content": result_text(result)}


def _call_id(call_id: str, tool_format: ToolFormat) -> str:
    num_chars = tool_format.call_id_chars
    return call_id if num_chars is None else hashlib.sha256(call_id.encode()).hexdigest()[:num_chars]
