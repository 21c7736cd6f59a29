"""Tools, the choice among them, and the format of the answer (wire.md section 15)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hokku.api.anthropic.fields import (
    a_boolean,
    a_string,
    a_tagged_object,
    an_array,
    an_object,
    joined,
    one_of,
    refuse,
    refuse_extras,
    required,
)
from hokku.api.anthropic.tools import COMBINATORS, MAX_TOOLS, NAME_PATTERN
from hokku.api.config import Compatibility
from hokku.grammar.schema import MAX_VALUES, check_schema, open_objects
from hokku.protocol.messages import ChoiceKind, Tool, ToolChoice

FORMAT_TYPES = ("text", "json_object", "json_schema")
SCHEMA_PLACE = "response_format.json_schema.schema"
_KINDS: dict[str, ChoiceKind] = {"none": "none", "auto": "auto", "required": "any"}


class ToolsReader:
    """What a body says of tools, in their newer form or the older one of `functions`."""

    def __init__(self, compatibility: Compatibility) -> None:
        self._is_hosted = compatibility is Compatibility.HOSTED
        self._schema_values_left = MAX_VALUES

    def read(self, body: dict[str, Any]) -> tuple[tuple[Tool, ...], ToolChoice]:
        """The tools, and which of them a reply calls."""
        is_older = uses_functions(body)
        if is_older and (body.get("tools") is not None or body.get("tool_choice") is not None):
            refuse("functions", "cannot be combined with tools")
        field = "functions" if is_older else "tools"
        tools = self._tools(body.get(field), field)
        choice = _choice(body, "function_call" if is_older else "tool_choice", {tool.name for tool in tools})
        if body.get("parallel_tool_calls") is not None:
            is_parallel = a_boolean(body["parallel_tool_calls"], "parallel_tool_calls")
        else:
            is_parallel = True
        # A reply in the older form has room for a single call.
        return tools, ToolChoice(choice.kind, choice.name, is_parallel and not is_older)

    def read_format(self, value: object) -> Mapping[str, Any] | None:
        """The schema that the reply's text is to be JSON of; None where it may be any text."""
        if value is None:
            return None
        answer, kind = a_tagged_object(value, "response_format", FORMAT_TYPES)
        if kind == "json_schema":
            refuse_extras(answer, ("type", "json_schema"), "response_format")
            return self._answer_schema(required(answer, "json_schema", "response_format"))
        refuse_extras(answer, ("type",), "response_format")
        return {"type": "object"} if kind == "json_object" else None

    def _tools(self, value: object, field: str) -> tuple[Tool, ...]:
        if value is None:
            return ()
        array = an_array(value, field)
        if len(array) > MAX_TOOLS:
            refuse(field, f"at most {MAX_TOOLS} tools are allowed")
        tools = tuple(self._tool(each, f"{field}[{index}]", field) for index, each in enumerate(array))
        if len({tool.name for tool in tools}) < len(tools):
            refuse(field, "names of tools must be unique")
        return tools

    def _tool(self, value: object, path: str, field: str) -> Tool:
        if field == "functions":
            return self._function(value, path)
        tool, _ = a_tagged_object(value, path, ("function",))
        refuse_extras(tool, ("type", "function"), path)
        return self._function(required(tool, "function", path), joined(path, "function"))

    def _function(self, value: object, path: str) -> Tool:
        function = an_object(value, path)
        name = a_string(required(function, "name", path), joined(path, "name"))
        if not re.fullmatch(NAME_PATTERN[1:-1], name):
            refuse(joined(path, "name"), f"String should match pattern '{NAME_PATTERN}'")
        description = function.get("description")
        text = "" if description is None else a_string(description, joined(path, "description"))
        strict = function.get("strict")
        is_strict = strict is not None and a_boolean(strict, joined(path, "strict")) and not self._is_hosted
        schema = self._parameters(function.get("parameters"), joined(path, "parameters"))
        if is_strict:
            _refuse_open_objects(schema, joined(path, "parameters"))
        refuse_extras(function, ("name", "description", "parameters", "strict"), path)
        return Tool(name, text, schema, is_strict)

    def _parameters(self, value: object, path: str) -> Mapping[str, Any]:
        """The schema of a call's arguments; a function without one takes none."""
        if value is None or value == {}:
            return {"type": "object", "properties": {}, "additionalProperties": False}
        schema = an_object(value, path)
        if required(schema, "type", path) != "object":
            refuse(joined(path, "type"), one_of(["object"]))
        if any(combinator in schema for combinator in COMBINATORS):
            refuse(path, "oneOf, allOf and anyOf are not supported at the top level")
        self._schema_values_left -= check_schema(schema, path, self._schema_values_left)
        return schema

    def _answer_schema(self, value: object) -> Mapping[str, Any]:
        place = "response_format.json_schema"
        said = an_object(value, place)
        # Name and description are for people: what the model is shown is the schema, with its own descriptions.
        for name in ("name", "description"):
            if said.get(name) is not None:
                a_string(said[name], joined(place, name))
        schema = an_object(required(said, "schema", place), SCHEMA_PLACE)
        is_strict = said.get("strict") is not None and a_boolean(said["strict"], joined(place, "strict"))
        refuse_extras(said, ("name", "description", "schema", "strict"), place)
        self._schema_values_left -= check_schema(schema, SCHEMA_PLACE, self._schema_values_left)
        if is_strict:
            _refuse_open_objects(schema, SCHEMA_PLACE)
        return schema


def uses_functions(body: dict[str, Any]) -> bool:
    """Whether a body speaks of tools in the form that was before `tools`, and so does its reply."""
    return body.get("functions") is not None or body.get("function_call") is not None


def _choice(body: dict[str, Any], field: str, names: set[str]) -> ToolChoice:
    value = body.get(field)
    if value is None:
        return ToolChoice()
    known = ("none", "auto") if field == "function_call" else tuple(_KINDS)
    if isinstance(value, str):
        if value not in known:
            refuse(field, one_of(known))
        if value == "required" and not names:
            refuse(field, "'required' may only be sent with tools")
        return ToolChoice(_KINDS[value])
    name = _named(an_object(value, field), field)
    if name not in names:
        refuse(field, f"there is no tool named '{name}'")
    return ToolChoice("tool", name)


def _named(choice: dict[str, Any], field: str) -> str:
    """The one function that is to be called."""
    place = field
    if field == "tool_choice":
        a_tagged_object(choice, field, ("function",))
        refuse_extras(choice, ("type", "function"), field)
        place = "tool_choice.function"
        choice = an_object(required(choice, "function", field), place)
    refuse_extras(choice, ("name",), place)
    return a_string(required(choice, "name", place), joined(place, "name"))


def _refuse_open_objects(schema: Mapping[str, Any], place: str) -> None:
    for at in open_objects(schema, place):
        refuse(at, "with strict, 'additionalProperties' of every object must be false")
