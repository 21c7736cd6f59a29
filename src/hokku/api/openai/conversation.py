"""From the `messages` array to a system prompt and turns (wire.md section 15, "Message").

What the operator says is hoisted to the front, wherever it stands, and joined. Results of calls are messages of their
own here; they have to come right behind the message that made the calls, before anything else is said.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from hokku.api.anthropic.blocks import MAX_INPUT_DEPTH, MAX_REPLAYED_NAME_CHARS
from hokku.api.anthropic.conversation import MAX_MESSAGES
from hokku.api.anthropic.fields import (
    a_string,
    an_array,
    an_object,
    joined,
    one_of,
    refuse,
    refuse_deep,
    refuse_extras,
    required,
)
from hokku.api.body import has_lone_surrogate, refuse_constant
from hokku.api.config import Compatibility
from hokku.api.openai.content import read_parts, read_texts, refuse_blank
from hokku.protocol.messages import Part, Role, TextPart, ToolResultPart, ToolUsePart, Turn

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
# What replies of the official client have besides, when they are sent back as they came; the last is litellm's, for
# members of a reply that it has no name for.
_REPLAYED = ("refusal", "audio", "annotations", "parsed", "provider_specific_fields")
_KEYS = {
    "system": ("content", "name"),
    "developer": ("content", "name"),
    "user": ("content", "name"),
    "assistant": ("content", "name", "tool_calls", "function_call", *_REPLAYED),
    "tool": ("content", "tool_call_id", "name"),
    "function": ("content", "name"),
}


@dataclass(frozen=True, slots=True)
class _Item:
    """One message of a user's or the assistant's side."""

    role: Role
    parts: tuple[Part, ...]
    path: str


def read_messages(
    value: object, compatibility: Compatibility
) -> tuple[tuple[TextPart, ...], tuple[Turn, ...]]:
    """The system prompt and alternating turns, beginning with the user's. Raises `InvalidRequest`."""
    array = an_array(value, "messages")
    if len(array) > MAX_MESSAGES:
        refuse("messages", f"at most {MAX_MESSAGES} messages are allowed")
    reader = _Reader(compatibility)
    for index, each in enumerate(array):
        reader.read(each, f"messages[{index}]")
    return reader.finish()


class _Reader:
    """Reads messages in order."""

    def __init__(self, compatibility: Compatibility) -> None:
        self._compatibility = compatibility
        self._system: list[str] = []
        self._items: list[_Item] = []
        self._call_ids: set[str] = set()  # of all calls so far
        self._awaited: dict[str, str] = {}  # calls without a result yet: their names by their ids
        self._called_at = ""  # the message that made them

    def read(self, value: object, path: str) -> None:
        """The next message."""
        message = an_object(value, path)
        role = required(message, "role", path)
        if role not in ROLES:
            refuse(joined(path, "role"), one_of(ROLES))
        refuse_extras(message, ("role", *_KEYS[role]), path)
        self._check_name(message, role, path)
        match role:
            case "system" | "developer":
                texts = read_texts(required(message, "content", path), joined(path, "content"))
                self._system += [part.text for part in texts]
            case "user":
                content = required(message, "content", path)
                parts = read_parts(content, joined(path, "content"), self._compatibility)
                self._say(_Item("user", parts, path))
            case "assistant":
                self._say(_Item("assistant", self._assistant_parts(message, path), path))
                self._await_results(path)
            case _:
                self._items.append(_Item("user", (self._result(message, role, path),), path))

    def finish(self) -> tuple[tuple[TextPart, ...], tuple[Turn, ...]]:
        """No more messages."""
        self._refuse_unanswered()
        if not self._items:
            refuse("messages", "at least one message of a user is required")
        if self._items[0].role != "user":
            refuse(joined(self._items[0].path, "role"), "the conversation must begin with a user's message")
        system = "\n".join(self._system)
        return (TextPart(system),) if system.strip() else (), tuple(self._turns())

    def _turns(self) -> Iterator[Turn]:
        """Neighbours of one side as one turn; a final one of the assistant's, whose words the reply continues, only if
        it has any."""
        for role, run in groupby(self._items, key=lambda item: item.role):
            items = list(run)
            parts = tuple(part for item in items for part in item.parts)
            is_last = items[-1] is self._items[-1]
            if not (is_last and role == "assistant"):
                yield Turn(role, parts)
            elif parts:
                _refuse_open_end(parts[-1], items[-1].path)
                yield Turn(role, parts)

    def _check_name(self, message: dict[str, Any], role: str, path: str) -> None:
        """A participant's name; the vendor's layer does not look at it. On a result it is the tool's."""
        name = message.get("name")
        is_tools = role in ("tool", "function")
        if is_tools or name is None or self._compatibility is Compatibility.HOSTED:
            return
        a_string(name, joined(path, "name"))
        refuse(
            joined(path, "name"),
            "this server cannot tell the model who speaks: write the name into the content",
        )

    def _say(self, item: _Item) -> None:
        self._refuse_unanswered()
        self._items.append(item)

    def _assistant_parts(self, message: dict[str, Any], path: str) -> tuple[Part, ...]:
        calls = self._calls(message, path)
        content = message.get("content")
        if content is None and not calls and message.get("refusal") is None:
            required(message, "content", path)
            refuse(joined(path, "content"), "may only be null beside tool_calls")
        said = () if content is None else read_texts(content, joined(path, "content"), ("text", "refusal"))
        refuse_blank(said, joined(path, "content"))
        return (*said, *self._replayed(message, path), *calls)

    def _replayed(self, message: dict[str, Any], path: str) -> tuple[TextPart, ...]:
        """What else a reply that is sent back may have: the words in which the model has refused, and `parsed`, which
        repeats the content. The vendor's layer does not look at it."""
        if self._compatibility is Compatibility.HOSTED:
            return ()
        if message.get("audio") is not None:
            refuse(joined(path, "audio"), "this model does not hear")
        if message.get("annotations"):
            refuse(joined(path, "annotations"), "this model cites in replies of its own only")
        _refuse_said_in(message.get("provider_specific_fields"), joined(path, "provider_specific_fields"))
        refusal = message.get("refusal")
        said = () if refusal is None else read_texts(a_string(refusal, joined(path, "refusal")), path)
        refuse_blank(said, joined(path, "refusal"))
        return said

    def _calls(self, message: dict[str, Any], path: str) -> list[ToolUsePart]:
        calls: list[ToolUsePart] = []
        if message.get("tool_calls") is not None:
            array = an_array(message["tool_calls"], joined(path, "tool_calls"))
            calls = [self._tool_call(each, f"{path}.tool_calls[{index}]") for index, each in enumerate(array)]
        if message.get("function_call") is not None:
            place = joined(path, "function_call")
            if calls:
                refuse(place, "cannot be combined with tool_calls")
            # Calls of this older form have no ids; the number of what was said before is one.
            calls = [self._call(f"function_call_{len(self._items)}", message["function_call"], place)]
        return calls

    def _tool_call(self, value: object, path: str) -> ToolUsePart:
        call = an_object(value, path)
        kind = call.get("type", "function")
        if kind != "function":
            refuse(joined(path, "type"), one_of(["function"]))
        # A call that was put together out of a stream keeps the place it had in it.
        refuse_extras(call, ("id", "type", "function", "index"), path)
        call_id = a_string(required(call, "id", path), joined(path, "id"))
        return self._call(call_id, required(call, "function", path), joined(path, "function"))

    def _call(self, call_id: str, value: object, path: str) -> ToolUsePart:
        function = an_object(value, path)
        name = a_string(required(function, "name", path), joined(path, "name"))
        if not 0 < len(name) <= MAX_REPLAYED_NAME_CHARS:
            refuse(joined(path, "name"), f"String should have 1 to {MAX_REPLAYED_NAME_CHARS} characters")
        place = joined(path, "arguments")
        arguments = _arguments(a_string(required(function, "arguments", path), place), place)
        refuse_extras(function, ("name", "arguments", "parsed_arguments"), path)
        if call_id in self._call_ids:
            refuse(path, "ids of tool calls must be unique")
        self._call_ids.add(call_id)
        return ToolUsePart(call_id, name, arguments)

    def _await_results(self, path: str) -> None:
        calls = (part for part in self._items[-1].parts if isinstance(part, ToolUsePart))
        self._awaited = {call.id: call.name for call in calls}
        self._called_at = path

    def _result(self, message: dict[str, Any], role: str, path: str) -> ToolResultPart:
        content = message.get("content")
        parts = () if content is None else read_texts(content, joined(path, "content"))
        if role == "tool":
            place = joined(path, "tool_call_id")
            call_id = a_string(required(message, "tool_call_id", path), place)
        else:
            place = joined(path, "name")
            name = a_string(required(message, "name", path), place)
            call_id = next((awaited for awaited, called in self._awaited.items() if called == name), "")
        if call_id not in self._awaited:
            refuse(place, "there is no call right before this message that it could be the result of")
        called = self._awaited.pop(call_id)
        if message.get("name") not in (None, called) and self._compatibility is not Compatibility.HOSTED:
            refuse(joined(path, "name"), f"the call was one of '{called}'")
        return ToolResultPart(call_id, parts)

    def _refuse_unanswered(self) -> None:
        if self._awaited:
            missing = ", ".join(self._awaited)
            refuse(
                self._called_at,
                "a message with tool_calls must be followed by a message with role 'tool' for each of them. Without "
                f"result: {missing}",
            )


def _arguments(text: str, path: str) -> dict[str, Any]:
    """The input of a call that is sent back; "" is what some models write for none."""
    try:
        value = json.loads(text, parse_constant=refuse_constant) if text.strip() else {}
    except (ValueError, RecursionError):
        refuse(path, "Input should be a JSON object, as a string")
    if not isinstance(value, dict) or has_lone_surrogate(value, text):
        refuse(path, "Input should be a JSON object, as a string")
    refuse_deep(value, MAX_INPUT_DEPTH, path)
    return value


def _refuse_said_in(fields: object, path: str) -> None:
    """Of what litellm sends back beside a reply: it says nothing as long as every member is null."""
    for name, value in an_object(fields, path).items() if fields is not None else ():
        if value is not None:
            refuse(joined(path, name), "Extra inputs are not permitted")


def _refuse_open_end(part: Part, path: str) -> None:
    if isinstance(part, TextPart) and part.text != part.text.rstrip():
        refuse(path, "final assistant content cannot end with trailing whitespace")
